"""Lets pg_waldump parse stretches of log: every record's checksum and its link to the one before it are checked.

It stops at the first record that is not sound, and says nothing about one that
goes on beyond the end of the stretch; so a stretch is parsed as one, over all of
its segments, and what is bad is told by segment.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from backupd.engines.postgres.binaries import find_binaries, version_of
from backupd.engines.postgres.wal_lines import not_run, record_lines
from backupd.engines.postgres.wal_names import parse_lsn, segment_name
from backupd.engines.postgres.wal_restore_point import is_restore_point
from backupd.engines.postgres.wal_segment import holds_a_record
from backupd.errors import NotHealthy
from backupd.steps import step

_PROGRAM = "pg_waldump"
_COMMIT = re.compile(
    rb"rmgr: Transaction .*?lsn: ([0-9A-F]{1,8}/[0-9A-F]{1,8}), .*?desc: COMMIT(?:_PREPARED)? (?:\d+: )?"
    rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC"
)
_POINT = re.compile(
    rb"rmgr: XLOG +len \(rec/tot\): +\d+/ +(\d+), tx: +\d+, lsn: ([0-9A-F]{1,8}/[0-9A-F]{1,8}), "
    rb"prev [0-9A-F]+/[0-9A-F]+, desc: RESTORE_POINT (.*)"
)
_ANY_LSN = re.compile(r"\b[0-9A-F]{1,8}/[0-9A-F]{1,8}\b")
_NOTHING_BEGINS = "could not find a valid record"
_SIXTEEN_MIB = 1 << 24
_SECONDS_MIN, _SECONDS_PER_SEGMENT = 30.0, 5.0  # it takes 5 to 50 ms for 16 MiB; this is only for one that hangs


@dataclass(slots=True)
class Parsed:
    """What a stretch of log holds, by segment number.

    ``commits``: times of the earliest and the latest commit; ``points``: of each restore point its LSN, its name,
    and the time of the last commit before it, in the segment where its record ends; ``doubtful``: segments with a
    point whose printed name is not the one in the record; ``damage``: what pg_waldump says about a record that does
    not parse. A segment without is missing.
    """

    commits: dict[int, tuple[datetime, datetime]] = field(default_factory=dict)
    points: dict[int, list[tuple[int, str, datetime | None]]] = field(default_factory=dict)
    doubtful: set[int] = field(default_factory=set)
    damage: dict[int, str] = field(default_factory=dict)


def find_waldump(major: int, *, chosen: Path | None = None, data_directory: Path | None = None) -> Path | None:
    """The ``pg_waldump`` of that major version, or None: another version cannot read the log.

    It is looked for beside the server's other programs (``binaries.find_binaries``).
    """
    try:
        program = find_binaries(major, chosen=chosen, data_directory=data_directory) / _PROGRAM
    except NotHealthy:
        return None
    step("pg.log.waldump_version")
    return program if version_of(program) == major else None


def parse_records(
    waldump: Path,
    files: Mapping[int, Path],
    *,
    timeline: int,
    segment_bytes: int,
    only_from: int | None = None,
    points: bool = True,
) -> Parsed:
    """Parse all records of neighbouring segments.

    Args:
        waldump: the program, of the version that wrote the log.
        files: segments by number, without a gap; an older timeline's may come before ``timeline``'s.
        timeline: of the last of them.
        segment_bytes: the cluster's segment size.
        only_from: earlier segments are read only for records that begin there; nothing is said about them.
        points: look for restore points too.

    Raises:
        NotHealthy: the program could not be run, or hangs.
    """
    first, last = min(files), max(files)
    parsed = Parsed()
    with tempfile.TemporaryDirectory(prefix="backupd-log-") as place:
        # pg_waldump does not follow timelines, but it takes a file for what its name says.
        for segno, path in files.items():
            os.symlink(path.absolute(), Path(place) / segment_name(timeline, segno, segment_bytes))
        start = first
        while start <= last:
            said = _run(waldump, Path(place), timeline, segment_bytes, range(start, last + 1), parsed, points=points)
            if not said:
                break
            lsn = _place_of(said, start * segment_bytes)
            bad = min(max(lsn // segment_bytes, start), last)
            if _NOTHING_BEGINS not in said or any(holds_a_record(files[n]) for n in range(start, bad + 1)):
                parsed.damage[bad] = said
                if bad < last and _goes_over(files[bad], lsn % segment_bytes, segment_bytes):
                    parsed.damage[bad + 1] = said
            start = bad + 1
    for segno, found in parsed.points.items():
        if not all(is_restore_point(files, lsn, name, segment_bytes) for lsn, name, _ in found):
            parsed.doubtful.add(segno)
    for segno in range(first, first if only_from is None else only_from):
        parsed.commits.pop(segno, None)
        parsed.points.pop(segno, None)
        parsed.damage.pop(segno, None)
    return parsed


def _place_of(said: str, start: int) -> int:
    """The last LSN that the complaint names: that is where the bad record begins; ``start`` when it names none."""
    places = lsns_in(said)
    return places[-1] if places else start


def lsns_in(said: str) -> list[int]:
    """Every LSN that a complaint names."""
    return [parse_lsn(place) for place in _ANY_LSN.findall(said)]


def _goes_over(path: Path, offset: int, segment_bytes: int) -> bool:
    """Whether the record at ``offset`` ends in the next segment: then nobody knows which of the two is bad."""
    with path.open("rb") as file:
        file.seek(offset)
        return offset + int.from_bytes(file.read(4), "little") > segment_bytes


def _run(
    waldump: Path,
    directory: Path,
    timeline: int,
    segment_bytes: int,
    segnos: range,
    parsed: Parsed,
    *,
    points: bool,
) -> str:
    """Parse once; answers the complaint at which it stopped, or an empty text. Raises NotHealthy."""
    seconds_max = _SECONDS_MIN + _SECONDS_PER_SEGMENT * len(segnos) * segment_bytes / _SIXTEEN_MIB
    step("pg.log.waldump")
    with record_lines(
        waldump,
        directory,
        timeline=timeline,
        start=segnos.start * segment_bytes,
        end=segnos.stop * segment_bytes,
        rmgrs=("Transaction", "XLOG") if points else ("Transaction",),
        seconds_max=seconds_max,
    ) as lines:
        _take(lines, segment_bytes, parsed)
    if lines.status < 0:
        raise not_run(waldump, f"it was killed by signal {-lines.status} (it may take {seconds_max:g} s)")
    return "" if lines.status == 0 else lines.complaint or f"it ended with {lines.status}"


def _take(lines: Iterable[bytes], segment_bytes: int, parsed: Parsed) -> None:
    seen: dict[int, tuple[bytes, bytes]] = {}  # times as text: this notation sorts
    at = b""
    for line in lines:
        if b"desc: RESTORE_POINT" in line and (found := _POINT.match(line)):
            lsn = parse_lsn(found[2].decode())
            point = (lsn, found[3].decode("utf-8", "replace"), _moment(at) if at else None)
            parsed.points.setdefault((lsn + int(found[1]) - 1) // segment_bytes, []).append(point)
        elif found := _COMMIT.match(line):
            segno, at = parse_lsn(found[1].decode()) // segment_bytes, found[2]
            earliest, latest = seen.get(segno, (at, at))
            seen[segno] = (min(earliest, at), max(latest, at))
    for segno, (earliest, latest) in seen.items():
        parsed.commits[segno] = (_moment(earliest), _moment(latest))


def _moment(text: bytes) -> datetime:
    return datetime.fromisoformat(text.decode()).replace(tzinfo=UTC)
