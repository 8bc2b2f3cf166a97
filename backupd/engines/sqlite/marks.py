"""Hand-over-hand read marks: there is no moment at which SQLite may throw away a frame that was not acknowledged."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backupd.engines.sqlite.source import ActiveFile
from backupd.engines.sqlite.walindex import WalIndex
from backupd.errors import NotHealthy

Salts = tuple[int, int]
_TRIES = 50


@dataclass(frozen=True, slots=True)
class Stand:
    """A read mark taken while nobody could write: the database as of frame ``index.max_frame``.

    ``on_slot_zero``: the log was wholly back-filled, so the main file *is* that
    state and stays frozen while the mark is held; the log itself may be
    restarted once (sqlite wal.c walTryBeginRead; sqlite.md facts 3 and 7).
    """

    index: WalIndex
    on_slot_zero: bool


@dataclass(frozen=True, slots=True)
class _Mark:
    reader: int
    salts: Salts
    upper_frame: int
    on_slot_zero: bool = False


class ReadMarks:
    """Reader 0 and reader 1 take turns: the next begins before the other ends."""

    def __init__(self, source: ActiveFile) -> None:
        self._source = source
        self._held: _Mark | None = None
        self._next: _Mark | None = None

    @property
    def held(self) -> bool:
        """Whether a read mark is held now."""
        return self._held is not None

    def stand(self) -> Stand:
        """Take the first mark; the caller holds the write lock, so the log cannot grow meanwhile.

        Raises:
            NotHealthy: the back-fill count never stands still long enough to know the slot.
        """
        self.release_all()
        for _ in range(_TRIES):
            before = self._source.index()
            self._source.begin_read(0)
            after = self._source.index()
            full_before = before.backfilled == before.max_frame
            if full_before == (after.backfilled == after.max_frame):
                self._held = _Mark(0, (after.salt1, after.salt2), after.max_frame, on_slot_zero=full_before)
                return Stand(after, on_slot_zero=full_before)
            self._source.end_read(0)
        raise NotHealthy(
            f"cannot hold the log of {self._source.path}",
            because="other programs checkpoint it without a pause",
            next_step="try again; if it stays so, lower the checkpoint rate of the application",
        )

    def advance(self, index: WalIndex, acknowledged: tuple[Salts, int]) -> None:
        """Move the marks on as far as ``acknowledged`` (salts, frame) allows.

        The next mark begins at the newest commit; the held one ends only when the
        next one's frames are acknowledged.  The next is never on slot 0, because
        the held one keeps the back-fill below the newest frame (sqlite.md P4).
        """
        if self._held is None:
            return
        salts = (index.salt1, index.salt2)
        if self._next is None:
            moved = salts != self._held.salts or index.max_frame > self._held.upper_frame
            if moved and index.max_frame > 0:
                self._begin_next(1 - self._held.reader)
        if self._next is not None and _covers(acknowledged, self._next):
            self._source.end_read(self._held.reader)
            self._held, self._next = self._next, None

    def step_aside(self, acknowledged: tuple[Salts, int]) -> bool:
        """Move to slot 0 when the main file holds everything and everything is acknowledged; True when done.

        Else an application that checkpoints with RESTART or TRUNCATE would wait for
        the mark until its own timeout, with the write lock in hand.  On slot 0 the
        mark is in nobody's way: the log may then be restarted, once, and that
        discards acknowledged frames only.  The held mark ends after the new one
        has begun, so there is no moment without one (sqlite wal.c walTryBeginRead).
        """
        held, index = self._held, self._source.index()
        caught_up = acknowledged == ((index.salt1, index.salt2), index.max_frame)
        full = index.max_frame > 0 and index.backfilled == index.max_frame
        if held is None or held.on_slot_zero or self._next is not None or not (caught_up and full):
            return False
        begun, _ = self._begin_next(1 - held.reader)
        if (begun.salts, begun.upper_frame) != acknowledged:
            return False  # a commit came in between; it is the next mark then, and ends as any other
        self._source.end_read(held.reader)
        self._held, self._next = replace(begun, on_slot_zero=True), None
        return True

    def renew(self, acknowledged: tuple[Salts, int]) -> None:
        """Begin once more at the newest frame, for an application that waits although the held mark should be there.

        A mark is an upper bound only: when every slot was taken as it began, it shares
        the older mark of another reader, and stays there when that reader has left
        (sqlite wal.c walTryBeginRead).  Nothing may be un-acknowledged.
        """
        held = self._held
        if held is None or held.on_slot_zero or self._next is not None or not _covers(acknowledged, held):
            return
        before = self._source.index()
        if before.backfilled >= before.max_frame:
            return  # all is in the main file: that is for step_aside
        begun, after = self._begin_next(1 - held.reader)
        if not _covers(acknowledged, begun):
            return  # a commit came in between; it is the next mark then, and ends as any other
        if after.backfilled >= after.max_frame:
            self._source.end_read(begun.reader)  # perhaps on slot 0, where the log may be restarted: not unawares
        else:
            self._source.end_read(held.reader)
            self._held = begun
        self._next = None

    def _begin_next(self, reader: int) -> tuple[_Mark, WalIndex]:
        self._source.begin_read(reader)
        index = self._source.index()  # read after the begin: an upper bound of what the mark sees
        self._next = _Mark(reader, (index.salt1, index.salt2), index.max_frame)
        return self._next, index

    def release_all(self) -> None:
        """End both marks; only under the write lock, or when a gap is accepted."""
        for reader in (0, 1):
            self._source.end_read(reader)
        self._held = self._next = None


def _covers(acknowledged: tuple[Salts, int], mark: _Mark) -> bool:
    salts, frame = acknowledged
    return salts == mark.salts and frame >= mark.upper_frame
