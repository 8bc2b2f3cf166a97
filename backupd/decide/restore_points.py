"""The named restore points that backups have noted with their log files, so that no log is read for them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from backupd.decide.log_near import known_ends, logs_of
from backupd.decide.timeline import POINT, Moment
from backupd.model.kinds import LogKind
from backupd.model.records import ArchivedBackup, LogFile, RestorePoint, StoredLog


def noted_points(backups: Sequence[ArchivedBackup]) -> tuple[RestorePoint, ...]:
    """Every point that is noted, once, with a time: of the last commit before it that any file tells.

    Args:
        backups: every committed backup of the database.
    """
    ends = known_ends(backups)
    found: dict[tuple[str, int], RestorePoint] = {}
    before: tuple[str, datetime] | None = None
    for log in (stored.log for stored in logs_of(backups)):
        last = before[1] if before and before[0] == log.history else None
        for point in log.restore_points or ():
            at = point.at or last or log.first_commit_at or ends[log.history, log.number]
            found.setdefault(point.key, replace(point, at=at))
        if log.last_commit_at is not None:
            before = log.history, log.last_commit_at
    return tuple(found.values())


def all_noted(logs: Iterable[StoredLog]) -> bool:
    """Whether nobody needs to read these files for the restore points in them."""
    return all(_is_noted(stored.log) for stored in logs)


def _is_noted(log: LogFile) -> bool:
    return log.kind is not LogKind.SEGMENT or log.restore_points is not None


def moments_of_points(database: str, points: Iterable[RestorePoint]) -> Iterator[Moment]:
    """What people gave a name, for the timeline; the points that backups themselves make are left out."""
    for point in points:
        if point.at is not None and not point.is_own:
            says = f"restore point {point.name!r}: backupctl restore {database} --to-name {shlex.quote(point.name)}"
            yield Moment(point.at, POINT, says)
