"""Builds real archives for tests: a clock that obeys, files of pages, log files, whole backups."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from backupd.archive.database import DatabaseArchive
from backupd.archive.keys import ArchiveKeys
from backupd.archive.open_backup import OpenBackup
from backupd.archive.repository import Repository
from backupd.engines.file_reader import FileReader
from backupd.model.position import Position
from backupd.model.records import (
    ArchivedBackup,
    BackupRecord,
    BackupType,
    LogFile,
    LogKind,
    StoredFile,
    StoredLog,
)
from backupd.pages import page_hashes
from backupd.pipeline.express import PageBase
from backupd.pipeline.store import store_file
from backupd.ports import Extent, ObjectStore

HISTORY = "5f3a9c21d0e47b86"
PAGE_BYTES = 4096


class ObedientClock:
    """Stands still until it is told; ``sleep`` moves it."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 22, 1, 0, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class FileSource(FileReader):
    """A file of pages; pages that differ from ``expected`` are bad (None: all are good)."""

    path: Path
    name: str = "app.db"
    page_bytes: int = PAGE_BYTES
    expected: np.ndarray | None = None

    def __post_init__(self) -> None:
        super().__init__(self.path)
        self.size_bytes = self.path.stat().st_size
        self.page_count = self.size_bytes // self.page_bytes

    def extents(self) -> Sequence[Extent]:
        return (Extent("pages", 0, self.page_count),)

    def words(self, pages: Sequence[int]) -> str:
        return f"page {list(pages)} of {self.name}"

    def bad_pages(self, first_page: int, pages: memoryview, hashes: np.ndarray) -> Sequence[int]:
        if self.expected is None:
            return ()
        wrong = np.flatnonzero(self.expected[first_page : first_page + len(hashes)] != hashes)
        return [first_page + int(index) for index in wrong]


def write_pages(path: Path, page_count: int, seed: int = 1) -> Path:
    """A file of pages that compress to about half."""
    source = random.Random(seed)
    with path.open("wb") as file:
        for _ in range(page_count):
            file.write(source.randbytes(PAGE_BYTES // 2) + b"the same words again " * 100)
            file.truncate(file.seek(-(-file.tell() // PAGE_BYTES) * PAGE_BYTES))
    size = page_count * PAGE_BYTES
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def hashes_of(path: Path) -> np.ndarray:
    """The page map that the file must have."""
    return page_hashes(path.read_bytes(), PAGE_BYTES)


def write_log(directory: Path, number: int, *, history: str = HISTORY, entries: int = 10) -> tuple[LogFile, Path]:
    """A log file that goes from entry ``(number - 1) * entries`` to ``number * entries``."""
    data = random.Random(f"{history}{number}").randbytes(5000) + bytes(5000)
    path = directory / f"{history}-{number:016x}.wlog"
    path.write_bytes(data)
    log = LogFile(
        history=history,
        number=number,
        kind=LogKind.FRAMES,
        start=Position(history, (number - 1) * entries),
        end=Position(history, number * entries),
        size_bytes=len(data),
        digest=hashlib.sha256(data).hexdigest(),
        previous_digest="",
        first_commit_at=datetime(2026, 11, 22, tzinfo=UTC),
    )
    return log, path


def open_archive(
    store: ObjectStore,
    clock: ObedientClock | None = None,
    identity: str | None = "pair-1",
    keys: ArchiveKeys | None = None,
    database: str = "orders",
) -> DatabaseArchive:
    """The part of the database ``orders``; everything is made when it is missing."""
    return Repository.create(store, clock or ObedientClock(), keys).database(database, "sqlite", identity)


def record_of(
    backup: OpenBackup,
    backup_type: BackupType,
    start: Position,
    end: Position,
    *,
    parent: ArchivedBackup | None = None,
    files: tuple[StoredFile, ...] = (),
    logs: tuple[StoredLog, ...] = (),
) -> BackupRecord:
    """A record that fits the open backup."""
    at = datetime(2026, 11, 22, 1, 0, 0, tzinfo=UTC)
    return BackupRecord(
        id=backup.label,
        database="orders",
        engine="sqlite",
        type=backup_type,
        source_copy="b",
        source_role="passive",
        source_host="host",
        started_at=at,
        finished_at=at,
        covers_until=at,
        log_start=start,
        log_end=end,
        parent=parent.record.id if parent else None,
        parent_sha256=parent.sha256 if parent else None,
        nonce=backup.nonce,
        files=files,
        logs=logs,
        notes=("a note",),
    )


def take_full(
    archive: DatabaseArchive, path: Path, offset: int, backup_type: BackupType = BackupType.FULL, history: str = HISTORY
) -> ArchivedBackup:
    """A full (or copy) of the file, at that position."""
    backup = archive.begin(backup_type, parent=None)
    result = store_file(FileSource(path), backup, level=1)
    assert result.file is not None
    position = Position(history, offset)
    return backup.commit(record_of(backup, backup_type, position, position, files=(result.file,)))


def take_express(
    archive: DatabaseArchive, parent: ArchivedBackup, path: Path, before: Path, offset: int
) -> ArchivedBackup:
    """An express full of the file on ``parent``, whose file was as ``before`` is now."""
    backup = archive.begin(BackupType.EXPRESS, parent=parent)
    source = FileSource(before)
    result = store_file(FileSource(path), backup, level=1, base=PageBase(hashes_of(before), source.extents()))
    assert result.file is not None
    position = Position(HISTORY, offset)
    made = record_of(backup, BackupType.EXPRESS, position, position, parent=parent, files=(result.file,))
    return backup.commit(made)


def take_logs(
    archive: DatabaseArchive,
    parent: ArchivedBackup,
    logs: Sequence[tuple[LogFile, Path]],
    backup_type: BackupType = BackupType.INCREMENTAL,
) -> ArchivedBackup:
    """An increment of those log files on top of ``parent``."""
    backup = archive.begin(backup_type, parent=parent)
    stored = tuple(backup.put_log(log, path) for log, path in logs)
    start = parent.record.log_end
    end = logs[-1][0].end if logs else start
    return backup.commit(record_of(backup, backup_type, start, end, parent=parent, logs=stored))


def take_full_with_log(archive: DatabaseArchive, pages: Path, logs: Sequence[tuple[LogFile, Path]]) -> ArchivedBackup:
    """A full that names the log since the backup before it."""
    backup = archive.begin(BackupType.FULL, parent=None)
    result = store_file(FileSource(pages), backup, level=1)
    stored = tuple(backup.put_log(log, path) for log, path in logs)
    assert result.file is not None
    at = Position(HISTORY, logs[-1][0].end.offset)
    return backup.commit(record_of(backup, BackupType.FULL, at, at, files=(result.file,), logs=stored))
