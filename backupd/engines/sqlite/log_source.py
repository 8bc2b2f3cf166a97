"""Where the passive gets closed log files from: a port of this engine, so that a network source can come later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.logfile import PIECE_BYTES
from backupd.engines.sqlite.logheader import LogHeader, unwritable
from backupd.errors import NotFound
from backupd.steps import step


class LogSource(Protocol):
    """Where the passive gets closed log files from."""

    def holds(self, history: str, number: int) -> bool:
        """Whether this closed log file is there now."""
        ...

    def newest(self, history: str) -> int | None:
        """The number of the newest closed log file of ``history``; None when there is none."""
        ...

    def oldest(self, history: str) -> int | None:
        """The number of the oldest that is still held."""
        ...

    def header(self, history: str, number: int) -> LogHeader:
        """The header of a log file that is held. Raises NotFound or DamageFound."""
        ...

    def successor(self, history: str, offset: int) -> str | None:
        """The history that goes on from ``offset`` of ``history``, if the active has begun one."""
        ...

    def fetch(self, history: str, number: int, target: Path) -> None:
        """Copy the file to ``target`` (it may exist and is replaced), mode 0600.

        Raises:
            NotFound: the active does not hold it.
            NotHealthy: reading or writing failed.
        """
        ...


class SameHost:
    """The active's log directory on this host."""

    def __init__(self, root: Path) -> None:
        self._logs = LogDir(root)

    def holds(self, history: str, number: int) -> bool:
        """See ``LogSource``."""
        return self._logs.history(history).path_of(number).exists()

    def newest(self, history: str) -> int | None:
        """See ``LogSource``."""
        return self._logs.history(history).newest()

    def oldest(self, history: str) -> int | None:
        """See ``LogSource``."""
        return self._logs.history(history).oldest()

    def header(self, history: str, number: int) -> LogHeader:
        """See ``LogSource``."""
        return self._logs.history(history).header(number)

    def successor(self, history: str, offset: int) -> str | None:
        """See ``LogSource``."""
        return self._logs.successor(history, offset)

    def fetch(self, history: str, number: int, target: Path) -> None:
        """See ``LogSource``.  Read and write, never a shared extent: rot of one copy must not be rot of both."""
        source = self._logs.history(history).path_of(number)
        try:
            reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(
                f"the active does not hold log {number} of history {history}",
                because=f"{source} does not exist",
                next_step="backupctl copy seed DATABASE",
            ) from None
        except OSError as error:
            raise unwritable(source, error) from None
        try:
            copy_file(reading, target)
        finally:
            os.close(reading)


def copy_file(reading: int, target: Path) -> None:
    """Copy an open file to ``target``, durable. Raises NotHealthy."""
    step("inspect.copy")
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            offset = 0
            while piece := os.pread(reading, PIECE_BYTES, offset):
                view = memoryview(piece)
                offset += len(view)
                while view:
                    view = view[os.write(writing, view) :]
            step("inspect.fsync")
            os.fsync(writing)
        finally:
            os.close(writing)
    except OSError as error:
        raise unwritable(target, error) from None
