"""Small files that must survive a power cut: replaced at once, or not at all."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backupd.errors import NotHealthy
from backupd.steps import step


def sync_directory(path: Path) -> None:
    """After this, names made or removed in ``path`` survive a power cut. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(
    path: Path, data: bytes, *, durable: bool = True, prepare: Callable[[int], None] | None = None
) -> None:
    """Write a small file beside ``path``, for its owner only, and put it in place: tmp, fsync, rename, fsync.

    Args:
        path: what comes to be, or is replaced.
        data: all of it.
        durable: without it the file is replaced at once too, but a power cut may undo it.
        prepare: is given the open file before it is in place, to change whose it is.

    Raises:
        OSError: the disk refuses; what was there is as it was.
    """
    # A name of this thread's own: two that replace one file at the same time both succeed, and the last one counts.
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.tmp")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if prepare is not None:
            prepare(fd)
        if durable:
            os.fsync(fd)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    os.rename(beside, path)
    if durable:
        sync_directory(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The file's object; None when it is not there or is not one."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: dict[str, Any], *, durable: bool = True, step_name: str = "state.write") -> None:
    """Replace a small JSON file, for its owner only. Raises NotHealthy: the disk refuses (full, read-only)."""
    step(step_name)
    try:
        replace_file(path, json.dumps(value, indent=1, sort_keys=True).encode(), durable=durable)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> NotHealthy:
    """The error for a small file that cannot be written or removed."""
    return NotHealthy(
        f"cannot write {path}",
        because=error.strerror or str(error),
        next_step=f"make room or fix the rights of {path.parent}",
    )
