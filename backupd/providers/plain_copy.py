"""The slow honest copy, for every other disk: reads and writes all bytes while replay rests."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from backupd.errors import NotHealthy
from backupd.model.amounts import size_text
from backupd.ports import ProviderFeature, Snapshot, Suitability
from backupd.providers.place import (
    building,
    checked_names,
    found_snapshots,
    make_directory,
    own_path,
    reason_of,
    remove_tree,
    snapshot_path,
    told,
    trial_label,
)
from backupd.steps import step

_PIECE_BYTES = 64 << 20
_READ_BYTES = 1 << 20


class PlainCopyProvider:
    """Copies each file into the snapshot's place; needs as much free space as the files take up.

    Nothing is fsynced: a snapshot has no worth after a power cut.  Opening and
    closing a file drops this process's POSIX locks on it, so the process that
    replays must not be the one that takes snapshots.
    """

    name = "plain-copy"
    features: frozenset[ProviderFeature] = frozenset()

    def suits(self, directory: Path) -> Suitability:
        """Copy a small file for real, and remove it."""
        path = snapshot_path(directory, trial_label(), self.name)
        try:
            with building(path, make_directory, remove_tree):
                (path / "from").write_bytes(b"x" * 4096)
                _copy(path / "from", path / "to")
            remove_tree(path)
            free_bytes = _free_bytes(directory)
        except OSError as error:
            return Suitability(False, f"copying a file did not work: {reason_of(error)}")
        return Suitability(True, f"every byte is copied, {size_text(free_bytes)} are free")

    def take(self, directory: Path, names: Sequence[str], label: str) -> Snapshot:
        """Copy each file. Raises NotHealthy; nothing is left."""
        path = snapshot_path(directory, label, self.name)
        relative = checked_names(names)
        problem = f"cannot copy the files of {directory}"
        with told(problem, directory):
            _require_space(problem, directory, [directory / name for name in relative])
            with building(path, make_directory, remove_tree):
                for name in relative:
                    (path / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    _copy(directory / name, path / name)
        return Snapshot(self.name, label, path, directory)

    def discard(self, snapshot: Snapshot) -> None:
        """Remove the copies; they may be gone already. Raises NotHealthy."""
        path = own_path(snapshot, self.name)
        with told(f"cannot remove the snapshot {path}", snapshot.source):
            remove_tree(path)

    def leftovers(self, directory: Path) -> Sequence[Snapshot]:
        """Copies that an earlier run has left. Raises NotHealthy."""
        with told(f"cannot look for old snapshots of {directory}", directory):
            return found_snapshots(directory, self.name)


def _free_bytes(directory: Path) -> int:
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def _require_space(problem: str, directory: Path, files: Sequence[Path]) -> None:
    # Asked first, so that replay does not rest for a copy that cannot end well.
    needed_bytes = sum(file.stat().st_blocks * 512 for file in files)
    free_bytes = _free_bytes(directory)
    if needed_bytes > free_bytes:
        raise NotHealthy(
            problem,
            because=f"the copy needs {size_text(needed_bytes)} and the disk has {size_text(free_bytes)} free",
            next_step=f"free some space on the disk of {directory}, or move the copy to XFS or btrfs",
            needed_bytes=needed_bytes,
            free_bytes=free_bytes,
        )


def _copy(source: Path, target: Path) -> None:
    step("providers.copy")
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size_bytes = os.fstat(read).st_size
            os.ftruncate(write, size_bytes)
            offset = 0
            while offset < size_bytes:
                start, end = _next_data(read, offset, size_bytes)
                _copy_range(read, write, start, end)
                offset = end
        finally:
            os.close(write)
    finally:
        os.close(read)


def _next_data(read: int, offset: int, size_bytes: int) -> tuple[int, int]:
    # Source: lseek(2), SEEK_DATA: ENXIO says that only a hole is left.
    try:
        start = os.lseek(read, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size_bytes, size_bytes
        raise
    return start, min(os.lseek(read, start, os.SEEK_HOLE), size_bytes)


def _copy_range(read: int, write: int, start: int, end: int) -> None:
    offset = start
    in_kernel = True
    while offset < end:
        length = min(end - offset, _PIECE_BYTES)
        if in_kernel:
            try:
                copied = os.copy_file_range(read, write, length, offset, offset)
            except OSError as error:
                # Source: copy_file_range(2): these say "not here", not "not this data".
                if error.errno not in {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}:
                    raise
                in_kernel = False
                continue
        else:
            copied = os.pwrite(write, os.pread(read, min(length, _READ_BYTES), offset), offset)
        if copied == 0:
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        # What was read once is not read again soon; replay's own pages should keep the memory.
        os.posix_fadvise(read, offset, copied, os.POSIX_FADV_DONTNEED)
        offset += copied
