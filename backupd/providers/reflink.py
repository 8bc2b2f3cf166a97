"""Block-sharing clones of each file (FICLONE): at once, and no space until replay changes pages; XFS and btrfs."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path

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

# Source: linux/fs.h (_IOW(0x94, 9, int), _IOR('f', 1, long), _IOW('f', 2, long)); ioctl_ficlone(2).
_FICLONE = 0x40049409
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_NOCOW_FL = 0x00800000


class ReflinkProvider:
    """Clones each file into the snapshot's place; the clone is of one instant, the files only as long as replay rests.

    Opening and closing a file drops this process's POSIX locks on it, so the
    process that replays must not be the one that takes snapshots.
    """

    name = "reflink"
    features = frozenset({ProviderFeature.SHARES_BLOCKS})

    def suits(self, directory: Path) -> Suitability:
        """Clone a small file for real, and remove it."""
        path = snapshot_path(directory, trial_label(), self.name)
        try:
            with building(path, make_directory, remove_tree):
                (path / "from").write_bytes(b"x" * 4096)
                _clone(f"{path}/from", f"{path}/to")
            remove_tree(path)
        except OSError as error:
            return Suitability(False, _why_not(error))
        return Suitability(True, "the filesystem clones files")

    def take(self, directory: Path, names: Sequence[str], label: str) -> Snapshot:
        """Clone each file. Raises NotHealthy; nothing is left."""
        path = snapshot_path(directory, label, self.name)
        relative = checked_names(names)
        problem = f"cannot clone the files of {directory}"
        with told(problem, directory), building(path, make_directory, remove_tree):
            # Replay rests meanwhile, and a cluster has thousands of files: nothing is asked of the kernel twice.
            for below in sorted({name.parent for name in relative}):
                (path / below).mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in relative:
                _clone(f"{directory}/{name}", f"{path}/{name}")
        return Snapshot(self.name, label, path, directory)

    def discard(self, snapshot: Snapshot) -> None:
        """Remove the clones; they may be gone already. Raises NotHealthy."""
        path = own_path(snapshot, self.name)
        with told(f"cannot remove the snapshot {path}", snapshot.source):
            remove_tree(path)

    def leftovers(self, directory: Path) -> Sequence[Snapshot]:
        """Clones that an earlier run has left. Raises NotHealthy."""
        with told(f"cannot look for old snapshots of {directory}", directory):
            return found_snapshots(directory, self.name)


def _clone(source: str, target: str) -> None:
    step("providers.clone")
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _keep_nocow(read, write)
            fcntl.ioctl(write, _FICLONE, read)
        finally:
            os.close(write)
    finally:
        os.close(read)


def _keep_nocow(read: int, write: int) -> None:
    # btrfs clones a chattr +C file only onto another one; the flag can be set while a file is empty.
    try:
        source, target = _flags(read), _flags(write)
        if (source ^ target) & _FS_NOCOW_FL:
            changed = (target & ~_FS_NOCOW_FL) | (source & _FS_NOCOW_FL)
            fcntl.ioctl(write, _FS_IOC_SETFLAGS, struct.pack("l", changed))
    except OSError as error:
        # Filesystems without flags do without them; the clone itself says what does not work.
        if error.errno not in {errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL}:
            raise


def _flags(descriptor: int) -> int:
    # The kernel writes an int into the long that the number promises.
    return int(struct.unpack("i", fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, b"\0" * struct.calcsize("l"))[:4])[0])


def _why_not(error: OSError) -> str:
    if error.errno in {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS}:
        return "the filesystem cannot clone files"
    return f"cloning a file did not work: {reason_of(error)}"
