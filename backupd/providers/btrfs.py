"""Read-only btrfs snapshots of a whole subvolume: one instant, no space, and nobody can change them.

Made by ioctl, so that no tool is needed.  Source: linux/btrfs.h; the numbers
are those of x86 and ARM.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from backupd.errors import NotHealthy
from backupd.ports import ProviderFeature, Snapshot, Suitability
from backupd.providers.place import (
    building,
    checked_names,
    found_snapshots,
    own_path,
    reason_of,
    remove_parent,
    snapshot_path,
    told,
    trial_label,
)
from backupd.steps import step

_SNAP_DESTROY = 0x5000940F
_SNAP_CREATE_V2 = 0x50009417
_SUBVOL_CREATE_V2 = 0x50009418
_SUBVOL_GETFLAGS = 0x80089419
_SUBVOL_SETFLAGS = 0x4008941A
_READ_ONLY = 1 << 1
_TOLD_MAX = 5  # so many missing files are named


class BtrfsProvider:
    """Snapshots the subvolume that the copy's directory is the root of.

    A plain user needs the mount option ``user_subvol_rm_allowed``, else a
    snapshot could be made and never removed; ``suits`` finds that out with an
    empty subvolume, which anybody may remove.
    """

    name = "btrfs"
    features = frozenset({ProviderFeature.ATOMIC, ProviderFeature.SHARES_BLOCKS, ProviderFeature.READ_ONLY})

    def suits(self, directory: Path) -> Suitability:
        """Make and remove an empty subvolume and then a snapshot, for real."""
        path = snapshot_path(directory, trial_label(), self.name)
        try:
            _require_subvolume(directory)
            with building(path, _create_subvolume, _remove):
                _destroy(path)
                _create_snapshot(directory, path)
            _remove(path)
        except OSError as error:
            return Suitability(False, _why_not(error))
        return Suitability(True, "it is a btrfs subvolume")

    def take(self, directory: Path, names: Sequence[str], label: str) -> Snapshot:
        """Snapshot the subvolume. Raises NotHealthy; nothing is left."""
        path = snapshot_path(directory, label, self.name)
        relative = checked_names(names)
        problem = f"cannot snapshot the btrfs subvolume {directory}"
        with told(problem, directory), building(path, partial(_create_snapshot, directory), _remove):
            _require_files(path, [str(name) for name in relative])
        return Snapshot(self.name, label, path, directory)

    def discard(self, snapshot: Snapshot) -> None:
        """Remove the snapshot; it may be gone already. Raises NotHealthy."""
        path = own_path(snapshot, self.name)
        with told(f"cannot remove the snapshot {path}", snapshot.source):
            step("providers.remove")
            _remove(path)

    def leftovers(self, directory: Path) -> Sequence[Snapshot]:
        """Snapshots that an earlier run has left. Raises NotHealthy."""
        with told(f"cannot look for old snapshots of {directory}", directory):
            return found_snapshots(directory, self.name)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _arguments(descriptor: int, name: str, *, flags: int = 0) -> bytearray:
    # struct btrfs_ioctl_vol_args_v2: fd, transid, flags, four unused, name; bytearray because it is over 1 KiB.
    return bytearray(struct.pack("=qQQ4Q4040s", descriptor, 0, flags, 0, 0, 0, 0, os.fsencode(name)))


def _require_subvolume(directory: Path) -> None:
    # Only the root of a subvolume answers; ENOTTY is another filesystem, EINVAL a directory inside one.
    with _opened(directory) as descriptor:
        fcntl.ioctl(descriptor, _SUBVOL_GETFLAGS, b"\0" * 8)


def _create_subvolume(path: Path) -> None:
    with _opened(path.parent) as parent:
        fcntl.ioctl(parent, _SUBVOL_CREATE_V2, _arguments(0, path.name))


def _create_snapshot(directory: Path, path: Path) -> None:
    # The kernel writes the subvolume's dirty pages out first, so what was written before is inside.
    step("providers.snapshot")
    with _opened(directory) as source, _opened(path.parent) as parent:
        fcntl.ioctl(parent, _SNAP_CREATE_V2, _arguments(source, path.name, flags=_READ_ONLY))


def _destroy(path: Path) -> None:
    # struct btrfs_ioctl_vol_args: fd, name
    with _opened(path.parent) as parent:
        fcntl.ioctl(parent, _SNAP_DESTROY, bytearray(struct.pack("=q4088s", 0, os.fsencode(path.name))))


def _remove(path: Path) -> None:
    try:
        _destroy(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EPERM, errno.EACCES}:
            raise
        _remove_as_plain_user(path)
    remove_parent(path)


def _remove_as_plain_user(path: Path) -> None:
    # A plain user must be able to write to what he removes, and may always remove an empty subvolume by rmdir.
    with _opened(path) as snapshot:
        fcntl.ioctl(snapshot, _SUBVOL_SETFLAGS, struct.pack("=Q", 0))
    try:
        _destroy(path)
    except PermissionError:
        try:
            path.rmdir()
        except OSError as error:
            raise PermissionError(errno.EPERM, "user_subvol_rm_allowed is not set") from error


def _require_files(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if not os.path.isfile(f"{path}/{name}")]
    if missing:
        more = f" and {len(missing) - _TOLD_MAX} more" if len(missing) > _TOLD_MAX else ""
        raise NotHealthy(
            f"the snapshot of {path.parent.parent} lacks {', '.join(missing[:_TOLD_MAX])}{more}",
            because="the file is not there, or lies in a subvolume of its own inside the directory",
            next_step="keep all files of a copy in one btrfs subvolume",
        )


def _why_not(error: OSError) -> str:
    match error.errno:
        case errno.ENOTTY | errno.EOPNOTSUPP | errno.ENOSYS:
            return "not on btrfs"
        case errno.EINVAL:
            return "not the root of a btrfs subvolume (btrfs subvolume create makes one)"
        case errno.EPERM | errno.EACCES:
            return "this user may not remove btrfs snapshots (mount with user_subvol_rm_allowed)"
        case _:
            return f"a btrfs snapshot did not work: {reason_of(error)}"
