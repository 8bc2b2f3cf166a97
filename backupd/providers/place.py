"""Where snapshots lie below a copy's directory, and how they come and go without leaving anything behind.

``<directory>/.backupd-snapshot/<label>.<provider>/`` (0700; a PostgreSQL data
directory has a name of its own for it) is on the copy's own filesystem, so that
blocks can be shared; the name tells what a crash has left and who knows how to
remove it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from backupd.errors import NotHealthy
from backupd.ports import Snapshot
from backupd.process import lives_by_mark, mark_of_process
from backupd.steps import step

PLACE = ".backupd-snapshot"
# In a PostgreSQL data directory: a name that pg_basebackup and pg_rewind pass over, for a directory that the server's
# user may not read makes both of them fail. The server itself removes such names only below base and tablespaces.
SERVER_PLACE = "pgsql_tmp.backupd-snapshot"

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TRIAL = "try-"
_TRIES_MAX = 20


def snapshot_path(directory: Path, label: str, provider: str) -> Path:
    """Where ``provider`` keeps the snapshot ``label`` of ``directory``.

    Raises:
        ValueError: the label is not of ``[A-Za-z0-9._-]``; the caller has a bug.
    """
    place = SERVER_PLACE if (directory / "PG_VERSION").is_file() else PLACE
    return directory / place / f"{checked_label(label)}.{provider}"


def checked_label(label: str) -> str:
    """The label as it stands, when it is one.

    Raises:
        ValueError: it is not of ``[A-Za-z0-9._-]``; the caller has a bug.
    """
    if not _LABEL.fullmatch(label):
        raise ValueError(f"not a label: {label!r}")
    return label


def checked_names(names: Sequence[str]) -> list[PurePosixPath]:
    """``names`` as paths that stay below the directory.

    Raises:
        ValueError: a name is empty, absolute or climbs out; the caller has a bug.
    """
    paths = [PurePosixPath(name) for name in names]
    for path in paths:
        if not path.parts or path.is_absolute() or ".." in path.parts or path.parts[0] in {PLACE, SERVER_PLACE}:
            raise ValueError(f"not a file of the copy: {str(path)!r}")
    return paths


def trial_label() -> str:
    """A label that no run uses, for trying whether a provider works; it tells which process tries.

    Copies of several databases may share a directory, so others may look here meanwhile.
    """
    return f"{_TRIAL}{mark_of_process()}-{secrets.token_hex(4)}"


def is_under_trial(label: str) -> bool:
    """Whether a living process tries a provider by this label."""
    return label.startswith(_TRIAL) and lives_by_mark(label.removeprefix(_TRIAL)) is True


def remove_tree(snapshot: Path) -> None:
    """Remove a snapshot of ordinary files; it may be gone already. Raises OSError."""
    step("providers.remove")
    with suppress(FileNotFoundError):
        shutil.rmtree(snapshot)
    remove_parent(snapshot)


def remove_parent(snapshot: Path) -> None:
    """Remove the place when nothing else lies in it. Raises OSError."""
    try:
        snapshot.parent.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
            raise


def found_snapshots(directory: Path, provider: str) -> list[Snapshot]:
    """What lies in the place under ``provider``'s name, by label, but for what is just tried. Raises OSError."""
    step("providers.look")
    suffix = f".{provider}"
    found = [
        Snapshot(provider, entry.removesuffix(suffix), directory / place / entry, directory)
        for place in (PLACE, SERVER_PLACE)
        for entry in _entries(directory / place)
        if entry.endswith(suffix) and _LABEL.fullmatch(entry.removesuffix(suffix))
    ]
    return [each for each in found if not is_under_trial(each.label)]


def _entries(place: Path) -> list[str]:
    try:
        return sorted(os.listdir(place))
    except (FileNotFoundError, NotADirectoryError):
        return []


def own_path(snapshot: Snapshot, provider: str) -> Path:
    """The snapshot's directory, proven to be one that ``provider`` made: nothing else may ever be removed.

    Raises:
        ValueError: it is another provider's, or lies elsewhere; the caller has a bug.
    """
    name = f"{checked_label(snapshot.label)}.{provider}"
    paths = {snapshot.source / place / name for place in (PLACE, SERVER_PLACE)}
    if snapshot.provider != provider or snapshot.directory not in paths:
        raise ValueError(f"not a snapshot of {provider}: {snapshot.directory}")
    return snapshot.directory


@contextmanager
def building(path: Path, make: Callable[[Path], None], remove: Callable[[Path], None]) -> Iterator[None]:
    """``make`` the snapshot's ``path``, and ``remove`` it again when the block raises. Raises OSError.

    What was there before ``make`` is never removed.  What went wrong in the
    block matters more than a removal that fails too.
    """
    step("providers.make-place")
    try:
        _make_in_place(path, make)
    except BaseException:
        with suppress(OSError):
            remove_parent(path)
        raise
    try:
        yield
    except BaseException:
        with suppress(OSError):
            remove(path)
        raise


def _make_in_place(path: Path, make: Callable[[Path], None]) -> None:
    """Another database's run may remove the empty place between its making and ours. Raises OSError."""
    for _ in range(_TRIES_MAX):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            return make(path)
        except OSError:
            if path.parent.is_dir():
                raise
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))


def make_directory(path: Path) -> None:
    """A directory that is closed to other users. Raises OSError."""
    path.mkdir(mode=0o700)


@contextmanager
def told(problem: str, directory: Path) -> Iterator[None]:
    """Turn an OSError inside into ``NotHealthy`` with the fact and the remedy."""
    try:
        yield
    except OSError as error:
        raise NotHealthy(problem, because=reason_of(error), next_step=_remedy(error, directory)) from error


def reason_of(error: OSError) -> str:
    """The fact in an OSError, with the file that it is about."""
    fact = "the disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else error.strerror or str(error)
    return f"{fact}: {error.filename}" if error.filename else fact


def _remedy(error: OSError, directory: Path) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"free some space on the disk of {directory} (df -h {directory}), then run the backup again"
        case errno.EACCES | errno.EPERM:
            return f"run as the owner of {directory}, or as root"
        case errno.EROFS:
            return f"mount the filesystem of {directory} writable: mount -o remount,rw"
        case errno.EEXIST:
            return "backupctl recover removes what an earlier run has left"
        case _:
            return f"look at {directory} and at the kernel's log (dmesg), then run the backup again"
