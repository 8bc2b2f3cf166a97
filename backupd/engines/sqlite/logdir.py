"""The closed log files that one copy holds: ``<copy>/log/<history>/<number:016x>.wlog``.

Numbers are dense from the oldest held to the newest; log is removed oldest
first, and the newest file stays, because the next one is checked against it.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from backupd.durable import sync_directory
from backupd.engines.sqlite.logfile import read_digest, read_header
from backupd.engines.sqlite.logheader import SUFFIX, LogHeader, file_name, to_log_file, unwritable
from backupd.model.records import LogFile
from backupd.steps import step

_HISTORY = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"([0-9a-f]{16})" + re.escape(SUFFIX))


@dataclass(frozen=True, slots=True)
class Held:
    """How much log is held; ``oldest_unix`` (seconds) is when the oldest file was closed, None when there is none."""

    count: int
    size_bytes: int
    oldest_unix: float | None


class HistoryLogs:
    """The log files of one history in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.history = directory.name

    def path_of(self, number: int) -> Path:
        """Where log file ``number`` is, or would be."""
        return self.directory / file_name(number)

    def numbers(self) -> list[int]:
        """The numbers that are there, oldest first."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        return sorted(int(found[1], 16) for found in map(_NUMBER.fullmatch, names) if found)

    def oldest(self) -> int | None:
        """The lowest number held."""
        numbers = self.numbers()
        return numbers[0] if numbers else None

    def newest(self) -> int | None:
        """The highest number held."""
        numbers = self.numbers()
        return numbers[-1] if numbers else None

    def header(self, number: int) -> LogHeader:
        """Its header. Raises NotFound or DamageFound."""
        return read_header(self.path_of(number))

    def closed(self, after_offset: int = 0) -> list[tuple[LogFile, Path]]:
        """All files that end after ``after_offset``, oldest first. Raises NotFound or DamageFound."""
        found = []
        for number in reversed(self.numbers()):
            path = self.path_of(number)
            header = read_header(path)
            if header.end_offset <= after_offset:
                break
            found.append((to_log_file(header, read_digest(path), header.size_bytes), path))
        return found[::-1]

    def held(self) -> Held:
        """Count, bytes and age."""
        numbers = self.numbers()
        sizes, oldest = 0, None
        for number in numbers:
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(self.path_of(number))
                sizes += found.st_size
                oldest = found.st_mtime if oldest is None else oldest
        return Held(len(numbers), sizes, oldest)

    def remove_through(self, offset: int) -> tuple[int, int]:
        """Remove, oldest first, files that end at or before ``offset``; the newest file always stays.

        Returns:
            How many files and bytes were removed.
        """
        removed, removed_bytes = 0, 0
        for number in self.numbers()[:-1]:
            path = self.path_of(number)
            header = read_header(path)
            if header.end_offset > offset:
                break
            step("logdir.remove")
            try:
                path.unlink()
            except OSError as error:
                raise unwritable(path, error) from None
            removed, removed_bytes = removed + 1, removed_bytes + header.size_bytes
        if removed:
            sync_directory(self.directory)
        return removed, removed_bytes

    def sweep_tmp(self) -> int:
        """Remove what a dead writer has left under temporary names; only the directory's one writer may call this."""
        swept = 0
        for path in self.directory.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                swept += 1
        return swept


class LogDir:
    """All histories below ``<copy>/log``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def histories(self) -> list[str]:
        """Their names, sorted (the order means nothing)."""
        try:
            return sorted(name for name in os.listdir(self.root) if _HISTORY.fullmatch(name))
        except FileNotFoundError:
            return []

    def history(self, history: str) -> HistoryLogs:
        """The files of one history; its directory may not exist yet."""
        return HistoryLogs(self.root / history)

    def successor(self, history: str, offset: int) -> str | None:
        """The history whose first log goes on from ``offset`` of ``history``; None when there is none."""
        for name in self.histories():
            logs = self.history(name)
            if name != history and logs.path_of(1).exists():
                header = logs.header(1)
                if (header.parent_history, header.parent_offset) == (history, offset):
                    return name
        return None
