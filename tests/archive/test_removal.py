"""Nothing that a kept backup needs is ever removed, and nothing that nobody needs stays."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from backupd import steps
from backupd.archive.database import DatabaseArchive
from backupd.archive.verify import Level, verify_database
from backupd.errors import BackupdError, Busy, NotFound, Refused
from backupd.model.records import BackupType
from backupd.pipeline.store import store_file
from tests.archive_builders import (
    FileSource,
    ObedientClock,
    take_full,
    take_logs,
    write_log,
    write_pages,
)
from tests.fakes_store import MemoryStore


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    return write_pages(tmp_path / "app.db", 40)


def ids(archive: DatabaseArchive) -> list[str]:
    return [backup.record.id for backup in archive.list().backups]


def below(store: MemoryStore, archive: DatabaseArchive, prefix: str) -> list[str]:
    return [each.name for each in store.list(f"db/{archive.dbid}/{prefix}")]


def test_a_deleted_chain_leaves_nothing(
    store: MemoryStore, archive: DatabaseArchive, pages: Path, tmp_path: Path
) -> None:
    full = take_full(archive, pages, 0)
    increment = take_logs(archive, full, [write_log(tmp_path, number) for number in (1, 2)])
    with pytest.raises(Refused, match="cannot be deleted"):
        archive.delete_backup(full.record.id, reason="test")
    archive.delete_backup(increment.record.id, reason="test")
    assert verify_database(archive, Level.DATA).sound
    archive.delete_backup(full.record.id, reason="test")
    assert set(store.objects) == {"repo.json", f"db/{archive.dbid}/identity.json"}
    with pytest.raises(NotFound):
        archive.delete_backup(full.record.id, reason="test")


def test_log_that_a_kept_backup_names_stays(archive: DatabaseArchive, pages: Path, tmp_path: Path) -> None:
    full = take_full(archive, pages, 0)
    logs = [write_log(tmp_path, number) for number in (1, 2)]
    increment = take_logs(archive, full, logs[:1])
    differential = take_logs(archive, full, logs, BackupType.DIFFERENTIAL)
    archive.delete_backup(differential.record.id, reason="test")
    assert verify_database(archive, Level.DATA).sound
    (stored,) = increment.record.logs
    archive.fetch_log(stored, tmp_path / "fetched")


def test_a_backup_in_flight_stops_a_deletion_and_a_dead_one_does_not(
    store: MemoryStore, archive: DatabaseArchive, pages: Path
) -> None:
    full = take_full(archive, pages, 0)
    flying = archive.begin(BackupType.INCREMENTAL, parent=full)
    with pytest.raises(Busy, match="deleted now"):
        archive.delete_backup(full.record.id, reason="test")
    assert ids(archive) == [full.record.id]
    assert not below(store, archive, "tomb/")
    flying.withdraw()
    archive.delete_backup(full.record.id, reason="test")
    assert ids(archive) == []


def test_prune_removes_only_log_that_ends_before_the_oldest_full(
    store: MemoryStore, archive: DatabaseArchive, pages: Path, tmp_path: Path
) -> None:
    oldest = take_full(archive, pages, 0)
    given_up = archive.begin(BackupType.INCREMENTAL, parent=oldest)
    for number in (1, 2, 3):
        given_up.put_log(*write_log(tmp_path, number))
    given_up.put_log(*write_log(tmp_path, 1, history="aaaaaaaaaaaaaaaa"))
    given_up.abort("test")
    assert archive.prune_logs(reason="test").count == 1, "a history that no backup knows"
    assert len(below(store, archive, "log/")) == 3, "the oldest full is at 0: they may still be needed"
    take_full(archive, pages, 20)
    assert archive.prune_logs(reason="test").count == 0, "the oldest full is still at 0"
    archive.delete_backup(oldest.record.id, reason="test")
    assert archive.prune_logs(reason="test").count == 2
    assert [name[-1] for name in below(store, archive, "log/")] == ["3"]
    assert not below(store, archive, "tomb/")


def test_no_log_is_pruned_while_a_record_cannot_be_read(
    store: MemoryStore, archive: DatabaseArchive, pages: Path, tmp_path: Path
) -> None:
    full = take_full(archive, pages, 0)
    increment = take_logs(archive, full, [write_log(tmp_path, 1)])
    name = f"db/{archive.dbid}/backup/{increment.record.id}"
    store.objects[name] = store.objects[name][:-1]
    with pytest.raises(Refused, match="can be removed"):
        archive.prune_logs(reason="test")
    archive.delete_backup(increment.record.id, reason="its record is damaged")
    assert ids(archive) == [full.record.id]


def test_sweep_removes_what_a_dead_backup_left_and_reports_what_it_must_not_touch(
    store: MemoryStore, archive: DatabaseArchive, pages: Path
) -> None:
    kept = take_full(archive, pages, 0)
    lost = take_full(archive, pages, 0)
    dead = archive.begin(BackupType.FULL, parent=None)
    store_file(FileSource(pages), dead)
    del store.objects[f"db/{archive.dbid}/backup/{lost.record.id}"]

    assert archive.sweep(holding_lease=False).aborted == [], "this process is alive"
    swept = archive.sweep(holding_lease=True)
    assert swept.aborted == [dead.label]
    assert swept.removed_objects > 0
    (orphan,) = swept.orphans
    assert orphan.backup_id == lost.record.id
    assert len(below(store, archive, f"data/{lost.record.id}")) == len(kept.record.files[0].segments)
    assert ids(archive) == [kept.record.id]
    assert archive.sweep(holding_lease=True).sentences == []


def test_an_abort_record_stays_for_thirty_days(
    store: MemoryStore, archive: DatabaseArchive, clock: ObedientClock
) -> None:
    archive.begin(BackupType.FULL, parent=None).abort("test")
    clock.sleep(timedelta(days=29).total_seconds())
    archive.sweep(holding_lease=True)
    assert len(archive.list().aborted) == 1
    clock.sleep(timedelta(days=2).total_seconds())
    archive.sweep(holding_lease=True)
    assert archive.list().aborted == ()


def test_a_clock_that_is_days_off_loses_nothing(
    store: MemoryStore, archive: DatabaseArchive, clock: ObedientClock, pages: Path
) -> None:
    full = take_full(archive, pages, 0)
    for days in (-2, 4, -2):
        clock.sleep(timedelta(days=days).total_seconds())
        archive.sweep(holding_lease=True)
        take_full(archive, pages, 1)
        assert full.record.id in ids(archive)
    assert len(ids(archive)) == 4
    assert verify_database(archive, Level.DATA).sound


def test_a_deletion_that_had_only_been_ordered_is_decided_anew(
    store: MemoryStore, archive: DatabaseArchive, pages: Path
) -> None:
    """What was expendable when the order was given may be the last good backup by now."""
    full = take_full(archive, pages, 0)
    steps.arm("fail", 1, "archive.delete")
    try:
        with pytest.raises(BackupdError):
            archive.delete_backup(full.record.id, reason="expired")
    finally:
        steps.disarm()
    assert below(store, archive, "tomb/")
    (sentence,) = archive.sweep(holding_lease=True).sentences
    assert "the next prune decides" in sentence
    assert ids(archive) == [full.record.id]
    assert not below(store, archive, "tomb/")
    assert verify_database(archive, Level.DATA).sound


def test_a_damaged_order_to_delete_is_taken_back(store: MemoryStore, archive: DatabaseArchive, pages: Path) -> None:
    full = take_full(archive, pages, 0)
    store.objects[f"db/{archive.dbid}/tomb/{full.record.id}.json"] = b"not an order"
    (sentence,) = archive.sweep(holding_lease=True).sentences
    assert "damaged" in sentence
    assert ids(archive) == [full.record.id]
    take_full(archive, pages, 1)
