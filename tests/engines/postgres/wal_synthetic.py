"""WAL segments made here: right page headers, records that are only lengths, a switch where one is wanted."""

from __future__ import annotations

import struct

PAGE_BYTES = 8192
MAGIC = 0xD113
SYSTEM = 7_500_000_000_000_000_001
MIB = 1 << 20

_XLOG_MANAGER, _SWITCH, _HEAP_MANAGER = 0, 0x40, 10


def record(length: int, *, switch: bool = False) -> bytes:
    """A record of so many bytes (24 at least), padded to whole 8 bytes; its checksum is not right."""
    info, manager = (_SWITCH, _XLOG_MANAGER) if switch else (0, _HEAP_MANAGER)
    head = struct.pack("<IIQBBHI", length, 1, 0, info, manager, 0, 0)
    return head + b"\xab" * (-(-length // 8) * 8 - len(head))


def header(page: int, segno: int, timeline: int, *, left: int, segment_bytes: int, magic: int = MAGIC) -> bytes:
    """The header of one page; ``left`` is what is left there of a record that began before."""
    flags = (1 if left else 0) | (2 if page == 0 else 0)
    address = segno * segment_bytes + page * PAGE_BYTES
    head = struct.pack("<HHIQII", magic, flags, timeline, address, left, 0)
    return head + (struct.pack("<QII", SYSTEM, segment_bytes, PAGE_BYTES) if page == 0 else b"")


def segment(
    records: list[bytes],
    *,
    segno: int = 5,
    timeline: int = 1,
    segment_bytes: int = MIB,
    rest: bytes = b"",
    parent: int = 0,
    parent_pages: int = 0,
) -> bytearray:
    """A segment that begins with ``records``; what is left of it is filled with ``rest``, else with zeros.

    The first ``parent_pages`` pages are of timeline ``parent``.
    """
    made, queue, left = bytearray(), b"".join(records), 0
    ends, place = [], 0
    for one in records:
        place += len(one)
        ends.append(place)
    taken = 0
    for page in range(segment_bytes // PAGE_BYTES):
        if taken >= len(queue):
            break
        nxt = next(end for end in ends if end > taken)
        begins = taken == 0 or taken in ends
        left = 0 if begins else nxt - taken
        owner = parent if page < parent_pages else timeline
        head = header(page, segno, owner, left=left, segment_bytes=segment_bytes)
        body = queue[taken : taken + PAGE_BYTES - len(head)]
        taken += len(body)
        made += head + body + bytes(PAGE_BYTES - len(head) - len(body))
    return made + (rest[len(made) :] if rest else bytes(segment_bytes - len(made)))


def full_segment(**how: int) -> bytearray:
    """A segment that is full to its last page; the last record goes on in the next one."""
    size = how.get("segment_bytes", MIB)
    payload = size // PAGE_BYTES * (PAGE_BYTES - 24) - 16
    made: list[bytes] = []
    done = 0
    for number in range(1 << 30):
        one = record(24 + number * 37 % 900)
        if done + len(one) >= payload:
            made.append(one[: payload - done])
            break
        made.append(one)
        done += len(one)
    return segment(made, **how)  # type: ignore[arg-type]
