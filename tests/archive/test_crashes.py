"""A backup and a deletion that fail or die at every numbered step leave all of it, or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backupd import steps
from backupd.archive.database import DatabaseArchive
from backupd.archive.local import LocalStore
from backupd.archive.verify import Level, verify_database
from backupd.engines.file_reader import FileReader
from backupd.errors import BackupdError
from backupd.model.position import Position
from backupd.model.records import BackupType
from backupd.pipeline import layout
from backupd.pipeline.store import store_file
from tests.archive_builders import (
    HISTORY,
    FileSource,
    open_archive,
    record_of,
    take_full,
    take_logs,
    write_log,
    write_pages,
)

STEPS_MAX = 200


def back_up(archive: DatabaseArchive, directory: Path) -> None:
    """As a run would: everything between begin and commit is given up on any failure."""
    backup = archive.begin(BackupType.FULL, parent=None)
    try:
        result = store_file(FileSource(directory / "app.db"), backup, level=1)
        stored = backup.put_log(*write_log(directory, 1))
        assert result.file is not None
        backup.prove()
        at = Position(HISTORY, 10)
        backup.commit(record_of(backup, BackupType.FULL, at, at, files=(result.file,), logs=(stored,)))
    except BackupdError:
        try:
            backup.abort("it failed")
        except BackupdError:
            pass
        raise


def delete_all(archive: DatabaseArchive) -> None:
    for backup in reversed(archive.list().backups):
        archive.delete_backup(backup.record.id, reason="test")
    archive.prune_logs(reason="test")


def settle(directory: Path) -> DatabaseArchive:
    """What recover does, in a process that holds the lease."""
    archive = open_archive(LocalStore.prepare(directory / "archive"))
    swept = archive.sweep(holding_lease=True)
    assert swept.orphans == ()
    return archive


def assert_whole_or_nothing(archive: DatabaseArchive) -> None:
    """What is listed is sound to the last byte; what is not listed is not there."""
    result = verify_database(archive, Level.DATA)
    assert result.findings == []
    listed = {backup.record.id for backup in archive.list().backups}
    for kind in ("data", "map", "intent", "tomb"):
        for each in archive.store.list(f"db/{archive.dbid}/{kind}/"):
            assert each.name.split("/")[3] in listed, each.name


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_pages(tmp_path / "app.db", 100)
    open_archive(LocalStore.prepare(tmp_path / "archive"))
    return tmp_path


def test_a_backup_that_fails_at_any_step(directory: Path) -> None:
    for number in range(1, STEPS_MAX):
        archive = open_archive(LocalStore.prepare(directory / "archive"))
        before = len(archive.list().backups)
        steps.arm("fail", number)
        failed = False
        try:
            back_up(archive, directory)
        except BackupdError:
            failed = True
        finally:
            counted = steps.disarm()
        archive = settle(directory)
        assert_whole_or_nothing(archive)
        assert len(archive.list().backups) in ((before, before + 1) if failed else (before + 1,))
        if counted < number:
            assert not failed
            return
    pytest.fail("the backup has more steps than this test allows for")


def test_a_deletion_that_fails_at_any_step(directory: Path) -> None:
    for number in range(1, STEPS_MAX):
        archive = open_archive(LocalStore.prepare(directory / "archive"))
        full = take_full(archive, directory / "app.db", 10)
        take_logs(archive, full, [write_log(directory, number) for number in (2, 3)])
        steps.arm("fail", number)
        try:
            delete_all(archive)
        except BackupdError:
            pass
        finally:
            counted = steps.disarm()
        archive = settle(directory)
        assert_whole_or_nothing(archive)
        delete_all(archive)
        left = [each.name for each in archive.store.list("db/") if "/identity" not in each.name]
        assert left == []
        if counted < number:
            return
    pytest.fail("the deletion has more steps than this test allows for")


PROGRAM = """
import sys
from pathlib import Path
from backupd.engines.file_reader import FileReader
from backupd.pipeline import layout
FileReader.block_bytes, layout.SEGMENT_BYTES = {block}, {segment}
from tests.archive.test_crashes import back_up, delete_all
from tests.archive_builders import open_archive
from backupd.archive.local import LocalStore
archive = open_archive(LocalStore.prepare(Path(sys.argv[1]) / "archive"))
back_up(archive, Path(sys.argv[1]))
delete_all(archive)
"""


@pytest.mark.slow
def test_a_backup_and_a_deletion_that_die_at_any_step(directory: Path) -> None:
    program = PROGRAM.format(block=FileReader.block_bytes, segment=layout.SEGMENT_BYTES)
    root = Path(__file__).parents[2]
    for number in range(1, STEPS_MAX):
        done = subprocess.run(
            [sys.executable, "-c", program, str(directory)],
            env={**os.environ, "BACKUPD_FAULT": f"die:{number}", "PYTHONPATH": str(root)},
            cwd=root,
            check=False,
            timeout=60,
        )
        archive = settle(directory)
        assert_whole_or_nothing(archive)
        if done.returncode == 0:
            return
        assert done.returncode == -signal.SIGKILL
    pytest.fail("the program has more steps than this test allows for")
