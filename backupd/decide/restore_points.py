"""The named restore points that backups have noted with their log files, so that no log is read for them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from backupd.decide.log_near import known_ends, logs_of
from backupd.decide.restore_path import RecoveryWindow
from backupd.decide.timeline import POINT, Moment
from backupd.model.kinds import LogKind
from backupd.model.records import ArchivedBackup, LogFile, RestorePoint, StoredLog, own_point_time


def noted_points(backups: Sequence[ArchivedBackup], windows: Sequence[RecoveryWindow]) -> tuple[RestorePoint, ...]:
    """Every point that is noted and can be restored, once, with a time.

    That is the time of the last commit before it that any file tells, or of the last backup's own point, whose name
    has it: where nobody writes, the last commit may be weeks old.

    Args:
        backups: every committed backup of the database.
        windows: what can be restored (``recovery_windows`` of them).
    """
    ends = known_ends(backups)
    found: dict[tuple[str, int], RestorePoint] = {}
    before: tuple[str, datetime] | None = None
    own: datetime | None = None
    for log in (stored.log for stored in logs_of(backups)):
        last = before[1] if before and before[0] == log.history else None
        for point in log.restore_points or ():
            at = point.at or last or log.first_commit_at or ends[log.history, log.number]
            own = own_point_time(point.name) or own
            if _can_be_restored(point, windows):
                found.setdefault(point.key, replace(point, at=max(at, own) if own else at))
        if log.last_commit_at is not None:
            before = log.history, log.last_commit_at
        own = None if own and log.last_commit_at and log.last_commit_at > own else own
    return tuple(found.values())


def _can_be_restored(point: RestorePoint, windows: Sequence[RecoveryWindow]) -> bool:
    """By its place; histories are timelines, and a window may go over several."""
    history, offset = point.after.history, point.after.offset
    return any(
        _number(one.from_position.history) <= _number(history) <= _number(one.to_position.history)
        and one.from_position.offset <= offset <= one.to_position.offset
        for one in windows
    )


def _number(history: str) -> int:
    return int(history) if history.isdecimal() else 0


def all_noted(logs: Iterable[StoredLog]) -> bool:
    """Whether nobody needs to read these files for the restore points in them."""
    return all(_is_noted(stored.log) for stored in logs)


def _is_noted(log: LogFile) -> bool:
    return log.kind is not LogKind.SEGMENT or log.restore_points is not None


def moments_of_points(
    database: str, points: Iterable[RestorePoint], say: Callable[[str], str] = str
) -> Iterator[Moment]:
    """What people gave a name, for the timeline; the points that backups themselves make are left out.

    Args:
        database: its name.
        points: with times.
        say: turns the command that restores to one into what it must be where it is shown.
    """
    for point in points:
        if point.at is not None and not point.is_own:
            command = say(f"backupctl restore {database} --to-name {shlex.quote(point.name)}")
            yield Moment(point.at, POINT, f"restore point {point.name!r}: {command}")
