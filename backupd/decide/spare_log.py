"""Which log files before a full nothing kept leads to any more: such a full is bare, and they may go."""

from __future__ import annotations

from collections.abc import Sequence

from backupd.decide.lineage import lineage_of
from backupd.decide.log_walk import Goal, walk_log
from backupd.model.records import ArchivedBackup, BackupRecord, own_logs


def spare_logs(records: Sequence[BackupRecord]) -> dict[str, tuple[str, ...]]:
    """For each full or copy whose earlier log no kept point needs: the names of those log files, oldest first.

    A full names the log between the last chain and itself, so that no moment is
    lost.  When no backup among ``records`` leads to where that log begins, nothing can be
    replayed along it: the full needs only the log that makes its own pages whole.
    It is all of a full's earlier log or none of it.
    """
    needed: set[str] = set()
    before: dict[str, tuple[str, ...]] = {}
    for record in records:
        own = {stored.name for stored in (own_logs(record) if record.type.takes_pages else record.logs)}
        needed |= own
        if earlier := tuple(stored.name for stored in record.logs if stored.name not in own):
            before[record.id] = earlier
    if before:
        needed |= _led_along(records)
    return {backup_id: names for backup_id, names in before.items() if not needed.intersection(names)}


def _led_along(records: Sequence[BackupRecord]) -> set[str]:
    """All log files along which a restore from any full or copy can go on, also from a damaged one."""
    found: set[str] = set()
    backups = [ArchivedBackup(record, "") for record in records]
    for history in sorted({record.log_end.history for record in records}):
        lineage = lineage_of(history, backups)
        for base in lineage.backups:
            if base.record.type.takes_pages:
                walk = walk_log(base.record.log_end, Goal(None), lineage.backups, parted=True)
                found.update(stored.name for stored in walk.logs)
    return found
