"""A prune that drops chains, makes fulls bare and minds a hold, broken at one step after the other.

After each: what is listed restores byte by byte as before, recovery leaves nothing
behind, and the next prune ends where an unbroken one ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from backupd import steps
from backupd.archive import names
from backupd.archive.verify import Level, verify_database
from backupd.errors import BackupdError
from backupd.model.records import BackupType
from backupd.runs.backup import run_backup
from backupd.runs.listing import list_backups
from backupd.runs.prune import plan_prune, run_prune
from backupd.runs.recover import run_recover
from tests.dying import dies_at
from tests.faults.promises import (
    archive_is_clean,
    archive_is_whole,
    before,
    contents,
    next_run_works,
    nothing_is_left,
)
from tests.faults.tries import Tries
from tests.runs.world import World
from tests.s3_buckets import Bucket
from tests.s3_servers import S3Server, keys_of_nobody, memory_process, moto_process

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


def all_contents(world: World) -> dict[str, bytes]:
    """What each listed backup restores to."""
    return contents(world.context(), world.root / "each")


def log_objects(world: World) -> list[str]:
    archive = world.context().archive()
    return [each.name for each in archive.store.list(names.logs_prefix(archive.dbid))]


def test_what_an_unbroken_prune_does(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.writer.commit("zero")
    history(world)
    was, logs = all_contents(world), log_objects(world)
    plan = plan_prune(world.context()).retention
    types = [gone.record.type.value for gone in plan.drop]
    assert sorted(types) == ["full", *["incremental"] * 5]  # of the second chain only its last
    assert len(plan.spare) == 3, "the second, the third and the last full begin anew"
    outcome = run_prune(world.context(), yes=True)
    assert list(outcome.deleted) == [gone.id for gone in plan.drop]
    assert set(logs) - set(log_objects(world)) == set(plan.drop_logs)
    assert outcome.removed_logs == len(plan.drop_logs)
    after = all_contents(world)
    assert after == {backup_id: was[backup_id] for backup_id in after}
    assert set(was) - set(after) == set(outcome.deleted)
    assert verify_database(world.context().archive(), Level.DATA).sound
    again_planned = plan_prune(world.context()).retention
    assert (again_planned.drop, again_planned.drop_logs, again_planned.spare) == ((), (), {})
    assert run_prune(world.context()).removed_logs == 0
    next_run_works(world, "after a prune")


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("first", range(1, SLICES + 1))
@pytest.mark.parametrize("action", ["fail", "die"])
def test_breaking_a_prune_at_every_step(action: str, first: int, tmp_path: Path) -> None:
    break_at_each(action, range(first, STEPS_MAX, SLICES), Tries(tmp_path, history))


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("server", "steps_taken"),
    [(memory_process, range(first, STEPS_MAX, SLICES)) for first in range(1, SLICES + 1)]
    + [(moto_process, range(7, STEPS_MAX, 16))],
)
def test_dying_in_a_prune_of_a_bucket_at_every_step(
    server: Callable[[], AbstractContextManager[S3Server]], steps_taken: range, tmp_path: Path
) -> None:
    """At every step on the server in memory, at some of them on moto, which takes four times as long."""
    with keys_of_nobody(), server() as serving:
        break_at_each("die", steps_taken, Tries(tmp_path, history, bucket=Bucket.made(serving)))


def break_at_each(action: str, numbers: Iterable[int], tries: Tries) -> None:
    was = before(tries.again("before")).backups
    unbroken = tries.again("unbroken")
    run_prune(unbroken.context(), yes=True)
    expected = set(all_contents(unbroken)), log_objects(unbroken)
    for number in numbers:
        world = tries.again(f"broken-{number}")
        broken = broken_at(world, action, number)
        when = f"{action} at step {number}"
        world.clock.sleep(60)
        archive_is_whole(world, when)
        run_recover(world.context())
        nothing_is_left(world, when)
        assert run_recover(world.context()) == (), when
        listed = all_contents(world)
        assert listed == {backup_id: was[backup_id] for backup_id in listed}, when
        assert expected[0] <= set(listed), when
        archive_is_clean(world, when)
        run_prune(world.context(), yes=True)
        left = {row["id"] for row in list_backups(world.context())}
        assert (left, log_objects(world)) == expected, when
        archive_is_clean(world, when)
        next_run_works(world, when)
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
