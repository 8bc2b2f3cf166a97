"""Checks one WAL segment whole: its header, every page's header, and what stands after a switch.

A segment that was switched ends early: after the record that says so come pages of
zeros.  Where a server crashed while it wrote those zeros, the pages are still those
of the older segment that the file was recycled from; no reader goes there either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backupd.digests import blake3_hasher
from backupd.engines.postgres.timelines import history_at
from backupd.engines.postgres.wal_names import segment_name
from backupd.errors import DamageFound, NotHealthy
from backupd.model.position import Position
from backupd.steps import step

# XLOG_PAGE_MAGIC of each major version; a segment is of one version throughout.
MAGICS = {0xD10D: 14, 0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18}

_SHORT_HEADER_BYTES, _LONG_HEADER_BYTES = 24, 40
_RECORD_HEADER_BYTES = 24
_IS_CONTINUED, _IS_LONG, _ALL_FLAGS = 0x0001, 0x0002, 0x000F
_XLOG_MANAGER, _SWITCH = 0, 0x40

_LONG = np.dtype(
    {
        "names": ["magic", "info", "tli", "pageaddr", "rem_len", "sysid", "seg_size", "page_bytes"],
        "formats": ["<u2", "<u2", "<u4", "<u8", "<u4", "<u8", "<u4", "<u4"],
        "offsets": [0, 2, 4, 8, 16, 24, 32, 36],
        "itemsize": _LONG_HEADER_BYTES,
    }
)


_PAGE_SIZES = (1024, 2048, 4096, 8192, 16384, 32768)


def _page_headers(page_bytes: int) -> np.dtype[np.void]:
    return np.dtype(
        {
            "names": ["magic", "info", "tli", "pageaddr", "rem_len"],
            "formats": ["<u2", "<u2", "<u4", "<u8", "<u4"],
            "offsets": [0, 2, 4, 8, 16],
            "itemsize": page_bytes,
        }
    )


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What a sound segment is: BLAKE3 (hex) of the whole file, the page magic, the major version that it belongs to.

    ``used_pages`` is less than ``page_count`` when the segment was switched before it was full.
    """

    digest: str
    magic: int
    major: int
    page_count: int
    used_pages: int


@dataclass(frozen=True, slots=True)
class SegmentExpected:
    """What a segment must be: whose, of which major version, of which timeline, which one, how long.

    ``ancestry`` is that of its timeline.
    """

    system_identifier: int
    major: int
    timeline: int
    segno: int
    segment_bytes: int
    ancestry: Sequence[Position] = ()

    @property
    def name(self) -> str:
        """Its file name."""
        return segment_name(self.timeline, self.segno, self.segment_bytes)

    @property
    def start(self) -> int:
        """The LSN of its first byte."""
        return self.segno * self.segment_bytes


def check_segment(
    path: Path,
    *,
    system_identifier: int,
    major: int,
    timeline: int,
    segno: int,
    segment_bytes: int,
    ancestry: Sequence[Position] = (),
) -> SegmentFacts:
    """Read a segment once, whole, and check everything that its headers say (not the records' own checksums).

    Args:
        path: the file; its name is not looked at.
        system_identifier: of the cluster.
        major: of the server that wrote it; a flipped byte may make the magic that of another version.
        timeline: of the file.
        segno: counted from LSN 0.
        segment_bytes: the cluster's segment size.
        ancestry: where the timeline came from; pages that it took over still name their own.

    Raises:
        DamageFound: something does not match; file and page are named.
        NotHealthy: the file cannot be read.
    """
    expected = SegmentExpected(system_identifier, major, timeline, segno, segment_bytes, ancestry)
    data = read_segment(path)
    digest = segment_digest(data)
    return check_bytes(path, data, digest, expected)


def read_segment(path: Path) -> np.ndarray:
    """All bytes of a segment. Raises NotHealthy: it cannot be read."""
    step("pg.log.read_segment")
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise NotHealthy(
            f"the log segment {path.name} cannot be read",
            because=f"{path}: {error.strerror or error}",
            next_step="let the user that backupd runs as read the data directory, and look at its disk",
        ) from error


def segment_digest(data: np.ndarray) -> str:
    """BLAKE3 of a segment's bytes, hex: what ``LogFile.digest`` holds."""
    hasher = blake3_hasher()
    hasher.update(data.data)
    return hasher.hexdigest()


def check_bytes(path: Path, data: np.ndarray, digest: str, expected: SegmentExpected) -> SegmentFacts:
    """``check_segment`` on bytes that were read already; ``path`` is only named."""
    found = _Look(path, expected)
    page_bytes = found.first_page(data)
    heads = np.frombuffer(data, dtype=_page_headers(page_bytes))
    good = found.good_pages(heads)
    if good < len(heads):
        found.rest_after_switch(data, heads, good, page_bytes)
    magic = int(heads["magic"][0])
    return SegmentFacts(digest, magic, MAGICS[magic], len(heads), good)


class _Look:
    """One segment under inspection; every complaint names its file."""

    def __init__(self, path: Path, expected: SegmentExpected) -> None:
        self._path = path
        self._expected = expected

    def damaged(self, because: str, page: int | None = None) -> DamageFound:
        where = "" if page is None else f"page {page}: "
        return DamageFound(
            f"the log segment {self._path.name} is damaged",
            because=f"{where}{because} ({self._path})",
            next_step=f"compare {self._expected.name} with the other copy's, and look at the disk",
            path=str(self._path),
            page=page,
        )

    def first_page(self, data: np.ndarray) -> int:
        """Check the length and the long header; answers the size of a page."""
        want = self._expected
        if len(data) != want.segment_bytes:
            raise self.damaged(f"it is {len(data)} bytes long and must be {want.segment_bytes}")
        head = np.frombuffer(data[:_LONG_HEADER_BYTES], dtype=_LONG)[0]
        magic, page_bytes = int(head["magic"]), int(head["page_bytes"])
        if magic not in MAGICS:
            raise self.damaged(f"0x{magic:04X} is not the magic of a version from 14 to 18", 0)
        if MAGICS[magic] != want.major:
            raise self.damaged(f"its magic is that of version {MAGICS[magic]}, and the server's is {want.major}", 0)
        facts = (
            ("is of cluster", int(head["sysid"]), want.system_identifier),
            ("says it begins at LSN", int(head["pageaddr"]), want.start),
            ("names a segment size of", int(head["seg_size"]), want.segment_bytes),
        )
        for what, found, must in facts:
            if found != must:
                raise self.damaged(f"it {what} {found} and must be {must}", 0)
        if not 1024 <= page_bytes <= 65536 or page_bytes & (page_bytes - 1):
            raise self.damaged(f"{page_bytes} bytes is not the size of a page of log", 0)
        # A flipped bit may name a greater size that is one, too: then pages begin where none should.
        for smaller in (size for size in _PAGE_SIZES if size < page_bytes):
            inside = np.frombuffer(data[smaller : smaller + _LONG_HEADER_BYTES], dtype=_LONG)[0]
            if int(inside["magic"]) == magic and int(inside["pageaddr"]) == want.start + smaller:
                raise self.damaged(f"it names a page size of {page_bytes}, and its pages have {smaller} bytes", 0)
        return page_bytes

    def good_pages(self, heads: np.ndarray) -> int:
        """How many pages from the first on have the header that they must have; at least 1."""
        want = self._expected
        addresses = np.uint64(want.start) + np.arange(len(heads), dtype=np.uint64) * np.uint64(heads.dtype.itemsize)
        flags = heads["info"]
        long = np.zeros(len(heads), dtype=np.uint16)
        long[0] = _IS_LONG
        # A record that goes on from the page before says how much of it is left, and only such a page does.
        continued = (flags & _IS_CONTINUED != 0) == (heads["rem_len"] != 0)
        good = (
            (heads["magic"] == heads["magic"][0])
            & (heads["tli"] == self._timelines(addresses))
            & (heads["pageaddr"] == addresses)
            & ((flags & ~np.uint16(_ALL_FLAGS)) == 0)
            & ((flags & np.uint16(_IS_LONG)) == long)
            & continued
        )
        if not good[0]:
            raise self.damaged(self._what_is_wrong(heads[0], want.start), 0)
        return int(np.argmin(good)) if not good.all() else len(heads)

    def _timelines(self, addresses: np.ndarray) -> np.ndarray:
        """The timeline that each page must name: that which wrote its first byte."""
        want = self._expected
        timelines = np.full(len(addresses), want.timeline, dtype=np.uint32)
        for ended in reversed(want.ancestry):
            timelines[addresses < np.uint64(ended.offset)] = int(ended.history)
        return timelines

    def rest_after_switch(self, data: np.ndarray, heads: np.ndarray, good: int, page_bytes: int) -> None:
        """Pages from ``good`` on are not of this segment: that is right only after a switch."""
        address = self._expected.start + good * page_bytes
        if not _ends_in_switch(data, heads, good, page_bytes):
            raise self.damaged(self._what_is_wrong(heads[good], address), good)
        blank = (heads["magic"][good:] == 0) & (heads["pageaddr"][good:] == 0)
        rest = data[good * page_bytes :].reshape(-1, page_bytes)
        # What the file was recycled from: an older place of the log.
        stale = np.isin(heads["magic"][good:], list(MAGICS)) & (
            heads["pageaddr"][good:] < np.uint64(self._expected.start)
        )
        wrong = ~np.where(blank, ~rest.any(axis=1), stale)
        if wrong.any():
            page = good + int(np.argmax(wrong))
            raise self.damaged("it stands after the end of the segment's log and is neither empty nor older log", page)

    def _what_is_wrong(self, head: np.void, address: int) -> str:
        want = self._expected
        timeline = history_at(address, str(want.timeline), want.ancestry)
        if int(head["magic"]) not in MAGICS:
            return f"its header has the magic 0x{int(head['magic']):04X}"
        if int(head["pageaddr"]) != address:
            return f"it says it is the page at LSN {int(head['pageaddr']):X}, and it is at {address:X}"
        if int(head["tli"]) != int(timeline):
            return f"it is of timeline {int(head['tli'])} and must be of {timeline}"
        return f"its header is of another kind than its neighbours' (flags 0x{int(head['info']):04X})"


def _ends_in_switch(data: np.ndarray, heads: np.ndarray, good: int, page_bytes: int) -> bool:
    """Whether the last record on the pages before ``good`` is the one that ends a segment early."""
    first = good - 1
    # Back to a page on which a record begins that is not the last page's alone: a header may cross two pages.
    while first > 0 and (first == good - 1 or int(heads["rem_len"][first]) > page_bytes - _SHORT_HEADER_BYTES):
        first -= 1
    parts = [
        data[page * page_bytes + (_LONG_HEADER_BYTES if page == 0 else _SHORT_HEADER_BYTES) : (page + 1) * page_bytes]
        for page in range(first, good)
    ]
    stream = np.concatenate(parts).tobytes()
    place = _aligned(int(heads["rem_len"][first]))
    while place + _RECORD_HEADER_BYTES <= len(stream):
        length = int.from_bytes(stream[place : place + 4], "little")
        if length < _RECORD_HEADER_BYTES:
            return False
        if stream[place + 17] == _XLOG_MANAGER and stream[place + 16] & 0xF0 == _SWITCH:
            return length == _RECORD_HEADER_BYTES
        place += _aligned(length)
    return False


def _aligned(length: int) -> int:
    return (length + 7) & ~7


def holds_a_record(path: Path) -> bool:
    """Whether any record begins in the segment: one that is longer than a segment may pass through it whole."""
    data = read_segment(path)
    if len(data) < _LONG_HEADER_BYTES:
        return True
    page_bytes = int(np.frombuffer(data[:_LONG_HEADER_BYTES], dtype=_LONG)[0]["page_bytes"])
    if page_bytes <= _LONG_HEADER_BYTES or len(data) % page_bytes:
        return True  # it is damaged: then nobody can say
    rest = np.frombuffer(data, dtype=_page_headers(page_bytes))["rem_len"].astype(np.int64)
    room = np.full(len(rest), page_bytes - _SHORT_HEADER_BYTES)
    room[0] = page_bytes - _LONG_HEADER_BYTES
    return bool((rest < room).any())
