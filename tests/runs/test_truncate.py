"""Truncation by the rules: kept with the reason, carried out when proven, and explained."""

from __future__ import annotations

import shutil

import pytest

from backupd.errors import ArchiveUnreachable
from backupd.model.position import Position
from backupd.model.records import BackupType, Hold
from backupd.runs.backup import run_backup
from backupd.runs.listing import list_backups
from backupd.runs.truncate import explain_truncation, run_truncate
from tests.runs.world import World


@pytest.fixture
def held(world: World) -> World:
    """A full and an incremental in the archive, and all log still on the copies."""
    world.policy["truncation"] = {"enabled": False}
    run_backup(world.context(), BackupType.FULL)
    world.writer.commit("one")
    run_backup(world.context(), BackupType.INCREMENTAL)
    world.policy["truncation"] = {"enabled": True}
    return world


def test_log_that_is_archived_goes_and_the_rest_stays(held: World) -> None:
    outcome = run_truncate(held.context())
    assert outcome.state == "truncated"
    assert outcome.removed_logs > 0
    assert [log.start for log, _ in held.writer.logs("b")] == [outcome.before]


def test_a_dry_run_and_explain_remove_nothing(held: World) -> None:
    count = len(held.writer.logs("a"))
    assert run_truncate(held.context(), dry_run=True).state == "would truncate"
    assert explain_truncation(held.context()).evidence["passive_state"] == "healthy"
    assert len(held.writer.logs("a")) == count


def test_what_a_backup_let_go_stays_written_when_there_is_nothing_more(held: World) -> None:
    label = str(list_backups(held.context())[-1]["id"])
    assert run_truncate(held.context()).state == "truncated"
    first = held.context().journal.truncation(label)
    assert first is not None
    assert run_truncate(held.context()).state == "kept"
    assert held.context().journal.truncation(label) == first
    assert list_backups(held.context())[-1]["truncation"]["state"] == "truncated"  # type: ignore[index, call-overload]


def test_a_suspended_passive_keeps_the_log(held: World) -> None:
    held.writer.suspend("maintenance")
    outcome = run_truncate(held.context())
    assert outcome.state == "kept"
    assert any(blocker.startswith("passive-suspended") for blocker in outcome.blocked_by)
    assert any("suspended" in blocker for blocker in explain_truncation(held.context()).blocked_by)


def test_a_hold_keeps_the_log_from_its_position_on(held: World) -> None:
    context = held.context()
    start = Position("1" * 16, 0)
    context.journal.place_hold(Hold("a person", "orders", start, "for the auditor", held.clock.now()))
    outcome = run_truncate(context)
    assert outcome.state == "kept"
    assert any("for the auditor" in blocker for blocker in outcome.blocked_by)
    context.journal.release_hold("orders", "a person")
    assert run_truncate(context).state == "truncated"


def test_without_a_backup_nothing_goes(world: World) -> None:
    outcome = run_truncate(world.context())
    assert outcome.state == "kept"
    assert any(blocker.startswith("no-backup") for blocker in outcome.blocked_by)


def test_a_backup_that_is_not_proven_keeps_the_log(held: World) -> None:
    from backupd.journal.records import RunKind

    context = held.context()
    context.journal.begin_run(database="orders", kind=RunKind.BACKUP, type="full")
    outcome = explain_truncation(context)
    assert outcome.state == "kept"
    assert any(blocker.startswith("backup-not-proven") for blocker in outcome.blocked_by)


def test_an_archive_that_is_away_keeps_the_log(held: World) -> None:
    context = held.context()
    context.archive()
    shutil.move(held.backups, held.root / "away")
    with pytest.raises(ArchiveUnreachable):
        run_truncate(held.context())
    assert explain_truncation(held.context()).state == "deferred"
    assert len(held.writer.logs("a")) > 2


def test_a_differential_never_takes_the_log_of_the_next_incremental(held: World) -> None:
    run_truncate(held.context())
    held.writer.commit("two")
    end = held.writer.stamps().last
    assert end is not None
    run_truncate(held.context())
    assert min(log.start.offset for log, _ in held.writer.logs("a")) <= end.end.offset


def test_log_of_an_ended_history_goes_only_as_far_as_the_archive_has_it(held: World) -> None:
    held.writer.commit("in no backup")
    ended = held.context().archive().list().backups[-1].record.log_end
    held.writer.change(history="2" * 16, passive="must be seeded")
    held.writer.commit("in another history")
    assert run_backup(held.context(), BackupType.FULL).truncation is not None
    assert held.writer.spared == {ended.history: ended.offset}
