"""A chain may cross a failover: the same places of the log, seen from the history that came out of another one.

A standby that is promoted begins a new history (PostgreSQL: a timeline), and
everything up to there is its past as well.  Positions of different histories
still never compare; what lies on the lineage of one history is first written
down in that history's own coordinates, and everything else stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backupd.model.position import Position, rebase
from backupd.model.records import ArchivedBackup, BackupRecord, LogFile, Stamp, Stamps, StoredLog

Ancestry = tuple[Position, ...]


def seen_from(position: Position, history: str, ancestry: Sequence[Position]) -> Position:
    """The same place in the coordinates of ``history``; the position itself when it is not on that lineage."""
    return rebase(position, history, ancestry) or position


def stamps_seen_from(stamps: Stamps, history: str | None, ancestry: Sequence[Position]) -> Stamps:
    """The stamps with their ends in the coordinates of ``history``."""
    if history is None or not ancestry:
        return stamps

    def moved(stamp: Stamp | None) -> Stamp | None:
        return None if stamp is None else replace(stamp, end=seen_from(stamp.end, history, ancestry))

    return Stamps(moved(stamps.full), moved(stamps.incremental))


def archived_ancestry(history: str | None, backups: Sequence[ArchivedBackup]) -> Ancestry:
    """What the archive itself knows of the lineage: log files that begin in one history and end in the next."""
    parents: dict[str, Position] = {}
    for backup in backups:
        for stored in backup.record.logs:
            log = stored.log
            if log.start.history != log.end.history:
                parents.setdefault(log.end.history, log.start)
    found: list[Position] = []
    while history is not None and history in parents and len(found) <= len(parents):
        found.append(parents[history])
        history = parents[history].history
    return tuple(reversed(found))


@dataclass(frozen=True, slots=True)
class Lineage:
    """The backups of the archive as one history sees them; what is found is given back as the archive has it."""

    history: str | None
    ancestry: Ancestry
    backups: tuple[ArchivedBackup, ...]
    stored: tuple[ArchivedBackup, ...]

    def as_stored(self, backup: ArchivedBackup) -> ArchivedBackup:
        """The same backup with the positions of its own record."""
        return next((one for one in self.stored if one.record.id == backup.record.id), backup)

    def logs_as_stored(self, logs: Sequence[StoredLog]) -> tuple[StoredLog, ...]:
        """The same log files with the positions of their own records."""
        if not self.ancestry:
            return tuple(logs)
        names = {stored.name: stored for backup in self.stored for stored in backup.record.logs}
        return tuple(names.get(log.name, log) for log in logs)


def lineage_of(
    history: str | None, backups: Sequence[ArchivedBackup], ancestry: Sequence[Position] | None = None
) -> Lineage:
    """All backups, seen from ``history``.

    Args:
        history: the history to look from; None sees everything as it is.
        backups: every committed backup of the database.
        ancestry: what the servers say of it; None: what the archive knows.
    """
    known = tuple(ancestry) if ancestry is not None else archived_ancestry(history, backups)
    if history is None or not known:
        return Lineage(history, (), tuple(backups), tuple(backups))
    moved = tuple(replace(one, record=_record_from(one.record, history, known)) for one in backups)
    return Lineage(history, known, moved, tuple(backups))


def _record_from(record: BackupRecord, history: str, ancestry: Ancestry) -> BackupRecord:
    return replace(
        record,
        log_start=seen_from(record.log_start, history, ancestry),
        log_end=seen_from(record.log_end, history, ancestry),
        logs=tuple(replace(stored, log=_log_from(stored.log, history, ancestry)) for stored in record.logs),
    )


def _log_from(log: LogFile, history: str, ancestry: Ancestry) -> LogFile:
    end = seen_from(log.end, history, ancestry)
    return replace(log, history=end.history, start=seen_from(log.start, history, ancestry), end=end)
