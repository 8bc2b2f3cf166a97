"""How a passive is made anew from the archive after a restore has begun another history."""

from __future__ import annotations

from backupd.decide.restore_path import RestorePath
from backupd.decide.seed_path import find_seed_path
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup
from tests.decide.builders import full, increment
from tests.decide.test_lineage import NEW, OLD, segment


def archive() -> tuple[ArchivedBackup, ArchivedBackup, ArchivedBackup]:
    base = full("f", 2, history=OLD)
    first = increment("i", base, 4, [segment(n, OLD) for n in (3, 4)])
    return base, first, increment("j", first, 8, [segment(n, OLD) for n in (5, 6, 7, 8)])


def seed(turned_off: int, active_log_from: int) -> RestorePath | None:
    return find_seed_path(
        NEW, [Position(OLD, turned_off)], archive(), unfit={}, active_log_from=Position(NEW, active_log_from)
    )


def test_log_is_taken_up_to_where_the_active_turned_off_in_the_midst_of_a_backup() -> None:
    path = seed(7, 7)
    assert path is not None
    assert [stored.log.number for stored in path.logs] == [3, 4, 5, 6, 7]
    assert path.backups == ("f", "i", "j")


def test_a_backup_that_goes_on_in_the_old_history_lends_nothing_that_the_active_left() -> None:
    path = seed(4, 4)
    assert path is not None
    assert [stored.log.number for stored in path.logs] == [3, 4]


def test_where_the_active_has_lost_its_log_the_archive_is_no_way() -> None:
    assert seed(6, 6) is not None
    assert seed(6, 7) is None
