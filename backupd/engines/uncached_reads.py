"""Reads that leave the page cache to the database: what was there stays, what was not does not stay.

Linux 6.14 can do this itself (``RWF_DONTCACHE``, preadv2(2)), on filesystems that
know it.  Elsewhere what was read is dropped when it was used, which also drops
what the database had there: worse for it than nothing, better than a cache full of a backup.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

_RWF_DONTCACHE = 0x80  # include/uapi/linux/fs.h
_NOT_KNOWN = (errno.EOPNOTSUPP, errno.EINVAL)


class UncachedReads:
    """The reads of one source; it asks the kernel once whether it can."""

    def __init__(self) -> None:
        self._flags = _RWF_DONTCACHE

    def read_into(self, descriptor: int, view: memoryview, offset: int) -> int:
        """How many bytes from ``offset`` on are in ``view`` now, as pread(2) says it. Raises OSError."""
        if self._flags:
            try:
                return os.preadv(descriptor, [view], offset, self._flags)
            except OSError as error:
                if error.errno not in _NOT_KNOWN:
                    raise
                self._flags = 0
        return os.preadv(descriptor, [view], offset)

    def forget(self, descriptor: int, offset: int, length: int) -> None:
        """The range was read and used; it leaves the cache now where the kernel did not see to that itself."""
        if not self._flags:
            with suppress(OSError):
                os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
