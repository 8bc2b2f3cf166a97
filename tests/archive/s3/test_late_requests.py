"""A process that was killed may leave a request on its way: the server acts on it when the dead run was recovered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backupd.archive import names
from backupd.archive.database import DatabaseArchive
from backupd.archive.holder import this_process
from backupd.archive.lease import DatabaseLease
from backupd.archive.local import LocalStore
from backupd.archive.verify import Level, verify_database
from backupd.errors import Refused
from backupd.model.records import ArchivedBackup, BackupType
from backupd.ports import ObjectStore
from tests.archive_builders import ObedientClock, open_archive, take_full, take_logs, write_log, write_pages
from tests.s3_servers import S3Server

HOUR_SECONDS = 3600.0


def died_deleting(store: ObjectStore, clock: ObedientClock, directory: Path) -> tuple[DatabaseArchive, ArchivedBackup]:
    """An archive whose lease we hold, and its newest backup, which a process that is gone had ordered to be deleted."""
    archive = open_archive(store, clock)
    full = take_full(archive, write_pages(directory / "app.db", 4), 0)
    tip = take_logs(archive, full, [write_log(directory, 1)])
    dead = replace(this_process(), started=1)
    assert dead.is_gone()
    order: dict[str, object] = {
        "label": tip.record.id,
        "reason": "",
        "by": "",
        "logs": [one.name for one in tip.record.logs],
    }
    order |= {"at": clock.now().isoformat(), "holder": dead.to_json(), "lease": "d" * 32}
    archive.sealed.create("tomb", names.tomb_name(archive.dbid, tip.record.id, "d" * 8), order)
    archive.lease = DatabaseLease(archive, run="a test", heartbeat=False)
    archive.lease.acquire()
    archive.sweep(holding_lease=True)
    return archive, tip


def tombs(archive: DatabaseArchive) -> list[str]:
    return [each.name for each in archive.store.list(names.tombs_prefix(archive.dbid))]


def test_a_record_may_still_be_deleted_when_its_deletion_was_recovered(server: S3Server, tmp_path: Path) -> None:
    clock = ObedientClock()
    archive, tip = died_deleting(server.store(), clock, tmp_path)
    with pytest.raises(Refused, match="cannot be built on"):
        archive.begin(BackupType.INCREMENTAL, parent=tip)
    archive.store.delete(names.record_name(archive.dbid, tip.record.id))
    assert verify_database(archive, Level.DATA).findings == []
    archive.sweep(holding_lease=True)
    assert archive.orphans() == ()
    assert not list(archive.store.list(names.logs_prefix(archive.dbid)))
    clock.sleep(HOUR_SECONDS + 1)
    archive.sweep(holding_lease=True)
    assert tombs(archive) == []


def test_when_nothing_can_be_on_its_way_any_more_it_is_taken_back(server: S3Server, tmp_path: Path) -> None:
    clock = ObedientClock()
    archive, tip = died_deleting(server.store(), clock, tmp_path)
    assert len(tombs(archive)) == 1
    clock.sleep(HOUR_SECONDS + 1)
    archive.sweep(holding_lease=True)
    assert tombs(archive) == []
    archive.begin(BackupType.INCREMENTAL, parent=tip).withdraw()


def test_in_a_directory_it_is_taken_back_at_once(tmp_path: Path) -> None:
    archive, tip = died_deleting(LocalStore.prepare(tmp_path / "archive"), ObedientClock(), tmp_path)
    assert tombs(archive) == []
    archive.begin(BackupType.INCREMENTAL, parent=tip).withdraw()
