"""The points nearest to a restored state that are known to be good: ends of backups, before it and after it (pure)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from backupd.decide.lineage import lineage_of, seen_from
from backupd.decide.restore_path import RestorePath, RestoreWish, find_restore_path
from backupd.errors import NotFound
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup


@dataclass(frozen=True, slots=True)
class GoodPoint:
    """The end of a backup: a whole state of the database; ``verified`` when all that leads there was read and sound."""

    backup: str
    at: datetime
    position: Position
    verified: bool


@dataclass(frozen=True, slots=True)
class NearPoints:
    """The nearest before and after a restored state, on its own line of histories; None where there is none."""

    before: GoodPoint | None
    after: GoodPoint | None


def near_points(
    route: RestorePath,
    backups: Sequence[ArchivedBackup],
    *,
    unfit: Mapping[str, str],
    verified: Collection[str],
) -> NearPoints:
    """What else could be restored if the state turns out to be the wrong one.

    Args:
        route: the restore.
        backups: every committed backup of the database.
        unfit: ids that are known to be damaged.
        verified: ids of which every byte was read and sound.
    """
    line = lineage_of(route.end.history, backups)
    sides: dict[int, list[ArchivedBackup]] = {-1: [], 0: [], 1: []}
    for backup in sorted(line.backups, key=lambda one: (one.record.covers_until, one.record.id)):
        place = seen_from(backup.record.log_end, route.end.history, line.ancestry)
        if backup.record.id not in unfit:
            sides[_side(backup, place, route)].append(backup)

    def nearest(candidates: Iterable[ArchivedBackup]) -> GoodPoint | None:
        points = (_point(backup, backups, unfit, verified) for backup in candidates)
        return next((point for point in points if point is not None), None)

    return NearPoints(nearest(reversed(sides[-1])), nearest(sides[1]))


def _side(backup: ArchivedBackup, place: Position, route: RestorePath) -> int:
    """-1 for a backup that ends before the restored state, 1 after it, 0 at it or nobody can say."""
    if route.at is not None:
        at = backup.record.covers_until
        return (at > route.at) - (at < route.at)
    reached = route.until or route.end
    if not place.same_history(reached):
        return 0
    return (place > reached) - (place < reached)


def _point(
    backup: ArchivedBackup, backups: Sequence[ArchivedBackup], unfit: Mapping[str, str], verified: Collection[str]
) -> GoodPoint | None:
    try:
        path = find_restore_path(RestoreWish.of_backup(backup.record.id), backups, unfit=unfit)
    except NotFound:
        return None
    record = backup.record
    return GoodPoint(record.id, record.covers_until, record.log_end, all(name in verified for name in path.backups))
