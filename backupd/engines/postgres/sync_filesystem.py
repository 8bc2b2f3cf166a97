"""Makes whole filesystems durable at once, which for thousands of files is cheaper than one by one.

Measured on ext4: 1000 files of 40 KiB and one of 200 MiB: 0.43 s by fsync each, 0.22 s by
syncfs; 5000 small files: 0.65 s and 0.20 s (medians of 3).
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TELLS_ERRORS_FROM = (5, 8)  # Linux: before that syncfs(2) kept failed writes to itself


class FilesystemSync:
    """Opened before anything is written, so that a write that failed meanwhile is told at the end.

    Args:
        directories: one on each filesystem that is written.
    """

    def __init__(self, directories: Iterable[Path]) -> None:
        self._descriptors: list[int] = []
        self._call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if _kernel_tells_errors() else None
        if self._call is not None:
            known = set()
            for directory in directories:
                device = os.stat(directory).st_dev
                if device not in known:
                    known.add(device)
                    self._descriptors.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def run(self) -> bool:
        """Write everything out. Answers False where it cannot promise that; raises OSError when a write failed."""
        if self._call is None:
            return False
        for descriptor in self._descriptors:
            if self._call(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        return True

    def close(self) -> None:
        """Let go of the directories; may be called twice."""
        for descriptor in self._descriptors:
            with suppress(OSError):
                os.close(descriptor)
        self._descriptors = []


def _kernel_tells_errors() -> bool:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= _TELLS_ERRORS_FROM
