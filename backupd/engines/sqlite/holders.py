"""Who has a database's files open or locked, asked from the kernel without opening the files."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backupd.ports import ProcessUse
from backupd.steps import step

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Uses:
    """Processes that have one of the files open; ``unseen`` is "" or says what could not be looked into."""

    processes: tuple[ProcessUse, ...]
    unseen: str


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A byte-range lock on a file: ``kind`` is READ or WRITE; ``last`` is None up to the end of the file.

    ``pid`` is -1 for a lock that belongs to an open file and to no process.
    """

    pid: int
    kind: str
    first: int
    last: int | None


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    device: int
    inode: int


def processes_using(paths: Sequence[Path], *, except_pids: Collection[int] = ()) -> Uses:
    """Processes that have one of ``paths`` open or mapped, each once a file, by pid.

    A file is told by device and inode, so other names, links and deleted files
    count.  A path that does not exist is used by nobody.  Processes of other
    users can be looked into by root only; ``unseen`` counts them.  The files
    are not opened: closing them again would drop this process's POSIX locks.

    Source: proc_pid_fd(5), proc_pid_maps(5).
    """
    step("sqlite.holders")
    files = _files(paths)
    found: list[ProcessUse] = []
    hidden = 0
    for pid in _pids():
        if pid in except_pids or not files:
            continue
        try:
            used = _opened_by(pid, files) | _mapped_by(pid, files)
        except PermissionError:
            # Kernel threads have no command line, and no files either.
            hidden += bool(_command_words(pid))
            continue
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while it was looked at
        found.extend(ProcessUse(pid, _command(pid), path) for path in sorted(used))
    unseen = f"{hidden} processes of other users could not be looked into; run as root to see them" if hidden else ""
    return Uses(tuple(found), unseen)


def processes_holding_removed(paths: Sequence[Path]) -> tuple[ProcessUse, ...]:
    """Processes that still have a file open which was removed or replaced under one of these names.

    What they write reaches nobody who opens the name now.  Told by the name that
    the kernel remembers (``/data/app.db-wal (deleted)``), so files of containers
    with other mounts are not seen, and neither are processes of other users.
    """
    step("sqlite.holders")
    names = {f"{path.parent.resolve() / path.name} (deleted)": str(path) for path in paths}
    found: list[ProcessUse] = []
    for pid in _pids():
        with suppress(OSError):  # it ended, or belongs to somebody else
            lost = {names[link] for link in _links(pid) if link in names}
            found.extend(ProcessUse(pid, _command(pid), path) for path in sorted(lost))
    return tuple(found)


def _links(pid: int) -> Iterator[str]:
    directory = f"{_PROC}/{pid}/fd"
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):  # closed while it was looked at
            yield os.readlink(f"{directory}/{name}")


def lock_holders(path: Path) -> tuple[LockHolder, ...]:
    """Held byte-range locks on ``path``, by first byte; those who only wait are left out.

    Source: proc_locks(5): ``1: POSIX  ADVISORY  WRITE 709 00:1a:8713 120 127``.
    """
    step("sqlite.holders")
    found = []
    for file in _files([path]):
        for line in (_PROC / "locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[1] not in {"POSIX", "OFDLCK"} or not _same_file(file, fields[5]):
                continue
            last = None if fields[7] == "EOF" else int(fields[7])
            found.append(LockHolder(int(fields[4]), fields[3], int(fields[6]), last))
    return tuple(sorted(found, key=lambda lock: (lock.first, lock.pid)))


def _files(paths: Sequence[Path]) -> list[_File]:
    files = []
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            status = path.stat()
            files.append(_File(str(path), status.st_dev, status.st_ino))
    return files


def _pids() -> Iterator[int]:
    yield from sorted(int(name) for name in os.listdir(_PROC) if name.isdigit())


def _opened_by(pid: int, files: Sequence[_File]) -> set[str]:
    used = set()
    directory = f"{_PROC}/{pid}/fd"
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):  # closed while it was looked at
            status = os.stat(f"{directory}/{name}")
            used |= {file.path for file in files if (file.device, file.inode) == (status.st_dev, status.st_ino)}
    return used


def _mapped_by(pid: int, files: Sequence[_File]) -> set[str]:
    # "7f00-7f10 rw-s 00000000 fe:00 2237658   /data/app.db-shm": a mapping outlives the descriptor that made it.
    used = set()
    for line in (_PROC / str(pid) / "maps").read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if fields[4] != "0":
            used |= {file.path for file in files if _same_file(file, f"{fields[3]}:{fields[4]}")}
    return used


def _same_file(file: _File, told: str) -> bool:
    major, minor, inode = told.split(":")
    if int(inode) != file.inode:
        return False
    # btrfs tells the kernel's tables another anonymous device (major 0) than it tells stat.
    if int(major, 16) == 0 and os.major(file.device) == 0:
        return True
    return os.makedev(int(major, 16), int(minor, 16)) == file.device


def _command_words(pid: int) -> list[str]:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
    return [word.decode("utf-8", "replace") for word in words if word]


def _command(pid: int) -> str:
    return " ".join(_command_words(pid)) or "?"
