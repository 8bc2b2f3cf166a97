"""The board in the hall of the service: how each database was when last looked at; whoever waits for news is woken."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from backupd.journal.records import JsonValue


@dataclass(frozen=True, slots=True)
class Seen:
    """One database as ``runs.status.status_of`` answered at a moment (UTC)."""

    database: str
    at: datetime
    status: Mapping[str, JsonValue]


class Board:
    """What the service knows, safe to be read and written by several threads; readers get values that never change."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._version = 0
        self._seen: dict[str, Seen] = {}

    @property
    def version(self) -> int:
        """Grows with each change."""
        with self._news:
            return self._version

    def put(self, seen: Seen) -> None:
        """Write a database's status up in the place of the last one."""
        with self._news:
            self._seen[seen.database] = seen
            self._changed()

    def remove(self, database: str) -> None:
        """Take a database off: no policy names it any more."""
        with self._news:
            if self._seen.pop(database, None) is not None:
                self._changed()

    def seen(self, database: str) -> Seen | None:
        """How one database was; None before the first look."""
        with self._news:
            return self._seen.get(database)

    def all(self) -> tuple[Seen, ...]:
        """All databases, sorted by name."""
        with self._news:
            return tuple(self._seen[name] for name in sorted(self._seen))

    def wait_newer(self, version: int, timeout_seconds: float) -> int:
        """The version now; waits until it is newer than ``version``, at most so long."""
        with self._news:
            self._news.wait_for(lambda: self._version > version, timeout_seconds)
            return self._version

    def _changed(self) -> None:
        self._version += 1
        self._news.notify_all()
