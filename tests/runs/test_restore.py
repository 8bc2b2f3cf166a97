"""Restores: to a directory, to the active, to a point; refusals, damage, interruption."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from backupd.decide.restore_path import RestoreWish
from backupd.errors import ArchiveUnreachable, DamageFound, NotFound, NotHealthy, Refused
from backupd.model.position import Position
from backupd.model.records import BackupType
from backupd.ports import ProcessUse
from backupd.runs.backup import run_backup
from backupd.runs.recover import run_recover
from backupd.runs.restore import RestoreOutcome, run_restore
from backupd.runs.restore_plan import plan_restore
from tests.fakes import FakeFreeze, FakeTarget
from tests.runs.world import World


@pytest.fixture
def chain(world: World) -> World:
    """A full, then an incremental with two commits."""
    run_backup(world.context(), BackupType.FULL)
    world.writer.commit("one")
    world.writer.commit("two")
    run_backup(world.context(), BackupType.INCREMENTAL)
    return world


def restore(world: World, wish: RestoreWish, target: str, *, force: bool = False) -> RestoreOutcome:
    context = world.context()
    return run_restore(context, plan_restore(context, wish, target), force=force)


def test_the_latest_state_comes_back_into_a_directory(chain: World) -> None:
    outcome = restore(chain, RestoreWish.latest(), str(chain.root / "out"))
    assert (chain.root / "out" / "app.db").read_bytes() == chain.writer.content("a")
    assert outcome.logs_applied == 3
    assert outcome.passive_state == ""


def test_a_disk_without_room_for_log_on_its_way_is_told_and_the_live_file_stays(
    chain: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, make = chain.writer.content("a"), Path.mkdir

    def refuse(path: Path, *words: Any, **options: Any) -> None:
        if path.name == "restore-log":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        make(path, *words, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(NotHealthy, match="No space left"):
        restore(chain, RestoreWish.latest(), "active")
    assert chain.writer.content("a") == live


def test_a_point_in_time_comes_back_on_the_active_and_the_passive_follows(chain: World) -> None:
    wanted, at = chain.writer.content("a"), chain.clock.now()
    chain.clock.sleep(10)
    chain.writer.commit("a mistake")
    run_backup(chain.context(), BackupType.INCREMENTAL)
    plan = plan_restore(chain.context(), RestoreWish.at_time(at))
    assert any(at.isoformat() in sentence for sentence in plan.lost)
    outcome = restore(chain, RestoreWish.at_time(at), "active")
    assert chain.writer.content("a") == wanted
    assert chain.writer.content("b") == wanted
    assert outcome.passive_state == "healthy"
    assert any("new full is due" in note for note in outcome.notes)
    assert run_backup(chain.context(), BackupType.INCREMENTAL).plan.type is BackupType.FULL


def test_the_plan_to_a_position_says_how_much_time_would_be_lost(chain: World) -> None:
    chain.clock.sleep(10)
    chain.writer.commit("wanted")
    chain.clock.sleep(1000)
    chain.writer.commit("a mistake")
    run_backup(chain.context(), BackupType.INCREMENTAL)
    logs = [stored.log for stored in chain.context().archive().list().backups[-1].record.logs]
    ends = [(log.last_commit_at, log.end) for log in logs if log.last_commit_at is not None]
    at, end = next(one for one, (later, _) in pairwise(ends) if (later - one[0]).seconds > 900)
    plan = plan_restore(chain.context(), RestoreWish.to_position(end))
    assert f"up to 16 minutes of changes, back to {at.isoformat()}" in plan.lost


def test_a_full_with_a_commit_after_the_moment_is_not_its_base(chain: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, honest = chain.writer.content("a"), chain.writer.freeze
    moments = []

    def commit_and_freeze(limit_seconds: float, *, moving: bool = False) -> FakeFreeze:
        moments.append(chain.clock.now())
        chain.clock.sleep(10)
        chain.writer.commit("a mistake between the log's closing and the freeze")
        chain.writer.replicate()
        return honest(limit_seconds, moving=moving)

    monkeypatch.setattr(chain.writer, "freeze", commit_and_freeze)
    second = run_backup(chain.context(), BackupType.FULL).record
    monkeypatch.undo()
    assert second is not None
    assert second.covers_until > moments[0]
    chain.writer.commit("more")
    run_backup(chain.context(), BackupType.INCREMENTAL)
    restore(chain, RestoreWish.at_time(moments[0]), str(chain.root / "out"))
    assert (chain.root / "out" / "app.db").read_bytes() == wanted


def test_replay_ends_where_a_log_file_was_not_taken_whole(chain: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that went back inside a log file: its last commit looks early enough, one in its middle does not."""
    honest, asked = FakeTarget.apply_log, []

    def partly(target: FakeTarget, path: Path, *, until: Position | None, at: datetime | None) -> Position:
        asked.append(path)
        return honest(target, path, until=until, at=at) if len(asked) == 1 else target.read_log(path).start

    monkeypatch.setattr(FakeTarget, "apply_log", partly)
    outcome = restore(chain, RestoreWish.latest(), str(chain.root / "out"))
    assert len(asked) == 2
    assert outcome.position.offset == outcome.plan.route.full.record.log_end.offset + 1


def test_pages_that_are_here_already_are_not_fetched(chain: World) -> None:
    outcome = restore(chain, RestoreWish.of_backup(_full(chain)), "active")
    assert outcome.reused_pages > 10
    assert outcome.fetched_pages < 6


def test_the_passive_is_refused(chain: World) -> None:
    with pytest.raises(Refused) as caught:
        plan_restore(chain.context(), RestoreWish.latest(), "b")
    assert caught.value.exit_status == 4
    assert len(caught.value.lines()) == 3


def test_a_dry_plan_changes_nothing(chain: World) -> None:
    before = sorted(chain.root.rglob("*"))
    plan = plan_restore(chain.context(), RestoreWish.latest(), str(chain.root / "out"))
    assert plan.to_json()["logs_count"] == 3
    assert [path for path in sorted(chain.root.rglob("*")) if "journal" not in path.name] == [
        path for path in before if "journal" not in path.name
    ]


def test_a_file_that_is_there_is_not_replaced_without_force(chain: World) -> None:
    place = chain.root / "out"
    place.mkdir()
    (place / "app.db").write_text("precious")
    with pytest.raises(Refused):
        restore(chain, RestoreWish.latest(), str(place))
    assert (place / "app.db").read_text() == "precious"
    restore(chain, RestoreWish.latest(), str(place), force=True)
    assert (place / "app.db").read_bytes() == chain.writer.content("a")


def test_a_program_that_uses_the_target_is_named_and_nothing_happens(
    chain: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = FakeTarget.facts
    users = (ProcessUse(4711, "shop", "/a/app.db"),)
    monkeypatch.setattr(FakeTarget, "facts", lambda self: replace(facts(self), users=users))
    before = chain.writer.content("a")
    with pytest.raises(Refused) as caught:
        restore(chain, RestoreWish.latest(), "active")
    assert caught.value.exit_status == 4
    assert "4711" in caught.value.because
    assert chain.writer.content("a") == before
    chain.policy["restore"] = {"stop_command": ["stop", "shop"], "start_command": ["start", "shop"]}
    restore(chain, RestoreWish.latest(), "active")
    assert chain.commands == [["stop", "shop"], ["start", "shop"]]


def test_too_little_space_is_said_before_anything_happens(chain: World, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = FakeTarget.facts
    monkeypatch.setattr(FakeTarget, "facts", lambda self: replace(facts(self), free_bytes=1000))
    with pytest.raises(NotHealthy) as caught:
        restore(chain, RestoreWish.latest(), "active")
    assert "1000 B are free" in caught.value.because


def test_the_application_is_started_again_when_stopping_it_fails_halfway(
    chain: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.policy["restore"] = {"stop_command": ["stop"], "start_command": ["start"]}
    run = World._run_command

    def fails(self: World, argv: Sequence[str], seconds_max: float) -> None:
        run(self, argv, seconds_max)
        if argv == ["stop"]:
            raise NotHealthy("the stop command failed", because="status 1", next_step="look at it")

    monkeypatch.setattr(World, "_run_command", fails)
    with pytest.raises(NotHealthy, match="the stop command failed"):
        restore(chain, RestoreWish.latest(), "active")
    assert chain.commands == [["stop"], ["start"]]


def test_the_application_is_started_again_when_the_restore_fails(chain: World) -> None:
    chain.policy["restore"] = {"stop_command": ["stop"], "start_command": ["start"]}
    chain.writer.findings = ["row 7 missing"]
    before = chain.writer.content("a")
    with pytest.raises(DamageFound):
        restore(chain, RestoreWish.latest(), "active")
    assert chain.commands == [["stop"], ["start"]]
    assert chain.writer.content("a") == before
    assert chain.context().journal.in_progress() == []


@pytest.mark.parametrize("kind", ["data", "map", "log", "backup"])
@pytest.mark.parametrize("harm", ["flip", "cut", "missing"])
def test_damage_in_the_archive_stops_before_live_data(chain: World, kind: str, harm: str) -> None:
    for number in range(20):  # every page of the live file differs, so that all of the archive's are needed
        chain.writer.commit(f"newer {number}")
    before = chain.writer.content("a")
    victim = min(path for path in (chain.backups / "db").glob(f"*/{kind}/**/*") if path.is_file())
    _harm(victim, harm)
    if kind == "backup" and harm == "missing":
        return  # a record that is gone altogether cannot be named by a restore; verify names its orphans
    with pytest.raises((DamageFound, NotFound)) as caught:
        restore(chain, RestoreWish.latest(), "active")
    assert caught.value.exit_status == (6 if harm != "missing" else caught.value.exit_status)
    assert f"/{kind}/" in str(caught.value) + str(caught.value.details)
    assert chain.writer.content("a") == before
    assert run_recover(chain.context()) == ()


def test_an_interrupted_restore_takes_up_what_it_has(chain: World, monkeypatch: pytest.MonkeyPatch) -> None:
    context = chain.context()
    plan = plan_restore(context, RestoreWish.latest(), "active")
    monkeypatch.setattr(type(context.archive()), "fetch_log", _away)
    with pytest.raises(ArchiveUnreachable):
        run_restore(context, plan)
    assert FakeTarget(chain.writer, None).stage.exists()
    monkeypatch.undo()
    chain.writer.commit("changes the live file, so that only the stage can help")
    outcome = restore(chain, RestoreWish.latest(), "active")
    assert outcome.fetched_pages <= 3


def test_what_cannot_be_restored_says_what_can(chain: World) -> None:
    with pytest.raises(NotFound) as caught:
        plan_restore(chain.context(), RestoreWish.at_time(chain.clock.at.replace(year=2001)))
    assert caught.value.exit_status == 5


def test_a_pair_that_lost_its_state_becomes_the_archives_database(chain: World) -> None:
    identity = chain.writer.identity()
    chain.writer.adopt_identity("fresh after the fire")
    restore(chain, RestoreWish.latest(), "active")
    assert chain.writer.identity() == identity


def _full(world: World) -> str:
    return world.context().archive().list().backups[0].record.id


def _away(*_: object) -> None:
    raise ArchiveUnreachable("the archive went away", because="the cable", next_step="plug it in")


def _harm(victim: Path, harm: str) -> None:
    if harm == "missing":
        victim.unlink()
        return
    os.chmod(victim, 0o600)
    content = bytearray(victim.read_bytes())
    if harm == "cut":
        victim.write_bytes(content[: len(content) // 2])
        return
    content[len(content) // 2] ^= 0x10
    victim.write_bytes(content)
