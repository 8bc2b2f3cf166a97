"""Builds small archives: log with commits, fulls and increments on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from backupd.model.position import Position
from backupd.model.records import ArchivedBackup, BackupRecord, BackupType, LogFile, LogKind, StoredLog

HISTORY = "5f3a9c21d0e47b86"
EPOCH = datetime(2026, 11, 1, tzinfo=UTC)


def minute(number: float) -> datetime:
    """A moment of the tests' world."""
    return EPOCH + timedelta(minutes=number)


def place(offset: int, history: str = HISTORY) -> Position:
    return Position(history, offset)


@dataclass(frozen=True)
class Commit:
    """A commit ends at ``offset`` and happened at ``at`` (minutes)."""

    offset: int
    at: float


def make_log(number: int, commits: Sequence[Commit], start: int, history: str = HISTORY) -> StoredLog:
    """A log file of these commits, or of one control record when there are none."""
    kind = LogKind.FRAMES if commits else LogKind.CONTROL
    log = LogFile(
        history=history,
        number=number,
        kind=kind,
        start=place(start, history),
        end=place(commits[-1].offset if commits else start + 1, history),
        size_bytes=4096,
        digest=f"{history}-{number}",
        previous_digest=f"{history}-{number - 1}",
        first_commit_at=minute(commits[0].at) if commits else None,
        last_commit_at=minute(commits[-1].at) if commits else None,
    )
    return StoredLog(log, f"db/orders/log/{history}/{number:016x}", 1000, "00")


def plain_logs(count: int, history: str = HISTORY) -> list[StoredLog]:
    """Log files 1 to ``count``, each with one commit: file n ends at offset n, at minute n."""
    return [make_log(number, [Commit(number, number)], number - 1, history) for number in range(1, count + 1)]


def make_backup(
    backup_id: str,
    backup_type: BackupType,
    end: int,
    *,
    parent: ArchivedBackup | None = None,
    logs: Sequence[StoredLog] = (),
    covers: float | None = None,
    history: str = HISTORY,
) -> ArchivedBackup:
    """A committed backup that ends at ``end``; an increment begins where its parent ends."""
    at = minute(end if covers is None else covers)
    record = BackupRecord(
        id=backup_id,
        database="orders",
        engine="sqlite",
        type=backup_type,
        source_copy="b",
        source_role="passive",
        source_host="node-b",
        started_at=at,
        finished_at=at,
        covers_until=at,
        log_start=place(end, history) if parent is None else parent.record.log_end,
        log_end=place(end, history),
        parent=None if parent is None else parent.record.id,
        parent_sha256=None if parent is None else parent.sha256,
        nonce="nonce",
        logs=tuple(logs),
    )
    return ArchivedBackup(record, f"sha-of-{backup_id}")


def full(backup_id: str, end: int, *, covers: float | None = None, history: str = HISTORY) -> ArchivedBackup:
    return make_backup(backup_id, BackupType.FULL, end, covers=covers, history=history)


def increment(
    backup_id: str,
    parent: ArchivedBackup,
    end: int,
    logs: Sequence[StoredLog],
    *,
    backup_type: BackupType = BackupType.INCREMENTAL,
    covers: float | None = None,
) -> ArchivedBackup:
    """An increment that takes the log files after ``parent`` up to ``end`` out of ``logs``."""
    start = parent.record.log_end
    taken = [stored for stored in logs if stored.log.start >= start and stored.log.end.offset <= end]
    return make_backup(backup_id, backup_type, end, parent=parent, logs=taken, covers=covers, history=start.history)
