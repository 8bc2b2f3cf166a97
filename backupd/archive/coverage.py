"""Which objects of an archive were read and found sound, and when: what the verdicts say, put together."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING

from backupd.archive.names import place_of
from backupd.archive.objects import object_of
from backupd.model.records import ArchivedBackup, BackupRecord
from backupd.ports import StoredObject

if TYPE_CHECKING:
    from backupd.archive.verdict import Verdict

_RANGES = re.compile(r"\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*")


def data_objects(record: BackupRecord) -> Iterator[StoredObject]:
    """Everything that a record names, in the order in which a whole verify reads it."""
    for file in record.files:
        yield object_of(file.map)
        yield from map(object_of, file.segments)
    yield from map(object_of, record.logs)


def as_ranges(names: Iterable[str]) -> dict[str, str]:
    """Object names of one backup, compactly: ``{"data": "0-99,105", "map": "0", "log/<history>": "1-5"}``."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        kind, number = place_of(name)
        numbers.setdefault(kind, []).append(number)
    return {kind: _ranges_text(sorted(set(found))) for kind, found in sorted(numbers.items())}


def _ranges_text(numbers: Sequence[int]) -> str:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] + 1 == number:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def read_ranges(text: str) -> list[tuple[int, int]]:
    """``"0-99,105"`` as pairs of first and last number. Raises ValueError."""
    if not _RANGES.fullmatch(text):
        raise ValueError(f"not ranges of numbers: {text!r}")
    pairs = [part.partition("-") for part in text.split(",")]
    return [(int(first), int(last or first)) for first, _, last in pairs]


class NamedObjects:
    """The data objects of one record, to be found by their numbers and by their names.

    A year of samples of a large database is many verdicts over many objects: what
    a verdict costs here grows with what it names, and not with the record.
    """

    def __init__(self, objects: Iterable[StoredObject]) -> None:
        self.every = list(objects)
        self._by_name: dict[str, list[StoredObject]] = {}
        by_place: dict[str, list[tuple[int, StoredObject]]] = {}
        for each in self.every:
            self._by_name.setdefault(each.name, []).append(each)
            kind, number = place_of(each.name)
            by_place.setdefault(kind, []).append((number, each))
        self._by_place = {kind: sorted(found, key=itemgetter(0)) for kind, found in by_place.items()}

    def called(self, names: Iterable[str]) -> Iterator[StoredObject]:
        """Those of these names."""
        for name in names:
            yield from self._by_name.get(name, ())

    def in_ranges(self, ranges: Mapping[str, str]) -> Iterator[StoredObject]:
        """Those that the ranges name. Raises ValueError."""
        for kind, text in ranges.items():
            found = self._by_place.get(kind, [])
            for first, last in read_ranges(text):
                start = bisect_left(found, first, key=itemgetter(0))
                end = bisect_right(found, last, key=itemgetter(0))
                yield from (each for _, each in found[start:end])


@dataclass(frozen=True, slots=True)
class CoverageShare:
    """How much of some objects' bytes a verify has read since they were written.

    ``oldest_verified_at`` is when the byte that was read longest ago was read; None when one never was.
    """

    total_bytes: int
    verified_bytes: int
    oldest_verified_at: datetime | None
    unverified_objects: int

    @property
    def share(self) -> float:
        """From 0 to 1; 1 where there is nothing to read."""
        return self.verified_bytes / self.total_bytes if self.total_bytes else 1.0

    def to_json(self) -> dict[str, int | float | str | None]:
        """The form that ``verify``, ``show`` and ``status`` show; the share is rounded down, so 1 means all."""
        return {
            "total_bytes": self.total_bytes,
            "verified_bytes": self.verified_bytes,
            "verified_share": int(self.share * 10_000) / 10_000,
            "unverified_objects": self.unverified_objects,
            "oldest_verified_at": self.oldest_verified_at.isoformat() if self.oldest_verified_at else None,
        }


@dataclass(slots=True)
class Coverage:
    """When each object was last looked at, and when last found sound if it was not found damaged since."""

    looked_at: dict[StoredObject, datetime] = field(default_factory=dict)
    verified_at: dict[StoredObject, datetime] = field(default_factory=dict)

    def share_of(self, backups: Iterable[ArchivedBackup]) -> CoverageShare:
        """The share of all that these backups name; an object that several name counts once."""
        objects = {each for backup in backups for each in data_objects(backup.record)}
        times = [self.verified_at.get(each) for each in objects]
        known = [at for at in times if at is not None]
        return CoverageShare(
            total_bytes=sum(each.size_bytes for each in objects),
            verified_bytes=sum(each.size_bytes for each in objects if each in self.verified_at),
            oldest_verified_at=min(known) if known and len(known) == len(times) else None,
            unverified_objects=len(times) - len(known),
        )

    def is_whole(self, record: BackupRecord) -> bool:
        """Whether every object that the record names was found sound since it was written."""
        return all(each in self.verified_at for each in data_objects(record))


def coverage_of(backups: Iterable[ArchivedBackup], verdicts: Mapping[str, Sequence[Verdict]]) -> Coverage:
    """The coverage that the verdicts (by backup) come to; what was read for one backup counts for all that name it."""
    objects = {backup.record.id: NamedObjects(data_objects(backup.record)) for backup in backups}
    nothing = NamedObjects(())
    coverage = Coverage()
    in_order = sorted((each for found in verdicts.values() for each in found), key=lambda verdict: verdict.at)
    for verdict in in_order:
        named = objects.get(verdict.backup_id, nothing)
        for each in verdict.read_of(named):
            coverage.looked_at[each] = coverage.verified_at[each] = verdict.at
        for each in named.called(verdict.unreadable):
            coverage.looked_at[each] = verdict.at  # the others come first, so that one bad sector stops nothing
        for each in named.called(verdict.damaged):
            coverage.looked_at[each] = verdict.at
            coverage.verified_at.pop(each, None)
    return coverage
