"""The system calls of the local store, and their errors in our words."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from backupd.errors import ArchiveUnreachable, ObjectExists
from backupd.pipeline.container import damage


def write_new(path: Path, pieces: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Write a new file, 0600; its size and SHA-256. Raises OSError."""
    hasher = hashlib.sha256()
    size = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb", buffering=0) as file:
        for piece in pieces:
            hasher.update(piece)
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]
            size += len(piece)
    return size, hasher.hexdigest()


def open_plain(path: Path, name: str, *, buffering: int = -1) -> BinaryIO:
    """Open an object to read it. Raises OSError, and DamageFound for a pipe or a device, which may never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise damage(name, f"{path} is no plain file")
    return open(descriptor, "rb", buffering=buffering)


def remove_if_empty(directory: Path) -> bool:
    """Whether the directory is gone now. Raises OSError."""
    try:
        directory.rmdir()
    except OSError as problem:
        if problem.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            return problem.errno == errno.ENOENT
        raise
    return True


def sync_filesystem(root: Path) -> bool:
    """Whether syncfs(2) did it; False where the C library has none."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return False
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if call(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
    return True


def fsync(path: Path) -> None:
    """Make a file or a directory durable; it may be gone. Raises OSError."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def taken(name: str) -> ObjectExists:
    """The error for a name that is taken."""
    return ObjectExists(
        f"the archive has an object {name} already",
        because="objects are written once and never overwritten",
        next_step="run the command again; it takes a new name",
        object=name,
    )


def unreachable(problem: str, because: str, next_step: str) -> ArchiveUnreachable:
    """The error for an archive that cannot be used."""
    return ArchiveUnreachable(problem, because=because, next_step=next_step)


def failed(what: str, problem: OSError, place: Path) -> ArchiveUnreachable:
    """The error for an OSError: what it means, and what helps."""
    because = problem.strerror or str(problem)
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return unreachable(
            what, f"the disk is full ({because})", f"free space or prune: df -h {place}; backupctl prune"
        )
    if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return unreachable(what, because, f"let this user write there: ls -ld {place}; id")
    if problem.errno == errno.ENOENT:
        return unreachable(what, because, f"mount it, or bring it back: ls -ld {place}")
    return unreachable(what, because, f"look at the disk: dmesg | tail; df -h {place}")
