"""How much room a disk has for this user."""

from __future__ import annotations

import os
from pathlib import Path


def free_room_bytes(directory: Path) -> int | None:
    """Free bytes where ``directory`` is; None when it is not there or does not say."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def allocated_bytes(path: Path) -> int:
    """What one file takes on its disk, holes apart; 0 when it is not there."""
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0
