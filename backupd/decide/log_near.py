"""Chooses the archived log files in which the commits of a time lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from backupd.model.records import ArchivedBackup, LogKind, StoredLog


@dataclass(frozen=True, slots=True)
class LogStretch:
    """Neighbouring log files of one history, oldest first, without a gap."""

    history: str
    logs: tuple[StoredLog, ...]

    @property
    def stored_bytes(self) -> int:
        """What fetching them reads."""
        return sum(stored.stored_bytes for stored in self.logs)


def logs_of(backups: Sequence[ArchivedBackup]) -> tuple[StoredLog, ...]:
    """Every log file once, by history and number; seeds carry pages and no commit, and are left out.

    Of several that name it the first one that has noted its restore points, else the first.
    """
    found: dict[tuple[str, int], StoredLog] = {}
    for backup in backups:
        for stored in backup.record.logs:
            if stored.log.kind is not LogKind.SEED:
                one = found.setdefault((stored.log.history, stored.log.number), stored)
                if one.log.restore_points is None and stored.log.restore_points is not None:
                    found[stored.log.history, stored.log.number] = stored
    return tuple(found[key] for key in sorted(found))


def log_near(
    backups: Sequence[ArchivedBackup], since: datetime, until: datetime, *, before: int = 0
) -> tuple[LogStretch, ...]:
    """The stretches of log that may hold a commit from ``since`` to ``until``, oldest first.

    A log file without a time (it holds no commit, or nobody could read its times) counts as
    lying between its neighbours' times, and before the end of the oldest backup that names it.

    Args:
        backups: every committed backup of the database.
        since: the first moment.
        until: the last moment.
        before: how many files more to take before each stretch, where the archive has them: what a commit
            did may be written earlier than the commit.
    """
    ends = known_ends(backups)
    chosen: list[LogStretch] = []
    for history, several in groupby(logs_of(backups), key=lambda stored: stored.log.history):
        logs = list(several)
        for first, last in _runs(_wanted(logs, ends, since, until), logs):
            start = first
            while start > 0 and first - start < before and _follow(logs[start - 1], logs[start]):
                start -= 1
            chosen.append(LogStretch(history, tuple(logs[start:last])))
    return tuple(sorted(chosen, key=lambda one: (_time_of(one, ends), one.history, one.logs[0].log.number)))


def known_ends(backups: Sequence[ArchivedBackup]) -> dict[tuple[str, int], datetime]:
    """For each log file the end of the oldest backup that names it: all its commits are before that."""
    ends: dict[tuple[str, int], datetime] = {}
    for backup in backups:
        for stored in backup.record.logs:
            key, at = (stored.log.history, stored.log.number), backup.record.finished_at
            ends[key] = min(ends.get(key, at), at)
    return ends


def _wanted(
    logs: Sequence[StoredLog], ends: dict[tuple[str, int], datetime], since: datetime, until: datetime
) -> list[bool]:
    """Which files may hold a commit of that time."""
    after: datetime | None = None
    finishes: list[datetime] = []
    for stored in reversed(logs):
        log = stored.log
        known = (log.first_commit_at, log.last_commit_at) if log.first_commit_at and log.last_commit_at else ()
        finishes.append(max(known) if known else after or ends[log.history, log.number])
        after = min(known) if known else after
    before: datetime | None = None
    wanted: list[bool] = []
    for stored, last in zip(logs, reversed(finishes), strict=True):
        log = stored.log
        known = (log.first_commit_at, log.last_commit_at) if log.first_commit_at and log.last_commit_at else ()
        first = min(known) if known else before
        wanted.append(last >= since and (first is None or first <= until))
        before = max(known) if known else before
    return wanted


def _follow(one: StoredLog, other: StoredLog) -> bool:
    return other.log.number == one.log.number + 1


def _runs(wanted: Sequence[bool], logs: Sequence[StoredLog]) -> Iterator[tuple[int, int]]:
    """From and up to where files are wanted that follow one another."""
    start: int | None = None
    for at, want in enumerate(wanted):
        if start is not None and (not want or not _follow(logs[at - 1], logs[at])):
            yield start, at
            start = None
        if want and start is None:
            start = at
    if start is not None:
        yield start, len(wanted)


def _time_of(stretch: LogStretch, ends: dict[tuple[str, int], datetime]) -> datetime:
    for stored in stretch.logs:
        if stored.log.first_commit_at is not None:
            return stored.log.first_commit_at
    return ends[stretch.history, stretch.logs[0].log.number]
