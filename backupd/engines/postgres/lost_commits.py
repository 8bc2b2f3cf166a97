"""How many transactions of the active lie after a place of its log: what a restore to there would lose."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from backupd.engines.postgres.wal_lines import record_lines
from backupd.engines.postgres.wal_records import ended
from backupd.errors import NotHealthy
from backupd.model.position import Position
from backupd.steps import step

_NOT_THERE = ("could not find file", "could not open", "could not locate")
_SECONDS_MAX = 20.0  # somebody waits for the plan


def commits_after(waldump: Path, wal: Path, position: Position, at: datetime | None) -> int | None:
    """Commits in the log of a data directory after ``position``, and after ``at`` when it is given; its end included.

    None when the log does not go back so far, or is too long to be read while somebody waits.
    """
    step("pg.restore.count_commits")
    try:
        with record_lines(
            waldump,
            wal,
            timeline=int(position.history),
            start=position.offset,
            rmgrs=("Transaction",),
            seconds_max=_SECONDS_MAX,
        ) as lines:
            commits = (end.at for end in ended(iter(lines)) if end.committed and end.at is not None)
            count = sum(at is None or moment > at for moment in commits)
    except NotHealthy:
        return None
    # It ends with an error where the log ends; one that was killed has not come so far.
    stopped = lines.status < 0 or any(words in lines.complaint for words in _NOT_THERE)
    return None if stopped else count
