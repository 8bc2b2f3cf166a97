"""What the passive has acknowledged: inspected, durable, safe to let go of on the active."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from backupd.engines.sqlite.cutter import Cursor

Salts = tuple[int, int]
NOTHING: tuple[Salts, int] = ((0, 0), 0)
GIVE_WAY_SECONDS = 0.2


@dataclass(slots=True)
class Acks:
    """Closed logs that wait for their acknowledgement, oldest first.

    After ``exposed_after_seconds`` without an answer the local copy of a log counts
    as enough: the passive is down or suspended, and holding back the application's
    log for it would only fill the application's disk.  That state is an alarm.
    """

    exposed_after_seconds: float
    history: str = ""
    last_number: int = 0
    last: tuple[Salts, int] = NOTHING
    _waiting: deque[tuple[int, tuple[Salts, int], float]] = field(default_factory=deque)
    _waits_since: float | None = None

    def enter(self, history: str) -> None:
        """From now on logs are of ``history``; what waits of an older one is moot."""
        if history != self.history:
            self.history, self.last_number, self.last = history, 0, NOTHING
            self._waiting.clear()

    def closed(self, cursor: Cursor, now_seconds: float) -> None:
        """A log was closed at ``cursor``."""
        self.enter(cursor.history)
        self._waiting.append((cursor.number, (cursor.salts, cursor.frame), now_seconds))

    def acknowledge(self, history: str, number: int) -> bool:
        """The passive holds all logs up to ``number``; False when that is of another history."""
        if history != self.history:
            return False
        self.last_number = max(self.last_number, number)
        while self._waiting and self._waiting[0][0] <= number:
            self.last = self._waiting.popleft()[1]
        return True

    def exposed(self, now_seconds: float) -> bool:
        """Whether the passive has kept us waiting too long."""
        return bool(self._waiting) and now_seconds - self._waiting[0][2] > self.exposed_after_seconds

    def all_answered(self) -> bool:
        """Whether no closed log waits."""
        return not self._waiting

    def safe(self, cursor: Cursor, now_seconds: float) -> tuple[Salts, int]:
        """Up to which frame the active may let go."""
        if not self._waiting or self.exposed(now_seconds):
            return (cursor.salts, cursor.frame)
        return self.last

    def let_go(self, cursor: Cursor, now_seconds: float, *, somebody_waits: bool) -> tuple[Salts, int]:
        """As ``safe``; but no application waits long for a passive that does not answer.

        ``somebody_waits``: an application's checkpoint, and every writer behind it,
        stands still until our mark is past.  After a moment the local copy is enough.
        """
        if not somebody_waits:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now_seconds
        elif now_seconds - self._waits_since > GIVE_WAY_SECONDS:
            return (cursor.salts, cursor.frame)
        return self.safe(cursor, now_seconds)
