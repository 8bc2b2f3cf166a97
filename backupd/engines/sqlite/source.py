"""The active's file as the capture process holds it: opened once, and never closed before the process ends.

POSIX locks belong to the process and die when *any* descriptor on the file is
closed (fcntl(2); measured: closing a second descriptor on ``-shm`` let another
process truncate the log under a read transaction).  So everything here is
opened once, in a process that does nothing else, and leaves by ``os._exit``:
that also keeps SQLite's last-close checkpoint from deleting the ``-wal``.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sqlite3
import struct
import time
from dataclasses import dataclass, replace
from pathlib import Path

from backupd.engines.sqlite import walindex
from backupd.errors import BackupdError, NotFound, NotHealthy
from backupd.steps import step

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2) on 64-bit Linux
_WRITE_LOCK, _CHECKPOINT_LOCK = 120, 121  # bytes of -shm (sqlite wal.c, walformat)
_READ_LOCK_SLOT_1 = 124  # byte of WAL_READ_LOCK(1) in -shm: 120 + 3 + 1 (sqlite wal.c, walformat)
BUSY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which file a name points to."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """Raises FileNotFoundError."""
        found = os.stat(path)
        return cls(found.st_dev, found.st_ino)


class FileLostError(NotHealthy):
    """The open files are not the ones that the names lead to any more."""


def _lost(path: Path, because: str, next_step: str) -> FileLostError:
    return FileLostError(f"cannot capture {path}", because=because, next_step=next_step)


def not_fit(path: Path, because: str, next_step: str) -> NotHealthy:
    """The active cannot be captured."""
    return NotHealthy(f"cannot capture {path}", because=because, next_step=next_step)


def check_is_wal_database(path: Path) -> int:
    """The page size of the SQLite file at ``path``, read from its header (sqlite fileformat2: offsets 0, 16, 18).

    Opens the file plainly: never call it in a process that holds SQLite locks on it.

    Raises:
        NotFound: there is no such file.
        NotHealthy: not an SQLite database, not in WAL mode, has other names, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(100)
        links = os.stat(path).st_nlink
    except FileNotFoundError:
        raise NotFound(
            f"no database at {path}",
            because="the file does not exist",
            next_step="correct the path of this copy in the policy, or start the application that makes it",
        ) from None
    except OSError as error:
        raise not_fit(path, f"it cannot be read: {error.strerror}", "run backupd as a user that may read it") from None
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise not_fit(path, "it is not an SQLite database", "correct the path of this copy in the policy")
    if header[18] != 2 or header[19] != 2:
        raise not_fit(
            path,
            "it is not in WAL mode, so its changes leave no log",
            f"sqlite3 {path} 'PRAGMA journal_mode=WAL'",
        )
    if links > 1:
        raise not_fit(path, f"it has {links} names (hard links), and SQLite keeps one log a name", "remove the others")
    size = int.from_bytes(header[16:18], "big")
    return 65536 if size == 1 else size


class ActiveFile:
    """The database file, its ``-wal`` and ``-shm``, and four connections: one locks, one checkpoints, two read.

    Raises (constructor):
        NotFound, NotHealthy: the file cannot be captured; the sentence says why.
    """

    def __init__(self, path: Path) -> None:
        self.page_bytes = check_is_wal_database(path)  # before any lock is held
        self.path = path
        self.wal_path = path.with_name(path.name + "-wal")
        self.shm_path = path.with_name(path.name + "-shm")
        self.identity = FileIdentity.of(path)
        step("capture.open")
        try:
            self._locker = self._connect()
            self._checkpointer = self._connect()
            self.readers = (self._connect(), self._connect())
            self._check_mode()
        except sqlite3.Error as error:
            raise self._refused(error) from None
        try:
            self._db_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._shm_fd = os.open(self.shm_path, os.O_RDONLY | os.O_CLOEXEC)
            self._wal_fd = os.open(self.wal_path, os.O_RDONLY | os.O_CLOEXEC)
            self._shm = mmap.mmap(self._shm_fd, walindex.INDEX_BYTES, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise not_fit(path, f"its log cannot be read: {error}", "run backupd on the host of the database") from None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{_quoted(self.path)}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA cache_size=16")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        return connection

    def _check_mode(self) -> None:
        for attempt in range(50):
            try:
                mode = self._locker.execute("PRAGMA journal_mode").fetchone()[0]
                # A first write lock makes SQLite recover and create -wal and -shm.
                self._locker.execute("BEGIN IMMEDIATE")
                self._locker.execute("ROLLBACK")
                break
            except sqlite3.OperationalError:
                if attempt == 49:
                    raise
                time.sleep(0.02)
        if mode != "wal":
            raise not_fit(self.path, f"its journal mode is {mode}", f"sqlite3 {self.path} 'PRAGMA journal_mode=WAL'")

    def _refused(self, error: sqlite3.Error) -> BackupdError:
        if "locked" in str(error):
            return not_fit(
                self.path,
                "another program holds it locked (exclusive locking mode, or a long write)",
                "let that program use normal locking (PRAGMA locking_mode=NORMAL) or wait until it is done",
            )
        return not_fit(self.path, f"SQLite says: {error}", f"sqlite3 {self.path} 'PRAGMA integrity_check'")

    def index(self) -> walindex.WalIndex:
        """The wal-index header as it stands now (both copies equal).

        Raises:
            NotHealthy: it stays torn or is not initialised for over a second.
        """
        for attempt in range(200):
            found = walindex.read_index(self._shm)
            if found is not None:
                return self._completed(found)
            if attempt > 20:
                time.sleep(0.005)
        raise not_fit(self.path, "its -shm file stays unreadable", "close every program that uses it, then try again")

    def _completed(self, found: walindex.WalIndex) -> walindex.WalIndex:
        """An empty log leaves sizes out of the header; the main file then holds everything (sqlite wal.c)."""
        if found.max_frame:
            return found
        pages = self.main_bytes() // self.page_bytes
        return replace(found, page_bytes=self.page_bytes, page_count=pages)

    def begin_read(self, reader: int) -> None:
        """Begin a read transaction on reader 0 or 1: from here on SQLite keeps the log that it can see."""
        self._execute(self.readers[reader], "BEGIN")
        try:
            self._execute(self.readers[reader], "SELECT 1 FROM sqlite_schema LIMIT 1")
        except NotHealthy:
            self.end_read(reader)
            raise

    def end_read(self, reader: int) -> None:
        """End the read transaction of reader 0 or 1, if there is one."""
        if self.readers[reader].in_transaction:
            self._execute(self.readers[reader], "COMMIT")

    def _execute(self, connection: sqlite3.Connection, statement: str) -> list[tuple[int, ...]]:
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.Error as error:
            raise self._refused(error) from None

    def lock_write(self, timeout_seconds: float = BUSY_SECONDS) -> bool:
        """Take the write lock (writes zero bytes); False when a writer keeps it longer than the timeout."""
        step("capture.lock_write")
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                self._locker.execute("BEGIN IMMEDIATE")
                return True
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) and "busy" not in str(error):
                    raise self._refused(error) from None
                if time.monotonic() >= deadline:
                    return False

    def unlock_write(self) -> None:
        """Give the write lock back."""
        if self._locker.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._locker.execute("ROLLBACK")

    def checkpoint_passive(self) -> tuple[int, int]:
        """Back-fill what no reader needs; answers (frames in the log, frames back-filled). Never waits for readers."""
        step("capture.checkpoint")
        rows = self._execute(self._checkpointer, "PRAGMA wal_checkpoint(PASSIVE)")
        _, log, done = rows[0]
        return log, done

    def other_readers_in_log(self) -> bool:
        """Whether another process reads from the log (locks on slots 1..4); our own locks are not seen."""
        return any(self._holder(_READ_LOCK_SLOT_1 + slot) for slot in range(4))

    def blocking_checkpoint(self) -> bool:
        """Whether another process is in a FULL, RESTART or TRUNCATE checkpoint: these hold both locks at once."""
        holder = self._holder(_CHECKPOINT_LOCK)
        return holder != 0 and holder == self._holder(_WRITE_LOCK)

    def _holder(self, lock: int) -> int:
        """The other process that holds this byte of ``-shm`` locked; 0 for none (or for ourselves)."""
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, lock, 1, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(self._shm_fd, fcntl.F_GETLK, question))
        return 0 if kind == fcntl.F_UNLCK else int(pid) or -1

    def read_wal(self, offset: int, length: int) -> bytes:
        """Bytes of the ``-wal``; fewer at its end."""
        return os.pread(self._wal_fd, length, offset)

    def read_main(self, offset: int, length: int) -> bytes:
        """Bytes of the main file; fewer at its end."""
        return os.pread(self._db_fd, length, offset)

    def main_bytes(self) -> int:
        """Size of the main file."""
        return os.fstat(self._db_fd).st_size

    def wal_bytes(self) -> int:
        """Size of the ``-wal`` on disk."""
        return os.fstat(self._wal_fd).st_size

    def sync_wal(self) -> None:
        """After this, every frame that was read survives a power cut."""
        step("capture.sync_wal")
        os.fsync(self._wal_fd)

    def check_names(self) -> None:
        """Whether the names still lead to the files that are open here (a ``mv`` or ``rm`` breaks that).

        Raises:
            FileLostError: the database, its ``-wal`` or its ``-shm`` was replaced or removed.
        """
        try:
            replaced = FileIdentity.of(self.path) != self.identity
        except FileNotFoundError:
            replaced = True
        if replaced:
            raise _lost(
                self.path,
                "the file was replaced or removed while it was in use; other programs now write another file",
                "nothing to do if that was meant: backupd begins a new history with the new file",
            )
        for fd, path in ((self._wal_fd, self.wal_path), (self._shm_fd, self.shm_path)):
            try:
                same = os.stat(path).st_ino == os.fstat(fd).st_ino
            except FileNotFoundError:
                same = False
            if not same:
                raise _lost(
                    self.path,
                    f"{path.name} was removed or replaced while programs use it; their commits may go to a lost file",
                    "stop every program that uses the database, start them again, and never remove -wal or -shm",
                )


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
