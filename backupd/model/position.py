"""Where we are in a log, and which history it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DifferentHistories(ValueError):
    """Two positions of different histories were compared; the caller has a bug."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log of one history.

    Attributes:
        history: the engine's name of the history (SQLite: 16 hex digits;
            PostgreSQL: the timeline).  Non-empty, without ``/``.
        offset: a count that only grows inside the history (SQLite: frames
            since the history began; PostgreSQL: the LSN as a number).

    Order exists only inside one history: comparing positions of different
    histories raises ``DifferentHistories`` (equality never raises).
    """

    history: str
    offset: int

    def __post_init__(self) -> None:
        if not self.history or "/" in self.history:
            raise ValueError(f"not a history: {self.history!r}")
        if self.offset < 0:
            raise ValueError(f"not an offset: {self.offset}")

    def __str__(self) -> str:
        return f"{self.history}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read ``history/offset``.

        Raises:
            ValueError: the text is not a position.
        """
        history, slash, offset = text.rpartition("/")
        if not slash or not offset.isascii() or not offset.isdigit():
            raise ValueError(f"not a position: {text!r} (a position looks like 5f3a9c21d0e47b86/4711)")
        return cls(history, int(offset))

    def same_history(self, other: Position) -> bool:
        """Whether the two may be compared."""
        return self.history == other.history

    def _offset_of(self, other: Position) -> int:
        if self.history != other.history:
            raise DifferentHistories(f"{self} and {other} belong to different histories")
        return other.offset

    def __lt__(self, other: Position) -> bool:
        return self.offset < self._offset_of(other)

    def __le__(self, other: Position) -> bool:
        return self.offset <= self._offset_of(other)

    def __gt__(self, other: Position) -> bool:
        return self.offset > self._offset_of(other)

    def __ge__(self, other: Position) -> bool:
        return self.offset >= self._offset_of(other)


def rebase(position: Position, history: str, ancestry: Sequence[Position]) -> Position | None:
    """The same place in the coordinates of ``history``; None when it does not lie on its lineage.

    A place of an ancestor counts up to where that ancestor ended: what it had written
    after that was lost in the failover.

    Args:
        position: any place.
        history: the history to look from.
        ancestry: where each history that it came from ended, see ``PairStatus.ancestry``.
    """
    if position.history == history:
        return position
    for ended in ancestry:
        if ended.history == position.history and position.offset <= ended.offset:
            return Position(history, position.offset)
    return None
