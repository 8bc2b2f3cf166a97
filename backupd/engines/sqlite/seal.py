"""The seal: everything shipped, acknowledged and back-filled in one short hold of the write lock (sqlite.md P5)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from backupd.engines.sqlite import wal
from backupd.engines.sqlite.acks import Acks
from backupd.engines.sqlite.cutter import Cutter, LogGapError
from backupd.engines.sqlite.marks import ReadMarks
from backupd.engines.sqlite.source import ActiveFile

TAIL_BYTES_MAX = 4 << 20  # more than this is not copied while writers wait
ACK_SECONDS = 0.25
BACKFILL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Sealed:
    """At ``frame`` of generation ``salts`` nothing was unshipped; ``full``: and everything was in the main file."""

    salts: tuple[int, int]
    frame: int
    full: bool


@dataclass(slots=True)
class SealStats:
    """What the seals have cost the writers so far."""

    count: int = 0
    full: int = 0
    abandoned: int = 0
    locked_seconds_max: float = 0.0
    locked_seconds_total: float = 0.0


class Sealer:
    """Seals when asked; every step that cannot be done quickly gives the write lock back and answers None."""

    def __init__(
        self,
        source: ActiveFile,
        cutter: Cutter,
        marks: ReadMarks,
        acks: Acks,
        *,
        ship: Callable[[], None],
        pump: Callable[[float], None],
    ) -> None:
        self._source, self._cutter, self._marks, self._acks = source, cutter, marks, acks
        self._ship, self._pump = ship, pump
        self.stats = SealStats()

    def seal(self, *, drain_seconds: float) -> Sealed | None:
        """Try once; writers wait at most about ack + back-fill + drain seconds.

        ``drain_seconds``: how long to wait, lock held, for readers to leave the log,
        so that the next writer can restart it.

        Raises:
            LogGapError: somebody has written all the same.
        """
        self._catch_up(ACK_SECONDS)
        self._source.checkpoint_passive()  # most of the back-fill, without the lock
        # Whoever checkpoints may wait for our mark, and would keep the lock until it goes.
        if self._source.blocking_checkpoint() or not self._source.lock_write():
            self.stats.abandoned += 1
            return None
        began = time.monotonic()
        try:
            sealed = self._seal_locked(drain_seconds)
        finally:
            self._source.unlock_write()
            locked = time.monotonic() - began
            self.stats.locked_seconds_max = max(self.stats.locked_seconds_max, locked)
            self.stats.locked_seconds_total += locked
        if sealed is None:
            self.stats.abandoned += 1
        else:
            self.stats.count += 1
            self.stats.full += sealed.full
        return sealed

    def _catch_up(self, seconds: float) -> None:
        """Ship, wait for the acknowledgement, and move the read marks on: all of it without the lock."""
        self._ship()
        self._wait_acknowledged(seconds)
        self._marks.advance(self._source.index(), self._safe())
        self._marks.advance(self._source.index(), self._safe())

    def _seal_locked(self, drain_seconds: float) -> Sealed | None:
        index = self._source.index()
        cursor = self._cutter.cursor
        if (index.salt1, index.salt2) != cursor.salts:
            return None  # restarted in between; the tick sorts that out
        tail_bytes = (index.max_frame - cursor.frame) * wal.frame_bytes(cursor.page_bytes)
        if tail_bytes > TAIL_BYTES_MAX:
            return None
        self._ship()
        if not self._wait_acknowledged(ACK_SECONDS):
            return None
        # Nobody can write, and all is acknowledged: now the marks may go.
        self._marks.release_all()
        deadline = time.monotonic() + BACKFILL_SECONDS
        log, done = self._source.checkpoint_passive()
        while done < log and time.monotonic() < deadline:
            time.sleep(0.005)
            log, done = self._source.checkpoint_passive()
        stand = self._marks.stand()
        cursor = self._cutter.cursor
        if (stand.index.salt1, stand.index.salt2, stand.index.max_frame) != (*cursor.salts, cursor.frame):
            # Only a write lock that does not hold (sqlite.md finding 9) lets this happen, and then no mark was held.
            raise LogGapError("a commit slipped in under the write lock")
        if stand.on_slot_zero:
            self._drain(drain_seconds)
        return Sealed(cursor.salts, cursor.frame, stand.on_slot_zero)

    def _drain(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._source.other_readers_in_log() and time.monotonic() < deadline:
            time.sleep(0.002)

    def _wait_acknowledged(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._safe() != (self._cutter.cursor.salts, self._cutter.cursor.frame):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._pump(min(left, 0.02))
        return True

    def _safe(self) -> tuple[tuple[int, int], int]:
        return self._acks.safe(self._cutter.cursor, time.monotonic())
