"""A chain that crosses a failover: the same log, seen from the history that came out of another one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.decide.backup_type import BackupChoice, decide_backup_type
from backupd.decide.chains import Chain, archived_end, chain_of
from backupd.decide.lineage import archived_ancestry, lineage_of, seen_from, stamps_seen_from
from backupd.decide.restore_path import RestoreWish, find_restore_path, recovery_windows
from backupd.errors import NotFound
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup, BackupType, Stamp, Stamps, StoredLog
from tests.decide.builders import HISTORY, Commit, full, increment, make_backup, make_log, minute, place

OLD, NEW = "1", "2"


def segment(number: int, history: str, *, before: str | None = None) -> StoredLog:
    """Segment ``number`` covers the offsets from ``number`` - 1 to ``number``, like a WAL segment without digests."""
    made = make_log(number, [Commit(number, number)], number - 1, history)
    log = replace(made.log, previous_digest="", start=place(number - 1, before or history))
    return replace(made, log=log)


def crossing(first_full: int = 2) -> tuple[ArchivedBackup, ArchivedBackup, ArchivedBackup]:
    """A full and an incremental in the old history, and one after a promotion inside segment 5."""
    base = full("f", first_full, history=OLD)
    first = increment("i", base, 4, [segment(n, OLD) for n in (3, 4)])
    logs = [segment(5, NEW, before=OLD), segment(6, NEW)]
    second = make_backup("j", BackupType.INCREMENTAL, 6, parent=first, logs=logs, history=NEW)
    return base, first, second


def test_positions_compare_on_a_lineage_and_nowhere_else() -> None:
    ancestry = (Position("1", 10), Position("3", 20))
    assert seen_from(Position("1", 10), "4", ancestry) == Position("4", 10)
    assert seen_from(Position("3", 15), "4", ancestry) == Position("4", 15)
    assert seen_from(Position("1", 11), "4", ancestry) == Position("1", 11)  # what the promoted one never had
    assert seen_from(Position("2", 5), "4", ancestry) == Position("2", 5)
    assert seen_from(Position("4", 99), "4", ancestry) == Position("4", 99)


def test_the_archive_knows_its_lineage_from_the_log_that_crosses() -> None:
    backups = crossing()
    assert archived_ancestry(NEW, backups) == (Position(OLD, 4),)
    assert archived_ancestry(OLD, backups) == ()
    assert lineage_of(None, backups).backups == backups


def test_a_chain_is_whole_over_a_failover() -> None:
    backups = crossing()
    assert isinstance(chain_of("j", backups), Chain)
    assert archived_end(lineage_of(NEW, backups).backups, NEW) == Position(NEW, 6)
    assert archived_end(lineage_of(OLD, backups).backups, OLD) == Position(OLD, 4)


def test_a_restore_walks_through_the_failover_and_names_the_log_as_it_is_stored() -> None:
    backups = crossing()
    path = find_restore_path(RestoreWish.latest(), backups)
    assert [stored.log.number for stored in path.logs] == [3, 4, 5, 6]
    assert [stored.log.history for stored in path.logs] == [OLD, OLD, NEW, NEW]
    assert path.logs[2].log.start == Position(OLD, 4)
    assert path.full is backups[0]
    assert find_restore_path(RestoreWish.at_time(minute(5.5)), backups).logs[-1].log.history == NEW
    assert find_restore_path(RestoreWish.to_position(Position(OLD, 4)), backups).logs[-1].log.number == 4


def test_what_the_promoted_one_never_had_is_not_reached_from_its_history() -> None:
    base, first, second = crossing()
    lost = increment("lost", first, 7, [segment(n, OLD) for n in (5, 6, 7)])
    backups = (base, first, lost, second)
    path = find_restore_path(RestoreWish.to_position(Position(NEW, 6)), backups)
    assert {stored.log.history for stored in path.logs[2:]} == {NEW}
    assert find_restore_path(RestoreWish.of_backup("lost"), backups).logs[-1].log.number == 7
    with pytest.raises(NotFound):
        find_restore_path(RestoreWish.to_position(Position(NEW, 7)), backups)


def test_one_window_is_told_for_both_sides_of_a_failover() -> None:
    (window,) = recovery_windows(crossing())
    assert (window.history, window.from_position, window.to_position) == (NEW, Position(NEW, 2), Position(NEW, 6))
    assert window.from_time == minute(2)


def test_a_log_that_is_missing_between_them_leaves_two_windows() -> None:
    base, first, second = crossing()
    cut = replace(second, record=replace(second.record, logs=second.record.logs[1:], log_start=Position(NEW, 5)))
    assert [window.history for window in recovery_windows((base, first, cut))] == [OLD]


def stamps(backup: ArchivedBackup) -> Stamps:
    at = backup.record.finished_at
    stamp = Stamp(backup.record.type, backup.record.id, backup.record.log_end, at)
    return Stamps(full=stamp) if backup.record.type is BackupType.FULL else Stamps(incremental=stamp)


def decide(backups: tuple[ArchivedBackup, ...], ended: int, oldest: int) -> object:
    ancestry = (Position(OLD, ended),)
    last = replace(stamps(backups[0]), incremental=stamps(backups[-1]).incremental)
    return decide_backup_type(
        BackupType.INCREMENTAL,
        stamps_seen_from(last, NEW, ancestry),
        lineage_of(NEW, backups, ancestry).backups,
        NEW,
        oldest_held=Position(NEW, oldest),
        archived_log_counts=True,
    )


def test_the_first_increment_after_a_promotion_goes_on_from_the_chain() -> None:
    backups = crossing()[:2]
    answer = decide(backups, ended=5, oldest=3)
    assert isinstance(answer, BackupChoice)
    assert answer.type is BackupType.INCREMENTAL
    assert answer.parent is not None
    assert answer.parent.record.id == "i"
    lineage = lineage_of(NEW, backups, (Position(OLD, 5),))
    assert lineage.as_stored(answer.parent) is backups[1]


def test_it_is_raised_to_full_when_the_log_is_not_continuous() -> None:
    backups = crossing()[:2]
    behind = decide(backups, ended=3, oldest=3)  # the promoted one had less than the archive holds
    gone = decide(backups, ended=5, oldest=5)  # or its log begins too late
    for answer in (behind, gone):
        assert isinstance(answer, BackupChoice)
        assert answer.type is BackupType.FULL


def test_a_promoted_one_that_had_less_than_the_archive_goes_on_from_what_both_have() -> None:
    answer = decide(crossing()[:2], ended=3, oldest=2)
    assert isinstance(answer, BackupChoice)
    assert answer.parent is not None
    assert (answer.type, answer.parent.record.id) == (BackupType.INCREMENTAL, "f")


def test_the_log_that_the_pages_need_comes_first() -> None:
    logs = [segment(n, OLD) for n in (1, 2, 3, 4, 5)]
    base = make_backup("f", BackupType.FULL, 4, logs=logs[:4], history=OLD)
    base = replace(base, record=replace(base.record, log_start=Position(OLD, 2)))
    after = increment("i", base, 5, logs)
    path = find_restore_path(RestoreWish.latest(), (base, after))
    assert [stored.log.number for stored in path.logs] == [3, 4, 5]
    assert [stored.log.number for stored in find_restore_path(RestoreWish.of_backup("f"), (base, after)).logs] == [3, 4]


def test_sqlite_has_one_history_and_sees_itself() -> None:
    backups = (full("f", 3),)
    assert lineage_of(HISTORY, backups).backups == backups
