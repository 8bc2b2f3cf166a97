"""A restore onto the active copy: nobody may have the file open, and the new file comes into place last.

The order that survives a crash at any moment: the pair remembers *new history*
(so that whatever file is found there is compared page by page), the old file's
log is folded into it, and one rename replaces it.  Before the rename the old
database is whole; after it the restored one is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.durable import read_json, sync_directory
from backupd.engines.sqlite.holders import processes_using
from backupd.engines.sqlite.locks import lock_is_free
from backupd.engines.sqlite.lost_commits import commits_after
from backupd.engines.sqlite.pairfile import change_pair
from backupd.engines.sqlite.restore_stage import RestoreStage, StagedTarget, stage_of
from backupd.engines.sqlite.status import ask
from backupd.errors import NotHealthy, Refused
from backupd.model.position import Position
from backupd.ports import ProcessUse, TargetFacts
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.engines.sqlite.writer import SqliteWriter

CAPTURE_ENDS_SECONDS = 60.0
_PENDING_BYTE = 0x40000000  # sqlite os.h: PENDING_BYTE, RESERVED_BYTE, SHARED_FIRST with SHARED_SIZE 510
_FLOCK = struct.Struct("hhqqi4x")
_PARKED = ".before-restore"


class ActiveTarget(StagedTarget):
    """See ``ports.RestoreTarget``."""

    def __init__(self, writer: SqliteWriter) -> None:
        self._writer = writer
        self._files = writer.active_files()
        super().__init__(self._files.path)

    # --- before -------------------------------------------------------------

    def facts(self) -> TargetFacts:
        """See ``ports.RestoreTarget``."""
        room = os.statvfs(self.path.parent)
        exists = self.path.exists()
        return TargetFacts(
            role="active",
            path=self.path,
            exists=exists,
            size_bytes=self.path.stat().st_size if exists else 0,
            position=self._writer.pair().active.closed,
            users=self._users(),
            free_bytes=room.f_bavail * room.f_frsize,
        )

    def commits_after(self, position: Position, at: datetime | None) -> int | None:
        """See ``ports.RestoreTarget``; of log that is closed already."""
        return commits_after(self._files.logs, position, at)

    def _users(self) -> tuple[ProcessUse, ...]:
        """Other programs that have the file or its log open; our own capture is none."""
        names = [self.path, *_log_names(self.path)]
        ours = {os.getpid()}
        for facts in (ask(self._files.capture_socket, "the capture process"), read_json(self._files.capture_state)):
            if facts and facts.get("pid") and _is_capture(int(facts["pid"])):
                ours.add(int(facts["pid"]))
        found = processes_using([name for name in names if name.exists()], except_pids=ours).processes
        named = {use.pid: replace(use, command=_short(use.command)) for use in reversed(found)}
        return tuple(named.values())  # one a process, however many files it has open

    def _refuse_users(self) -> None:
        users = self._users()
        if users:
            named = ", ".join(f"{user.command} (pid {user.pid})" for user in users[:5])
            raise Refused(
                f"cannot restore {self.path}",
                because=f"a program has it open: {named}",
                next_step="stop that program (the policy's restore.stop_command can do it), then restore again",
                users=[user.pid for user in users],
            )

    def begin(self, run_id: str, *, force: bool = False) -> None:  # noqa: ARG002 - only directories can be forced
        """See ``ports.RestoreTarget``."""
        self._refuse_users()
        step("restore.begin")
        change_pair(self._writer.layout.pair, restoring=run_id)
        deadline = time.monotonic() + CAPTURE_ENDS_SECONDS
        while not lock_is_free(self._files.directory / "capture.lock"):
            if time.monotonic() > deadline:
                raise NotHealthy(
                    f"cannot restore {self.path}",
                    because=f"the capture process did not end within {CAPTURE_ENDS_SECONDS:g} s",
                    next_step="stop the backupd service, restore, and start it again",
                )
            time.sleep(0.02)
        self._refuse_users()

    # --- the change ---------------------------------------------------------

    def activate(self, *, came_from: str) -> None:
        """See ``ports.RestoreTarget``."""
        self._refuse_users()
        self._stage.sync()
        change_pair(self._writer.layout.pair, new_history_because=came_from)
        step("restore.activate")
        try:
            if not self.path.exists():
                self._put_in_place(mode=0o600)
                return
            self._fold_log()
            with self._claimed():
                found = self.path.stat()
                os.chown(self._stage.path, found.st_uid, found.st_gid)
                self._put_in_place(mode=stat.S_IMODE(found.st_mode) & 0o770)
        except OSError as error:
            raise NotHealthy(
                f"cannot put the restored file in place of {self.path}",
                because=error.strerror or str(error),
                next_step="fix the rights of its directory, then run the same restore again",
            ) from None

    def _put_in_place(self, mode: int) -> None:
        for name in _log_names(self.path):
            # A log that is left belongs to a file that SQLite could not open; beside the new one it would be poison.
            if name.exists():
                os.rename(name, name.with_name(name.name + _PARKED))
        os.chmod(self._stage.path, mode)
        step("restore.rename")
        os.rename(self._stage.path, self.path)
        sync_directory(self.path.parent)
        for name in _log_names(self.path):
            name.with_name(name.name + _PARKED).unlink(missing_ok=True)

    def _fold_log(self) -> None:
        """Bring the old file's own log into it, so that a crash before the rename leaves it whole by itself."""
        step("restore.fold_log")
        with contextlib.suppress(sqlite3.DatabaseError):  # a damaged file is why people restore
            connection = sqlite3.connect(self.path, timeout=1.0, isolation_level=None)
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.close()

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        """Hold SQLite's own exclusive lock on the old file, as bytes: who opens it now is told *locked*.

        Not through SQLite: closing such a connection would delete the ``-wal`` of
        the new file by its name.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            try:
                claim = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _PENDING_BYTE, 512, 0)
                fcntl.fcntl(fd, fcntl.F_SETLK, claim)
            except OSError:
                self._refuse_users()
                raise Refused(
                    f"cannot restore {self.path}",
                    because="a program has it locked",
                    next_step="stop that program, then restore again",
                ) from None
            yield
        finally:
            os.close(fd)

    def finish(self) -> None:
        """See ``ports.RestoreTarget``."""
        step("restore.finish")
        change_pair(self._writer.layout.pair, restoring="")
        self._stage.remove()

    def abandon(self, *, keep_stage: bool = False) -> None:
        """See ``ports.RestoreTarget``."""
        if not keep_stage:
            self._stage.remove()
        change_pair(self._writer.layout.pair, restoring="")


def _short(command: str) -> str:
    """A command line as a person recognises it: programs and scripts without their directories, three words at most."""
    return " ".join(os.path.basename(word) for word in command.split()[:3])[:60]


def _log_names(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def _is_capture(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"backupd.engines.sqlite.capture" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def recover_active(writer: SqliteWriter, *, keep_stage: bool) -> Sequence[str]:
    """Clear what a restore that died has left; the caller holds the lease, so none is running."""
    path = writer.active_files().path
    done = []
    stage = RestoreStage(stage_of(path))
    if stage.path.exists():
        for name in _log_names(path):
            parked = name.with_name(name.name + _PARKED)
            if parked.exists() and name.exists():
                # Somebody has opened the old file since, and has commits in it that must not be lost.
                done.append(f"left {parked}: there is a newer {name.name}, which it must not replace")
            elif parked.exists():
                os.rename(parked, name)
                done.append(f"put {name.name} back: the restore died before its new file was in place")
    else:
        for name in _log_names(path):
            name.with_name(name.name + _PARKED).unlink(missing_ok=True)
    if not keep_stage and stage.remove():
        done.append(f"removed {stage.path.name}, which an unfinished restore had left")
    if writer.pair_state().restoring:
        run = writer.pair_state().restoring
        change_pair(writer.layout.pair, restoring="")
        done.append(f"replication may run again: restore {run} is dead")
    return done
