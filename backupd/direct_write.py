"""Writes past the page cache, where a filesystem lets us: a restore is no reason to push a database's pages out.

It is cheaper, too: the kernel neither copies nor keeps what will not be read again
soon, and nothing is left to be written at the end.  What is small, not aligned, or
on a filesystem without ``O_DIRECT`` is written as ever.  Source: open(2), O_DIRECT.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

import numpy as np

# Every filesystem's blocks divide it, and so do the pages of databases.
_ALIGNED_BYTES = 4096
# Below it the page cache gathers what the disk would get in pieces.
_BYTES_MIN = 256 << 10
_BUFFER_BYTES = 4 << 20
_NOT_HERE = {errno.EINVAL, errno.EOPNOTSUPP}


_SYNC_FILE_RANGE_WRITE = 2


@lru_cache(maxsize=1)
def _sync_file_range() -> Callable[..., int] | None:
    call: Callable[..., int] | None = getattr(ctypes.CDLL(None), "sync_file_range", None)
    return call


def start_writing_out(descriptor: int, offset: int, length: int) -> None:
    """Let the kernel begin to write what the page cache has of that range, so that a sync at the end need not.

    A hint: nothing is waited for, and no error is told.  Source: sync_file_range(2); without it
    ``POSIX_FADV_DONTNEED``, which does the same and drops what is clean besides (mm/fadvise.c).
    """
    call = _sync_file_range()
    if call is not None:
        call(descriptor, ctypes.c_int64(offset), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)
        return
    with suppress(OSError):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


class DirectWriter:
    """Writes to descriptors that were opened with ``O_DIRECT``; may be shared by threads, each has a buffer of its own.

    ``works`` turns false for good when the filesystem refuses.
    """

    def __init__(self) -> None:
        self.works = hasattr(os, "O_DIRECT")
        self._of_thread = threading.local()

    def open(self, path: os.PathLike[str]) -> int:
        """A descriptor to write with, a common one where the filesystem refuses. Raises OSError."""
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        if self.works:
            try:
                return os.open(path, flags | os.O_DIRECT)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                self.works = False
        return os.open(path, flags)

    def fits(self, length: int, offset: int) -> bool:
        """Whether a piece of this length is to be written directly."""
        return self.works and length >= _BYTES_MIN and not (length | offset) % _ALIGNED_BYTES

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        """Write what ``fits``; answers with how many bytes, fewer when the filesystem refuses. Raises OSError."""
        done = 0
        while done < len(data):
            aligned = self._aligned(data[done : done + _BUFFER_BYTES])
            try:
                count = os.pwrite(descriptor, aligned, offset + done)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                self.works = False
                return done
            if count <= 0 or count % _ALIGNED_BYTES:
                return done  # a filesystem that ends within a block: the rest is written as ever
            done += count
        return done

    def _aligned(self, part: memoryview) -> memoryview:
        buffer: mmap.mmap | None = getattr(self._of_thread, "buffer", None)
        if buffer is None:
            buffer = self._of_thread.buffer = mmap.mmap(-1, _BUFFER_BYTES)
        # numpy copies without the interpreter's lock.
        np.frombuffer(buffer, dtype=np.uint8)[: len(part)] = np.frombuffer(part, dtype=np.uint8)
        return memoryview(buffer)[: len(part)]
