"""The journal's SQLite file: opened privately, written one transaction a fact, its failures told in three lines."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from backupd.errors import BackupdError, Busy, DamageFound, NotHealthy
from backupd.steps import step

SCHEMA_VERSION = 1
BUSY_SECONDS_MAX = 10.0


class Book:
    """One SQLite file in WAL mode, for several threads and several processes at once.

    Each thread has a connection of its own.  A committed transaction survives a
    power cut (``synchronous=FULL``).

    Args:
        path: the file; it is made with mode 0600, its directory with 0700.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """All rows of one query, read from one moment."""
        step("journal.read")
        with self._told("read"):
            return self._connection().execute(sql, values).fetchall()

    @contextmanager
    def writing(self, what: str) -> Iterator[sqlite3.Connection]:
        """One transaction for one fact: committed durably at the end of the block, undone when the block raises."""
        step(f"journal.{what}")
        with self._told("write"):
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # A failed COMMIT (disk full) may have rolled back by itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close this thread's connection; the next call opens a new one."""
        held: tuple[int, sqlite3.Connection] | None = getattr(self._local, "held", None)
        self._local.held = None
        if held is not None and held[0] == os.getpid():
            held[1].close()

    def _connection(self) -> sqlite3.Connection:
        held: tuple[int, sqlite3.Connection] | None = getattr(self._local, "held", None)
        # SQLite forbids the use of a connection behind a fork; the child opens its own and leaves that one alone.
        if held is not None and held[0] == os.getpid():
            return held[1]
        if held is not None:
            _inherited.append(held[1])
        connection = self._open()
        self._local.held = (os.getpid(), connection)
        return connection

    def _open(self) -> sqlite3.Connection:
        step("journal.open")
        _make_directory(self.path.parent)
        # Only a file that is new is opened here: closing a second descriptor of it would drop SQLite's POSIX locks.
        if not self.path.exists():
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            except FileExistsError:
                pass  # another process was quicker
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS_MAX, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version == SCHEMA_VERSION:
            return
        if version > SCHEMA_VERSION:
            raise NotHealthy(
                f"cannot use the journal {self.path}",
                because=f"a newer backupd wrote it (format {version}; this one knows {SCHEMA_VERSION})",
                next_step="run the newer backupd, or give this one a state_dir of its own in backupd.toml",
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _schema_statements():
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

    @contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise  # a broken rule of the tables is a bug
        except sqlite3.DatabaseError as error:
            told = self._explain(error, verb)
            if told is None:
                raise
            raise told from error
        except OSError as error:
            raise self._unhealthy(verb, error.strerror or str(error)) from error

    def _explain(self, error: sqlite3.DatabaseError, verb: str) -> BackupdError | None:
        # Source: SQLite's result codes; the low byte is the primary one.
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return Busy(
                f"cannot {verb} the journal {self.path}",
                because=f"another process kept it locked for {BUSY_SECONDS_MAX:.0f} s",
                next_step="try again; backupctl status shows what runs",
            )
        if primary in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return DamageFound(
                f"cannot {verb} the journal {self.path}",
                because=f"it is damaged: {error}",
                next_step=f"mv {self.path} {self.path}.damaged (no restore needs it), then backupctl recover",
            )
        if primary == sqlite3.SQLITE_FULL:
            return self._unhealthy(verb, "the disk is full")
        if primary in {
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_PERM,
            sqlite3.SQLITE_NOLFS,
        }:
            return self._unhealthy(verb, str(error))
        return None

    def _unhealthy(self, verb: str, because: str) -> NotHealthy:
        return NotHealthy(
            f"cannot {verb} the journal {self.path}",
            because=because,
            next_step=f"make {self.path.parent} writable with some free space, then run the command again",
        )


# Connections that a fork has brought along: kept, so that nobody closes them in the child.
_inherited: list[Any] = []


def _schema_statements() -> list[str]:
    text = files("backupd.journal").joinpath("schema.sql").read_text(encoding="utf-8")
    bare = "\n".join(line.partition("--")[0] for line in text.splitlines())
    return [statement.strip() for statement in bare.split(";") if statement.strip()]


def _make_directory(path: Path) -> None:
    """Each missing directory for its owner only; with ``parents=True`` those above would be left to the umask."""
    for missing in [place for place in (*reversed(path.parents), path) if not place.exists()]:
        missing.mkdir(mode=0o700, exist_ok=True)
