"""The wal-index (``-shm``) as bytes: how far the log is committed, and who reads where.

Source: ``src/wal.c`` (struct WalIndexHdr, WalCkptInfo) and
https://www.sqlite.org/walformat.html#the_wal_index_file_format.  Integers are
in the machine's byte order, except the salts, which are copied from the WAL as
they stand there (big-endian).  A writer updates the second copy of the header
first and the first copy last, so a reader that finds both equal, and their own
sums right, has a header that was published.  Nothing is opened here: a closed
descriptor of ``-shm`` would drop the locks of the whole process.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from mmap import mmap

from backupd.engines.sqlite.wal import sums_of
from backupd.pages import Block

INDEX_BYTES = 136
LOCK_WRITE = 120
LOCK_CHECKPOINT = 121
LOCK_RECOVER = 122
LOCK_READ = (123, 124, 125, 126, 127)
LOCK_DMS = 128
NO_READER = 0xFFFFFFFF

_COPY_BYTES = 48
_COPY = struct.Struct("=III BBH II II 4s4s II")
_CHECKPOINT = struct.Struct("=I5I8sI4x")  # nBackfill, aReadMark[5], aLock[8], nBackfillAttempted


@dataclass(frozen=True, slots=True)
class WalIndex:
    """What the wal-index said at one moment.

    ``max_frame`` is the last committed frame (0: none), ``frame_sums`` the sums
    stored in it; ``page_count`` the database's size in pages after it;
    ``change_counter`` grows with each commit.  ``backfilled`` frames are in the
    database file already.  ``read_marks[i]`` is where slot i reads; ``NO_READER`` when never used.
    """

    change_counter: int
    big_endian_sums: bool
    page_bytes: int
    max_frame: int
    page_count: int
    frame_sums: tuple[int, int]
    salt1: int
    salt2: int
    backfilled: int
    read_marks: tuple[int, int, int, int, int]
    backfill_attempted: int


def _parse(data: bytes) -> WalIndex | None:
    first, second = data[:_COPY_BYTES], data[_COPY_BYTES : 2 * _COPY_BYTES]
    if first != second:
        return None
    fields = _COPY.unpack(first)
    _, _, change, is_init, big_endian, size, max_frame, page_count, frame0, frame1, salt1, salt2, sum0, sum1 = fields
    if not is_init or sums_of(first[:40], (0, 0), sys.byteorder == "big") != (sum0, sum1):
        return None
    backfilled, *marks, _, attempted = _CHECKPOINT.unpack(data[2 * _COPY_BYTES : INDEX_BYTES])
    return WalIndex(
        change_counter=change,
        big_endian_sums=bool(big_endian),
        page_bytes=(size & 0xFE00) + ((size & 1) << 16),  # 65536 is stored as 1
        max_frame=max_frame,
        page_count=page_count,
        frame_sums=(frame0, frame1),
        salt1=int.from_bytes(salt1, "big"),
        salt2=int.from_bytes(salt2, "big"),
        backfilled=backfilled,
        read_marks=(marks[0], marks[1], marks[2], marks[3], marks[4]),
        backfill_attempted=attempted,
    )


def read_index(buffer: Block | mmap, tries: int = 100) -> WalIndex | None:
    """Read the header from the start of ``-shm`` (an mmap, or bytes of at least ``INDEX_BYTES``).

    Returns:
        None when no two equal, initialised copies were seen in ``tries`` looks: a
        writer is in the middle of publishing (look again later), or the index was
        never built.
    """
    for _ in range(tries):
        data = bytes(buffer[:INDEX_BYTES])
        if len(data) < INDEX_BYTES:
            return None
        index = _parse(data)
        if index is not None:
            return index
    return None
