"""Lock files: who is the only one to capture, to replay, to replicate. The kernel frees them with the process."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


def take_lock(path: Path, seconds: float = 15.0) -> int:
    """Be the only holder of the lock file; waits for a dying one. The lock lasts until the process ends.

    Raises:
        SystemExit: another one lives on (status 9).
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(9) from None
            time.sleep(0.05)


def lock_is_free(path: Path) -> bool:
    """Whether nobody holds the lock file at ``path`` now."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
