"""The log files of the passive that an increment takes: closed, in order, without a gap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backupd.engines.sqlite.logdir import LogDir
from backupd.errors import NotHealthy
from backupd.model.position import Position
from backupd.ports import ClosedLog


def gap_free(database: str, root: Path, after: Position, until: Position) -> Sequence[ClosedLog]:
    """All logs below ``root`` that cover what is after ``after`` up to ``until``.

    Raises:
        NotHealthy: a log is missing, or the two positions belong to different histories.
    """
    if not after.same_history(until):
        raise NotHealthy(
            f"there is no log from {after} to {until}",
            because="they belong to different histories",
            next_step=f"backupctl backup {database} --type full",
        )
    logs = LogDir(root).history(until.history)
    found = [ClosedLog(log, path) for log, path in logs.closed(after.offset) if log.start.offset < until.offset]
    expected = after
    for closed in found:
        if closed.log.start != expected:
            break
        expected = closed.log.end
    if expected != until:
        raise NotHealthy(
            f"the passive's log from {after} to {until} has a gap",
            because=f"it goes without a gap only up to {expected}",
            next_step=f"backupctl backup {database} --type full",
        )
    return found
