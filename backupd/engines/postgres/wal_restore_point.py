"""A named restore point in the log, by the bytes of its record (xlog_internal.h, xlogrecord.h)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

RESTORE_POINT_BYTES = 98  # a header, a header of its data, a time, and 64 bytes of name
_NAME_AT = 24 + 2 + 8
_XLOG_MANAGER, _RESTORE_POINT = 0, 0x70
_IS_CONTINUED = 0x0001
_SHORT_HEADER_BYTES, _LONG_HEADER_BYTES = 24, 40
_PAGE_BYTES = {1024 << power for power in range(6)}


def begins_with_rest(path: Path) -> int:
    """How many bytes of a record that began in the segment before are at the beginning of this one. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_LONG_HEADER_BYTES)
    return int.from_bytes(head[16:20], "little") if int.from_bytes(head[2:4], "little") & _IS_CONTINUED else 0


def is_restore_point(files: Mapping[int, Path], lsn: int, name: str, segment_bytes: int) -> bool:
    """Whether the record at ``lsn`` is a restore point of that name, by its bytes.

    What pg_waldump prints has names and texts of people in it as they are, with new lines; a line may be one of those.

    Args:
        files: segments by number.
        lsn: where the record begins.
        name: as it was printed.
        segment_bytes: the cluster's segment size.
    """
    try:
        record = _record_bytes(files, lsn, RESTORE_POINT_BYTES, segment_bytes)
    except (KeyError, OSError, ValueError):
        return False
    kind = (int.from_bytes(record[:4], "little"), record[16] & 0xF0, record[17])
    text = record[_NAME_AT:].partition(b"\0")[0]
    return kind == (RESTORE_POINT_BYTES, _RESTORE_POINT, _XLOG_MANAGER) and text == name.encode()


def _record_bytes(files: Mapping[int, Path], lsn: int, length: int, segment_bytes: int) -> bytes:
    """Bytes of a record from its place on; the headers of pages are left out. Raises KeyError, OSError, ValueError."""
    found, place = b"", lsn
    while len(found) < length:
        segno, offset = divmod(place, segment_bytes)
        with files[segno].open("rb") as file:
            page_bytes = int.from_bytes(file.read(_LONG_HEADER_BYTES)[36:40], "little")
            if page_bytes not in _PAGE_BYTES:
                raise ValueError(page_bytes)
            within = offset % page_bytes
            if within == 0:
                place += _LONG_HEADER_BYTES if offset == 0 else _SHORT_HEADER_BYTES
                continue
            file.seek(offset)
            piece = file.read(min(length - len(found), page_bytes - within))
        if not piece:
            raise ValueError(offset)
        found, place = found + piece, place + len(piece)
    return found
