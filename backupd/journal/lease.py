"""One run at a time on a database: a kernel lock that dies with its holder, with the holder's name inside."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from backupd.errors import Busy, NotHealthy
from backupd.process import command_of
from backupd.steps import step


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who holds a lease: ``run`` is the run's own name, ``since`` an ISO 8601 time; unknown parts are empty."""

    pid: int
    host: str
    command: str
    run: str
    since: str


class RunLease:
    """An exclusive lock on one file, held by this process until ``release``, the end of the block, or its death.

    The kernel frees it when the process dies, however it dies; a child that
    this process forks does not hold it.  The file stays: removing it would let
    two holders lock two files of one name.

    Args:
        path: the lock file; its directory is made when missing (0700).
        run: what the holder does, for whoever finds it busy.
        now: the clock's door.
    """

    def __init__(self, path: Path, *, run: str, now: Callable[[], datetime]) -> None:
        self.path = path
        self._run = run
        self._now = now
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lease now, or say who has it; it never waits.

        Raises:
            Busy: another process, or another lease object of this one, holds it.
            NotHealthy: the lock file cannot be made or written.
        """
        if self._descriptor is not None:
            raise RuntimeError(f"this lease is held already: {self.path}")
        step("lease.acquire")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _not_usable(self.path, error) from error
        try:
            self._lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held_here.add(descriptor)

    def release(self) -> None:
        """Give the lease back; it may have been given back already."""
        descriptor, self._descriptor = self._descriptor, None
        # In a forked child the descriptor is gone: see _forget_in_child.
        if descriptor is None or descriptor not in _held_here:
            return
        _held_here.discard(descriptor)
        # Closing frees the lock even if the name inside cannot be wiped; unlocking first frees it also while a child
        # that was forked this very moment still has the descriptor (flock(2): the lock is the open file's).
        try:
            os.ftruncate(descriptor, 0)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        except OSError:
            pass
        os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(self.path, _read_holder(descriptor)) from None
        except OSError as error:
            raise _not_usable(self.path, error) from error
        holder = LeaseHolder(
            pid=os.getpid(),
            host=socket.gethostname(),
            command=command_of(os.getpid()),
            run=self._run,
            since=self._now().isoformat(timespec="seconds"),
        )
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)
        except OSError as error:
            raise _not_usable(self.path, error) from error


def lease_holder(path: Path) -> LeaseHolder | None:
    """Who holds the lease at ``path`` now, or None; never waits and never takes the lease from anybody.

    Raises:
        NotHealthy: the lock file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _not_usable(path, error) from error
    try:
        said = _read_holder(descriptor)
        # A shared try-lock could make a run that starts this very moment think that it is busy; /proc/locks only looks.
        return said if said.pid and _locks_it(said.pid, os.fstat(descriptor).st_ino) else None
    finally:
        os.close(descriptor)


def _locks_it(pid: int, inode: int) -> bool:
    # Source: proc_locks(5): "1: FLOCK  ADVISORY  WRITE 709 00:1a:8713 0 EOF".  The device is not compared: btrfs
    # shows another one here than to stat.
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        fields = line.split()
        if fields[1:2] == ["FLOCK"] and fields[4] == str(pid) and fields[5].rpartition(":")[2] == str(inode):
            return True
    return False


def _read_holder(descriptor: int) -> LeaseHolder:
    try:
        said = json.loads(os.pread(descriptor, 65536, 0))
        return LeaseHolder(
            pid=int(said["pid"]),
            host=str(said["host"]),
            command=str(said["command"]),
            run=str(said["run"]),
            since=str(said["since"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        # The holder has locked the file and has not written its name yet.
        return LeaseHolder(0, "", "", "", "")


def _busy(path: Path, holder: LeaseHolder) -> Busy:
    who = f"process {holder.pid} ({holder.command}) holds its lease since {holder.since}" if holder.pid else ""
    return Busy(
        f"cannot begin: {holder.run or 'another run'} is under way",
        because=who or f"another process has just locked {path}",
        next_step=f"wait for it, or end it with: kill {holder.pid}" if holder.pid else "try again in a moment",
        **asdict(holder),
    )


def _not_usable(path: Path, error: OSError) -> NotHealthy:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return NotHealthy(
        f"cannot use the lease {path}",
        because="the disk is full" if full else str(error.strerror or error),
        next_step=f"free some space on the disk of {path.parent}"
        if full
        else f"make {path.parent} writable for this user",
    )


# A lock belongs to the open file, which a forked child shares: a child that outlives us would keep it.
_held_here: set[int] = set()


def _forget_in_child() -> None:
    for descriptor in _held_here:
        os.close(descriptor)
    _held_here.clear()


os.register_at_fork(after_in_child=_forget_in_child)
