"""Keeps memory that was used for one block for the next one, while megabytes pass through.

Without it glibc gives each freed megabyte back to the kernel and faults it in again
for the next one; with several threads that is an eighth of the processor time of a
restore.  Source: mallopt(3), malloc_trim(3).  Another C library is left alone.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

# mallopt's parameters (malloc.h): free memory that stays with us, what one more request takes, what is mapped alone.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_BUSY = {_TRIM_THRESHOLD: 256 << 20, _TOP_PAD: 8 << 20, _MMAP_THRESHOLD: 32 << 20}
_AT_REST = {_TRIM_THRESHOLD: 1 << 20, _TOP_PAD: 128 << 10, _MMAP_THRESHOLD: 1 << 20}

_lock = threading.Lock()
_users = 0


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    has_both = hasattr(library, "mallopt") and hasattr(library, "malloc_trim")
    return library if has_both and hasattr(library, "gnu_get_libc_version") else None


@contextmanager
def blocks_reused() -> Iterator[None]:
    """While this is open, by any thread, freed blocks stay in the process; when the last one ends, they go back."""
    global _users
    library = _glibc()
    if library is None:
        yield
        return
    with _lock:
        _users += 1
        _set(library, _BUSY)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _set(library, _AT_REST)
                library.malloc_trim(0)


def _set(library: ctypes.CDLL, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        library.mallopt(parameter, value)
