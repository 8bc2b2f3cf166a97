"""Names and numbers of the write-ahead log: segment files, history files and LSNs, as text and as numbers."""

from __future__ import annotations

import re

_SEGMENT_NAME = re.compile(r"[0-9A-F]{24}")
_HISTORY_NAME = re.compile(r"([0-9A-F]{8})\.history")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")

_FOUR_GIB = 1 << 32


def lsn_text(lsn: int) -> str:
    """An LSN as PostgreSQL writes it: ``16/B374D848``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """Read an LSN as PostgreSQL writes it.

    Raises:
        ValueError: the text is not an LSN.
    """
    found = _LSN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"not an LSN: {text!r} (an LSN looks like 16/B374D848)")
    return int(found[1], 16) << 32 | int(found[2], 16)


def check_segment_bytes(segment_bytes: int) -> None:
    """Refuse a size that no server can have.

    Raises:
        ValueError: not a power of two from 1 MiB to 1 GiB.
    """
    if not 1 << 20 <= segment_bytes <= 1 << 30 or segment_bytes & (segment_bytes - 1):
        raise ValueError(f"not the size of a log segment: {segment_bytes} bytes")


def segment_name(timeline: int, segno: int, segment_bytes: int) -> str:
    """The file name of segment ``segno`` (counted from LSN 0) on ``timeline``."""
    high, low = divmod(segno, _FOUR_GIB // segment_bytes)
    return f"{timeline:08X}{high:08X}{low:08X}"


def parse_segment_name(name: str, segment_bytes: int) -> tuple[int, int] | None:
    """The timeline and the number of a segment; None when ``name`` is no whole one's (a ``.partial`` is none)."""
    if not _SEGMENT_NAME.fullmatch(name):
        return None
    timeline, high, low = int(name[:8], 16), int(name[8:16], 16), int(name[16:], 16)
    per_four_gib = _FOUR_GIB // segment_bytes
    if timeline == 0 or low >= per_four_gib:
        return None
    return timeline, high * per_four_gib + low


def history_name(timeline: int) -> str:
    """The name of the file that says where ``timeline`` came from."""
    return f"{timeline:08X}.history"


def parse_history_name(name: str) -> int | None:
    """The timeline of a history file, or None when ``name`` is not one."""
    found = _HISTORY_NAME.fullmatch(name)
    return int(found[1], 16) if found else None


def segment_start(lsn: int, segment_bytes: int) -> int:
    """Where the segment begins that holds the byte at ``lsn``; on a boundary that is ``lsn`` itself."""
    return lsn - lsn % segment_bytes


def segment_end(lsn: int, segment_bytes: int) -> int:
    """Where the segment ends that holds the last byte before ``lsn``: on a boundary the previous one, so ``lsn``."""
    return -(-lsn // segment_bytes) * segment_bytes


def segment_of(lsn: int, segment_bytes: int) -> int:
    """The number of the segment that holds the byte at ``lsn``."""
    return lsn // segment_bytes


def segment_before(lsn: int, segment_bytes: int) -> int:
    """The number of the segment that holds the last byte before ``lsn``.

    Raises:
        ValueError: there is nothing before LSN 0.
    """
    if lsn <= 0:
        raise ValueError("there is no log before LSN 0/0")
    return (lsn - 1) // segment_bytes
