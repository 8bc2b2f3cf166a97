"""The order of backups: by history and the place in it, then by time; never by name, for a name has a clock in it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from backupd.model.records import BackupRecord

_Rank = tuple[bool, datetime, int, str]


def in_order(records: Iterable[BackupRecord], current_history: str | None = None) -> list[BackupRecord]:
    """The backups, oldest first.

    Inside a history the log says what came first, whatever the clocks of the hosts
    said.  A history comes after the one that it came out of, where the archive's log knows
    that, and else after those whose last backup began earlier; the one that the pair
    lives in now (``current_history``) comes last.
    """
    found = list(records)
    latest: dict[str, datetime] = {}
    came_from: dict[str, str] = {}
    for record in found:
        history = record.log_end.history
        latest[history] = max(latest.get(history, record.started_at), record.started_at)
        for stored in record.logs:
            if stored.log.start.history != stored.log.end.history:
                came_from.setdefault(stored.log.end.history, stored.log.start.history)
    ranks = {history: _rank(history, latest, came_from, current_history) for history in latest}
    return sorted(
        found,
        key=lambda record: (
            ranks[record.log_end.history],
            record.log_end.offset,
            record.covers_until,
            record.started_at,
            record.finished_at,
            record.nonce,
        ),
    )


def _rank(history: str, latest: dict[str, datetime], came_from: dict[str, str], current: str | None) -> _Rank:
    """Where a history stands: never before one that it came out of, whatever the clocks of their hosts said."""
    line = [history]
    while (before := came_from.get(line[-1])) is not None and before not in line:
        line.append(before)
    return (history == current, max(latest[one] for one in line if one in latest), len(line), history)
