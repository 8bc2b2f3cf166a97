"""What could be restored when: windows, gaps, backups, drills and new histories of a database, on one line of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from backupd.decide.restore_path import RecoveryWindow
from backupd.model.records import ArchivedBackup, BackupRecord

_NONE_UNFIT: Mapping[str, str] = {}
FAILOVER = "failover"
DRILL = "drill"
STAMP = "stamp"
RESTORE = "restore"
POINT = "point"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which every moment can be restored (``because`` is empty), or none (it says why)."""

    from_time: datetime
    to_time: datetime
    because: str = ""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.to_time - self.from_time).total_seconds()


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened: ``kind`` is a backup's type or a word above; ``backup`` an id, or empty."""

    at: datetime
    kind: str
    says: str
    backup: str = ""
    sound: bool = True


@dataclass(frozen=True, slots=True)
class DrillFact:
    """A restore for practice: of which backup, when, and whether all was well."""

    backup: str
    at: datetime
    sound: bool
    because: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Windows and gaps cover all of ``from_time`` to ``to_time``, in order and without overlap; so are the moments."""

    from_time: datetime
    to_time: datetime
    windows: tuple[Stretch, ...]
    gaps: tuple[Stretch, ...]
    moments: tuple[Moment, ...]


def build_timeline(
    backups: Sequence[ArchivedBackup],
    windows: Sequence[RecoveryWindow],
    drills: Sequence[DrillFact],
    now: datetime,
    *,
    unfit: Mapping[str, str] = _NONE_UNFIT,
    besides: Iterable[Moment] = (),
) -> Timeline | None:
    """The line from the first moment that anything is known of up to now; None while nothing is.

    Args:
        backups: every committed backup of the database.
        windows: what can be restored (``recovery_windows`` of them).
        drills: the restores for practice.
        now: the moment that the line ends at, at the earliest.
        unfit: ids of backups that are damaged, with a sentence.
        besides: what else happened: stamps, restores, named restore points.
    """
    moments = [
        *(_of_backup(one.record, unfit) for one in backups),
        *_new_histories(backups),
        *(_of_drill(one) for one in drills),
        *besides,
    ]
    # A restore point's time is about that of the commit before it: it is shown on the line, and makes it no longer.
    known = [moment.at for moment in moments if moment.kind != POINT] + [window.from_time for window in windows]
    if not known:
        return None
    # A clock that went back leaves records of the future; they are shown where they say that they are.
    end = max(now, *known, *(window.to_time for window in windows))
    begin = min(known)
    merged = _merged((window.from_time, window.to_time) for window in windows)
    return Timeline(
        from_time=begin,
        to_time=end,
        windows=tuple(Stretch(first, last) for first, last in merged),
        gaps=tuple(_gaps(merged, begin, end)),
        moments=tuple(
            sorted((one for one in moments if begin <= one.at <= end), key=lambda one: (one.at, one.backup, one.kind))
        ),
    )


def clipped(line: Timeline, since: datetime | None, until: datetime | None) -> Timeline:
    """The part of a line from ``since`` to ``until``; None is the line's own end. What lies outside is left out."""
    begin = max(line.from_time, since) if since is not None else line.from_time
    end = max(begin, min(line.to_time, until) if until is not None else line.to_time)

    def cut(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
        return tuple(
            replace(one, from_time=max(one.from_time, begin), to_time=min(one.to_time, end))
            for one in stretches
            if one.from_time <= end and one.to_time >= begin
        )

    moments = tuple(one for one in line.moments if begin <= one.at <= end)
    return Timeline(begin, end, cut(line.windows), cut(line.gaps), moments)


def _of_backup(record: BackupRecord, unfit: Mapping[str, str]) -> Moment:
    damage = unfit.get(record.id)
    says = f"{record.type} backup {record.id}" + (f", damaged: {damage}" if damage else "")
    return Moment(record.finished_at, record.type.value, says, record.id, damage is None)


def _of_drill(drill: DrillFact) -> Moment:
    because = f": {drill.because}" if drill.because else ""
    how = "was restored, opened and sound" if drill.sound else f"could not be restored as it should{because}"
    return Moment(drill.at, DRILL, f"drill: backup {drill.backup} {how}", drill.backup, drill.sound)


def _new_histories(backups: Sequence[ArchivedBackup]) -> Iterable[Moment]:
    """Where the history of one backup is another than that of the backup before it."""
    records = sorted((one.record for one in backups), key=lambda one: (one.finished_at, one.id))
    for before, after in pairwise(records):
        old, new = before.log_end.history, after.log_end.history
        if old != new:
            says = f"a new history, {new} after {old}: a failover, or a restore to the active, before {after.id}"
            yield Moment(after.finished_at, FAILOVER, says, after.id)


def _merged(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Spans that touch or overlap as one."""
    merged: list[tuple[datetime, datetime]] = []
    for first, last in sorted((first, max(first, last)) for first, last in spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _gaps(merged: Sequence[tuple[datetime, datetime]], begin: datetime, end: datetime) -> Iterable[Stretch]:
    place = begin
    for number, (first, last) in enumerate(merged):
        if first > place:
            because = "no full leads here" if number == 0 else "the log of this time is in no backup"
            yield Stretch(place, first, because)
        place = last
    if end > place:
        yield Stretch(place, end, "no backup holds this time yet" if merged else "no full leads here")
