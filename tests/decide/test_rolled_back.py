"""An archive that has lost its newest backups is told from one that was pruned."""

from __future__ import annotations

from datetime import UTC, datetime

from backupd.decide.rolled_back import missing_backups
from backupd.model.position import Position
from backupd.model.records import BackupType, Stamp, Stamps

OLD, MIDDLE, NEW = "20261101T010000Z-F-00000001", "20261108T010000Z-F-00000002", "20261109T010000Z-I-00000003"


def stamp(backup_id: str) -> Stamp:
    return Stamp(BackupType.FULL, backup_id, Position("5f3a9c21d0e47b86", 7), datetime(2026, 11, 9, tzinfo=UTC))


def test_nothing_is_said_of_an_archive_that_has_what_is_known() -> None:
    assert missing_backups(Stamps(stamp(MIDDLE), stamp(NEW)), [NEW, MIDDLE], {MIDDLE, NEW}) == ()
    assert missing_backups(Stamps(), [], set()) == ()


def test_an_old_backup_that_was_pruned_is_not_missed() -> None:
    assert missing_backups(Stamps(stamp(MIDDLE), stamp(NEW)), [NEW, MIDDLE, OLD], {MIDDLE, NEW}) == ()


def test_the_newest_that_are_gone_are_named_with_who_knows_them() -> None:
    by_stamp, by_journal = missing_backups(Stamps(stamp(MIDDLE)), [NEW, MIDDLE, OLD], {OLD})
    assert MIDDLE in by_stamp.sentence
    assert "the database's own stamp" in by_stamp.sentence
    assert NEW in by_journal.sentence
    assert "this node's journal" in by_journal.sentence


def test_an_empty_archive_lacks_all_that_is_known() -> None:
    assert len(missing_backups(Stamps(stamp(MIDDLE)), [NEW], set())) == 2
