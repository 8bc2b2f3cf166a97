"""Reads one file of a snapshot at any offset, from several threads, and leaves nothing of it in the page cache."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from backupd.engines.uncached_reads import UncachedReads
from backupd.errors import NotHealthy


class FileReader:
    """Opened at the first read; ``read_into``, ``forget`` and ``close`` are those of ``ports.PageSource``.

    Blocks of 1, 2 and 4 MiB gave the same size and speed within the noise, so the
    smallest wins: less memory, and less to fetch for a delta restore.
    """

    block_bytes = 1 << 20

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._opening = threading.Lock()
        self._reads = UncachedReads()

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view``. Raises NotHealthy: unreadable, or shorter than that."""
        filled = 0
        while filled < len(view):
            try:
                count = self._reads.read_into(self._opened(), view[filled:], offset + filled)
            except OSError as error:
                raise NotHealthy(
                    f"cannot read {self.path}",
                    because=error.strerror or str(error),
                    next_step=f"look at the file and its disk: ls -l {self.path}; dmesg | tail",
                ) from error
            if count == 0:
                raise NotHealthy(
                    f"{self.path} is shorter than it must be",
                    because=f"it ends at byte {offset + filled}",
                    next_step="seed the passive again: backupctl copy seed DATABASE",
                )
            filled += count

    def forget(self, offset: int, length: int) -> None:
        """Let that range leave the page cache."""
        with suppress(OSError):
            self._reads.forget(self._opened(), offset, length)

    def close(self) -> None:
        """Close the file; it may be closed already."""
        with self._opening:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _opened(self) -> int:
        with self._opening:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                with suppress(OSError):
                    os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            return self._descriptor
