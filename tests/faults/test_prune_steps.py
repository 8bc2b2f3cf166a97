"""A prune that drops chains, makes fulls bare and minds a hold, broken at one step after the other.

After each: what is listed restores byte by byte as before, recovery leaves nothing
behind, and the next prune ends where an unbroken one ends.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from backupd import steps
from backupd.archive import names
from backupd.archive.verify import Level, verify_database
from backupd.decide.restore_path import RestoreWish
from backupd.errors import BackupdError
from backupd.model.records import BackupType
from backupd.runs.backup import run_backup
from backupd.runs.listing import list_backups
from backupd.runs.prune import plan_prune, run_prune
from backupd.runs.recover import run_recover
from backupd.runs.restore import run_restore
from backupd.runs.restore_plan import plan_restore
from tests.dying import dies_at
from tests.faults.test_every_step import next_run_works, nothing_is_left
from tests.runs.world import World

STEPS_MAX = 400
SLICES = 4  # each test takes every fourth step, so that none takes long
DAY_SECONDS = 86400.0
POLICY = {"keep_fulls_min": 1, "keep_monthly_fulls": 12}


def taken(world: World, kind: BackupType, *, days_later: float = 1) -> str:
    world.clock.sleep(days_later * DAY_SECONDS)
    world.writer.commit(f"at {world.clock.now()}")
    outcome = run_backup(world.context(), kind)
    assert outcome.record is not None
    assert outcome.record.type is kind
    return outcome.record.id


def history(world: World) -> None:
    """Two fulls of one month, one of the next, one of today, each with its increments; one increment is held."""
    world.policy["retention"] = POLICY
    for days_later in (1, 5, 33, 33):
        taken(world, BackupType.FULL, days_later=days_later)
        held = taken(world, BackupType.INCREMENTAL)
        taken(world, BackupType.INCREMENTAL)
        world.writer.commit("and on")
        if days_later == 5:
            world.context().archive().hold(held, reason="a test", by="a test")


def again(base: World, root: Path) -> World:
    """The same world once more, in a place of its own."""
    shutil.copytree(base.root, root)
    world = World(root, policy=dict(base.policy))
    world.clock.at = base.clock.at
    return world


def contents(world: World) -> dict[str, bytes]:
    """What each listed backup restores to."""
    found = {}
    for backup in world.context().archive().list().backups:
        context, target = world.context(), world.root / "each"
        run_restore(context, plan_restore(context, RestoreWish.of_backup(backup.record.id), str(target)))
        found[backup.record.id] = (target / "app.db").read_bytes()
        shutil.rmtree(target)
    return found


def log_objects(world: World) -> list[str]:
    archive = world.context().archive()
    return [each.name for each in archive.store.list(names.logs_prefix(archive.dbid))]


def test_what_an_unbroken_prune_does(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.writer.commit("zero")
    history(world)
    before, logs = contents(world), log_objects(world)
    plan = plan_prune(world.context()).retention
    types = [gone.record.type.value for gone in plan.drop]
    assert sorted(types) == ["full", *["incremental"] * 5]  # of the second chain only its last
    assert len(plan.spare) == 3, "the second, the third and the last full begin anew"
    outcome = run_prune(world.context(), yes=True)
    assert list(outcome.deleted) == [gone.id for gone in plan.drop]
    assert set(logs) - set(log_objects(world)) == set(plan.drop_logs)
    assert outcome.removed_logs == len(plan.drop_logs)
    after = contents(world)
    assert after == {backup_id: before[backup_id] for backup_id in after}
    assert set(before) - set(after) == set(outcome.deleted)
    assert verify_database(world.context().archive(), Level.DATA).sound
    again_planned = plan_prune(world.context()).retention
    assert (again_planned.drop, again_planned.drop_logs, again_planned.spare) == ((), (), {})
    assert run_prune(world.context()).removed_logs == 0
    next_run_works(world, "after a prune")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(1, SLICES + 1))
@pytest.mark.parametrize("action", ["fail", "die"])
def test_breaking_a_prune_at_every_step(action: str, first: int, tmp_path: Path) -> None:
    world = World(tmp_path / "base")
    world.writer.commit("zero")
    history(world)
    base, before = world, contents(world)
    unbroken = again(base, tmp_path / "unbroken")
    run_prune(unbroken.context(), yes=True)
    expected = set(contents(unbroken)), log_objects(unbroken)
    for number in range(first, STEPS_MAX, SLICES):
        world = again(base, tmp_path / f"{action}-{number}")
        broken = broken_at(world, action, number)
        when = f"{action} at step {number}"
        world.clock.sleep(60)
        run_recover(world.context())
        nothing_is_left(world, when)
        assert run_recover(world.context()) == (), when
        listed = contents(world)
        assert listed == {backup_id: before[backup_id] for backup_id in listed}, when
        assert expected[0] <= set(listed), when
        assert not verify_database(world.context().archive(), Level.DATA).findings, when
        run_prune(world.context(), yes=True)
        left = {row["id"] for row in list_backups(world.context())}
        assert (left, log_objects(world)) == expected, when
        assert not verify_database(world.context().archive(), Level.DATA).findings, when
        next_run_works(world, when)
        shutil.rmtree(world.root)
        if not broken:
            assert number > 40, "hardly any step was counted"
            return
    pytest.fail("the prune never passed")


def broken_at(world: World, action: str, number: int) -> bool:
    """Whether the prune was broken; in a child where it dies."""
    if action == "fail":
        steps.arm("fail", number)
        with suppress(BackupdError):
            run_prune(world.context(), yes=True)
        return steps.disarm() >= number
    return dies_at(number, lambda: run_prune(world.context(), yes=True))
