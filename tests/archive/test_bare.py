"""Log before a bare full goes, after a note that says so; nothing listed misses it, at whatever step that stops."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd import steps
from backupd.archive.database import DatabaseArchive
from backupd.archive.local import LocalStore
from backupd.archive.verify import Level, verify_database
from backupd.errors import BackupdError, Busy
from backupd.model.records import ArchivedBackup, BackupType
from tests.archive_builders import (
    open_archive,
    take_full,
    take_full_with_log,
    take_logs,
    write_log,
    write_pages,
)
from tests.fakes_store import MemoryStore

STEPS_MAX = 200


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    return write_pages(tmp_path / "app.db", 20)


def three_fulls(archive: DatabaseArchive, pages: Path) -> list[ArchivedBackup]:
    """A at 10, I up to 20, B at 30 with the log from 20 on, C at 40 with the log from 30 on."""
    logs = [write_log(pages.parent, number) for number in (2, 3, 4)]
    first = take_full(archive, pages, 10)
    middle = take_logs(archive, first, logs[:1])
    return [first, middle, take_full_with_log(archive, pages, logs[1:2]), take_full_with_log(archive, pages, logs[2:])]


def spare_of(backup: ArchivedBackup) -> dict[str, tuple[str, ...]]:
    return {backup.record.id: tuple(stored.name for stored in backup.record.logs)}


def log_names(archive: DatabaseArchive) -> list[str]:
    return [each.name for each in archive.store.list(f"db/{archive.dbid}/log/")]


def test_log_that_was_let_go_is_listed_no_more_and_not_missed(archive: DatabaseArchive, pages: Path) -> None:
    _, middle, second, third = three_fulls(archive, pages)
    archive.delete_backup(middle.record.id, reason="test")
    before = log_names(archive)
    assert archive.prune_logs(reason="test").count == 0, "B still names its earlier log"
    archive.let_log_go(spare_of(second), reason="test")
    listing = archive.list()
    assert listing.by_id()[second.record.id].record.logs == ()
    assert listing.by_id()[second.record.id].sha256 == second.sha256
    assert listing.let_go == spare_of(second)
    assert listing.by_id()[third.record.id].record.logs == third.record.logs
    assert verify_database(archive, Level.DATA).sound, "the log files are still there"
    assert archive.prune_logs(reason="test").count == 1
    assert log_names(archive) == [name for name in before if name not in spare_of(second)[second.record.id]]
    assert verify_database(archive, Level.DATA).sound
    assert archive.orphans() == ()
    archive.let_log_go(spare_of(second), reason="test")  # again: the note is there
    assert archive.prune_logs(reason="test").count == 0


def test_a_bare_full_is_deleted_with_its_note_and_its_log(
    store: MemoryStore, archive: DatabaseArchive, pages: Path
) -> None:
    first, middle, second, third = three_fulls(archive, pages)
    archive.delete_backup(middle.record.id, reason="test")
    archive.let_log_go(spare_of(second), reason="test")
    for backup in (third, second, first):
        archive.delete_backup(backup.record.id, reason="test")
    assert set(store.objects) == {"repo.json", f"db/{archive.dbid}/identity.json"}


def test_log_that_an_increment_still_names_stays(archive: DatabaseArchive, pages: Path) -> None:
    """Whoever lets log go wrongly hides it from one record only; what another record names is not removed."""
    first, _, second, _ = three_fulls(archive, pages)
    logs = [write_log(pages.parent, number) for number in (2, 3)]
    take_logs(archive, first, logs, BackupType.DIFFERENTIAL)
    archive.let_log_go(spare_of(second), reason="test")
    assert archive.prune_logs(reason="test").count == 0
    assert verify_database(archive, Level.DATA).sound


def test_log_that_was_let_go_is_no_orphan_although_its_storer_left_no_record(
    store: MemoryStore, archive: DatabaseArchive, pages: Path
) -> None:
    given_up = archive.begin(BackupType.FULL, parent=None)
    given_up.put_log(*write_log(pages.parent, 3))
    given_up.abort("test")
    _, middle, second, _ = three_fulls(archive, pages)
    archive.delete_backup(middle.record.id, reason="test")
    archive.let_log_go(spare_of(second), reason="test")
    del store.objects[f"db/{archive.dbid}/backup/{given_up.label}"]  # as after its thirty days
    assert archive.orphans() == ()
    assert archive.prune_logs(reason="test").count == 1


def test_no_log_goes_while_a_backup_is_being_made(archive: DatabaseArchive, pages: Path) -> None:
    _, middle, second, third = three_fulls(archive, pages)
    archive.delete_backup(middle.record.id, reason="test")
    archive.let_log_go(spare_of(second), reason="test")
    flying = archive.begin(BackupType.INCREMENTAL, parent=third)
    before = log_names(archive)
    with pytest.raises(Busy):
        archive.prune_logs(reason="test")
    assert log_names(archive) == before
    flying.withdraw()
    assert archive.prune_logs(reason="test").count == 1


def test_a_damaged_note_still_hides_the_log_and_verify_names_it(
    store: MemoryStore, archive: DatabaseArchive, pages: Path
) -> None:
    _, middle, second, _ = three_fulls(archive, pages)
    archive.delete_backup(middle.record.id, reason="test")
    archive.let_log_go(spare_of(second), reason="test")
    archive.prune_logs(reason="test")
    note = f"db/{archive.dbid}/bare/{second.record.id}.json"
    store.objects[note] = store.objects[note][:-1]
    assert archive.list().by_id()[second.record.id].record.logs == ()
    assert [finding.object_name for finding in verify_database(archive, Level.DATA).findings] == [note]


def test_letting_log_go_may_fail_at_any_step(tmp_path: Path, pages: Path) -> None:
    for number in range(1, STEPS_MAX):
        archive = open_archive(LocalStore.prepare(tmp_path / f"archive-{number}"))
        _, middle, second, _ = three_fulls(archive, pages)
        archive.delete_backup(middle.record.id, reason="test")
        before = log_names(archive)
        steps.arm("fail", number)
        try:
            archive.let_log_go(spare_of(second), reason="test")
            archive.prune_logs(reason="test")
        except BackupdError:
            pass
        finally:
            counted = steps.disarm()
        assert archive.sweep(holding_lease=True).orphans == ()
        assert verify_database(archive, Level.DATA).findings == []
        archive.let_log_go(spare_of(second), reason="test")
        archive.prune_logs(reason="test")
        assert verify_database(archive, Level.DATA).findings == []
        assert log_names(archive) == [name for name in before if name not in spare_of(second)[second.record.id]]
        if counted < number:
            assert number > 5
            return
    pytest.fail("more steps than this test allows for")
