"""Backups of a fake pair into a real archive: types, refusals, damage, and what stays behind."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from backupd.archive import names
from backupd.decide.restore_path import RestoreWish
from backupd.errors import ArchiveUnreachable, BackupdError, Busy, DamageFound, FreezeBroken, NotHealthy, Refused
from backupd.model.position import Position
from backupd.model.records import BackupType, LogKind
from backupd.model.states import RunState
from backupd.ports import ClosedLog
from backupd.runs.backup import run_backup
from backupd.runs.backup_outcome import BackupOutcome
from backupd.runs.listing import failed_runs, list_backups, show_backup
from backupd.runs.recover import run_recover
from backupd.runs.restore import run_restore
from backupd.runs.restore_plan import plan_restore
from tests.runs.world import World

ISSUE_KEYS = {
    *("id", "database", "type", "state", "source_copy", "source_role", "started_at", "finished_at"),
    *("log_start", "log_end", "frozen_seconds", "read_bytes", "stored_bytes", "checked_pages"),
    *("policy_commit", "truncation"),
}


def backup(world: World, kind: BackupType = BackupType.FULL) -> BackupOutcome:
    return run_backup(world.context(), kind)


def listed(world: World) -> list[str]:
    return [str(row["type"]) for row in list_backups(world.context())]


def test_a_full_then_increments_make_a_chain_and_let_the_log_go(world: World) -> None:
    full = backup(world)
    world.writer.commit("one")
    increment = backup(world, BackupType.INCREMENTAL)
    assert full.record
    assert increment.record
    assert increment.record.parent == full.record.id
    assert increment.record.log_start == full.record.log_end
    assert increment.truncation is not None
    assert increment.truncation.state == "truncated"
    assert increment.truncation.before == increment.record.log_end
    assert [log.start for log, _ in world.writer.logs("a")] == [increment.record.log_end]


def test_a_run_leaves_the_snapshot_of_another_database_in_the_same_directory_alone(world: World) -> None:
    directory = world.writer.db("b").parent
    labels = ("shop.20261122T010203Z-F-01234567", "orders.20261122T010203Z-F-01234567", "20261122T010203Z-F-01234567")
    for label in labels:
        world.provider.take(directory, [], label)
    run_recover(world.context())
    backup(world)
    assert [each.label for each in world.provider.leftovers(directory)] == [labels[0]]


def test_the_json_of_a_backup_has_the_keys_that_scripts_rely_on(world: World) -> None:
    row = backup(world).to_json()
    assert set(row) >= ISSUE_KEYS
    assert row["state"] == "complete"
    assert row["policy_commit"] == "c" * 40
    assert row["truncation"] == {"state": "truncated", "before": "1" * 16 + "/1", "blocked_by": []}
    rows = list_backups(world.context())
    assert {key: rows[0][key] for key in ISSUE_KEYS} == {key: row[key] for key in ISSUE_KEYS}
    whole = show_backup(world.context(), str(row["id"]))
    assert [entry["state"] for entry in whole["history"] if entry["event"] != "note"] == [  # type: ignore[index, union-attr, call-overload]
        *("planned", "prepared", "frozen", "captured", "thawed", "checked", "stored", "proven", "stamped", "complete")
    ]


def test_an_incremental_without_a_full_becomes_one_and_says_so(world: World) -> None:
    outcome = backup(world, BackupType.INCREMENTAL)
    assert outcome.plan.type is BackupType.FULL
    assert any("raised" in note for note in outcome.notes)
    assert outcome.record is not None
    assert any("raised" in note for note in outcome.record.notes)


def test_an_increment_is_not_made_of_log_that_jumps_over_a_seed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    backup(world)
    world.writer.commit("one")
    honest = world.writer.closed_logs

    def with_a_seed(after: Position, until: Position) -> list[ClosedLog]:
        return [ClosedLog(replace(one.log, kind=LogKind.SEED), one.path) for one in honest(after, until)]

    monkeypatch.setattr(world.writer, "closed_logs", with_a_seed)
    with pytest.raises(NotHealthy, match="across a seed"):
        backup(world, BackupType.INCREMENTAL)
    assert listed(world) == ["full"]
    assert backup(world).state is RunState.COMPLETE


def test_an_incremental_with_nothing_new_is_a_small_backup(world: World) -> None:
    backup(world)
    first = backup(world, BackupType.INCREMENTAL)
    second = backup(world, BackupType.INCREMENTAL)
    assert first.record
    assert second.record
    assert len(second.record.logs) == 1, "only the control record of the stamp before"
    assert second.record.checked_pages == 0


def test_a_copy_moves_nothing(world: World) -> None:
    backup(world)
    stamps = world.writer.stamps()
    held = world.writer.logs("a")
    outcome = backup(world, BackupType.COPY)
    assert outcome.truncation is None
    assert world.writer.stamps() == stamps
    assert world.writer.logs("a") == held


def test_no_moment_between_two_chains_is_lost(world: World) -> None:
    backup(world)
    world.writer.commit("between")
    wanted, at = world.writer.content("a"), world.clock.now()
    world.clock.sleep(5)
    world.writer.commit("later")
    backup(world)
    plan = plan_restore(world.context(), RestoreWish.at_time(at), str(world.root / "out"))
    run_restore(world.context(), plan)
    assert (world.root / "out" / "app.db").read_bytes() == wanted


def test_a_bad_page_fails_the_run_and_marks_the_passive(world: World) -> None:
    world.writer.replicate()
    with world.writer.db("b").open("r+b") as file:
        file.seek(3 * 4096 + 17)
        file.write(b"!")
    with pytest.raises(DamageFound) as caught:
        backup(world)
    assert caught.value.exit_status == 6
    assert caught.value.details["pages"] == [4]
    assert "page 4 of app.db" in caught.value.because
    assert world.writer.state["passive"] == "suspect"
    assert listed(world) == []
    assert len(world.writer.logs("a")) == 1
    assert failed_runs(world.context())[0]["state"] == "failed"
    archive = world.context().archive()
    assert list(archive.store.list(names.data_prefix(archive.dbid))) == []


def test_a_finding_of_the_engine_fails_the_run(world: World) -> None:
    world.policy["check"] = {"integrity": "quick"}
    world.writer.findings = ["row 7 missing from index"]
    with pytest.raises(DamageFound, match="damaged") as caught:
        backup(world)
    assert "row 7" in caught.value.because
    assert listed(world) == []


def test_a_freeze_that_breaks_once_is_tried_again_and_said(world: World) -> None:
    world.writer.break_freezes = 1
    outcome = backup(world)
    assert outcome.state is RunState.COMPLETE
    assert any("freeze did not hold" in note for note in outcome.notes)
    assert failed_runs(world.context())[0]["state"] == "aborted"


def test_the_policy_says_how_often_a_freeze_is_tried(world: World) -> None:
    world.policy["freeze"] = {"attempts_max": 3}
    world.writer.break_freezes = 2
    assert backup(world).state is RunState.COMPLETE
    world.policy["freeze"] = {"attempts_max": 1}
    world.writer.break_freezes = 1
    with pytest.raises(FreezeBroken):
        backup(world)


def test_a_freeze_that_breaks_twice_ends_the_run(world: World) -> None:
    world.writer.break_freezes = 2
    with pytest.raises(FreezeBroken) as caught:
        backup(world)
    assert caught.value.exit_status == 7
    assert listed(world) == []
    assert not world.writer.frozen()
    assert list(world.writer.db("b").parent.rglob("*backupd-snapshot/*")) == []


def test_a_full_disk_on_the_passive_thaws_and_leaves_nothing(world: World) -> None:
    world.provider.full = True
    with pytest.raises(NotHealthy, match="no snapshot"):
        backup(world)
    assert not world.writer.frozen()
    assert world.context().journal.holds() == []
    assert listed(world) == []
    world.provider.full = False
    assert backup(world).state is RunState.COMPLETE


@pytest.mark.parametrize("state", ["suspended", "suspect", "failed", "must be seeded"])
def test_an_unfit_passive_is_not_backed_up(world: World, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world.writer.change(passive=state)
    monkeypatch.setattr(world.writer, "replicate", lambda: None)
    with pytest.raises(NotHealthy) as caught:
        backup(world)
    assert caught.value.exit_status == 7
    assert state in caught.value.problem
    assert failed_runs(world.context())[0]["state"] in {"aborted", "refused"}


def test_another_run_keeps_this_one_out(world: World) -> None:
    context = world.context()
    with context.lease("something else"), pytest.raises(Busy) as caught:
        run_backup(context, BackupType.FULL)
    assert caught.value.exit_status == 9


def test_an_archive_that_is_away_is_said_and_nothing_is_done(world: World) -> None:
    shutil.rmtree(world.backups)
    with pytest.raises(ArchiveUnreachable) as caught:
        backup(world)
    assert caught.value.exit_status == 8
    assert len(world.writer.logs("a")) == 1
    world.backups.mkdir()
    assert backup(world).state is RunState.COMPLETE


def test_the_archive_of_another_database_is_refused(world: World) -> None:
    backup(world)
    world.writer.adopt_identity("another pair")
    with pytest.raises(Refused) as caught:
        backup(world)
    assert caught.value.exit_status == 4
    assert listed(world) == ["full"]


def test_a_late_stamp_leaves_the_backup_pending_until_recovery_sees_it(world: World) -> None:
    world.writer.late_stamp = True
    outcome = backup(world)
    assert outcome.state is RunState.PENDING
    assert outcome.truncation is not None
    assert outcome.truncation.state == "kept"
    assert any("pending" in blocker for blocker in outcome.truncation.blocked_by)
    assert [row["state"] for row in list_backups(world.context())] == ["pending"]
    world.writer.late_stamp = False
    assert any("is complete now" in sentence for sentence in run_recover(world.context()))
    assert [row["state"] for row in list_backups(world.context())] == ["complete"]
    assert backup(world, BackupType.INCREMENTAL).plan.type is BackupType.INCREMENTAL


def test_a_failed_truncation_never_fails_the_backup(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(before: object, archived_ended: object) -> None:
        raise NotHealthy("no truncation", because="the disk is read-only", next_step="look")

    monkeypatch.setattr(world.writer, "truncate", refuse)
    outcome = backup(world)
    assert outcome.state is RunState.COMPLETE
    assert outcome.truncation is not None
    assert outcome.truncation.state == "deferred"
    assert "read-only" in outcome.truncation.blocked_by[0]


def test_a_dry_run_touches_nothing(world: World) -> None:
    before = sorted(path.name for path in world.backups.rglob("*"))
    outcome = run_backup(world.context(), BackupType.INCREMENTAL, dry_run=True)
    assert outcome.record is None
    assert outcome.to_json()["type"] == "full"
    assert sorted(path.name for path in world.backups.rglob("*")) == before
    assert world.context().journal.runs() == []


def test_a_copy_that_is_starting_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.writer.change(passive="initializing")
    soon = world.clock.at + timedelta(seconds=3)
    look = world.writer.pair

    def pair() -> object:
        if world.clock.at > soon:
            world.writer.change(passive="healthy")
        return look()

    monkeypatch.setattr(world.writer, "pair", pair)
    assert backup(world).state is RunState.COMPLETE


def test_an_interrupt_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(directory: object, position: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(world.writer, "page_sources", interrupt)
    with pytest.raises(KeyboardInterrupt):
        backup(world)
    assert not world.writer.frozen()
    assert world.context().journal.in_progress() == []
    assert world.context().journal.holds() == []
    monkeypatch.undo()
    assert backup(world).state is RunState.COMPLETE


def test_errors_are_three_lines(world: World) -> None:
    world.writer.change(passive="suspended")
    with pytest.raises(BackupdError) as caught:
        backup(world)
    assert caught.value.lines()[2] == "next: backupctl copy resume orders"
