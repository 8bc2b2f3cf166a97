"""Finds what a passive can be made anew from without reading the active: a full on its way, and the log after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backupd.decide.lineage import lineage_of
from backupd.decide.log_walk import Goal, walk_log
from backupd.decide.restore_path import RestorePath, bases_of, build_path
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup


def find_seed_path(
    history: str,
    ancestry: Sequence[Position],
    backups: Sequence[ArchivedBackup],
    *,
    unfit: Mapping[str, str],
    active_log_from: Position | None,
) -> RestorePath | None:
    """The path to the newest place of ``history`` that the archive reaches; None when it leads nowhere.

    Args:
        history: the history that the active is in.
        ancestry: where it came from, by the servers.
        backups: every committed backup of the database.
        unfit: ids that are known to be damaged.
        active_log_from: where the log begins that the active still holds; the rest is streamed from there.
    """
    lineage = lineage_of(history, backups, ancestry)
    bases = bases_of(history, lineage.backups, unfit)
    for base in bases:
        walk = walk_log(base.record.log_end, Goal(None), lineage.backups, parted=True)
        if active_log_from is None or not walk.place.same_history(active_log_from) or walk.place >= active_log_from:
            return build_path(base, walk, bases[0], unfit, lineage)
    return None
