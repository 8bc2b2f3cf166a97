"""Reads that leave the page cache to the database: what was there stays, what was not does not stay.

Linux can do this itself (``RWF_DONTCACHE``, preadv2(2)), on filesystems that know
it.  Since 6.14, but the first ones dropped pages that somebody was writing (commit
478ad02d6844 took it back in 6.15); a database writes while we read, so it is asked
for from 6.16 on.  Elsewhere what was read is dropped when it was used, which also drops
what the database had there: worse for it than nothing, better than a cache full of a backup.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress

_RWF_DONTCACHE = 0x80  # include/uapi/linux/fs.h
_SOUND_SINCE = (6, 16)
_NOT_KNOWN = (errno.EOPNOTSUPP, errno.EINVAL)


def kernel_version(release: str) -> tuple[int, int]:
    """The first two numbers of ``uname -r``; zeros when it has none."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class UncachedReads:
    """The reads of one source; it asks the kernel once whether it can."""

    def __init__(self) -> None:
        self._flags = _RWF_DONTCACHE if kernel_version(os.uname().release) >= _SOUND_SINCE else 0

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
