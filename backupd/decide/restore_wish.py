"""The state that a restore is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backupd.model.position import Position


@dataclass(frozen=True, slots=True)
class RestoreWish:
    """The state that a person wants back; at most one of the three is set, and none means the latest."""

    at: datetime | None = None
    position: Position | None = None
    backup: str | None = None

    @classmethod
    def latest(cls) -> RestoreWish:
        """Everything that the archive has."""
        return cls()

    @classmethod
    def at_time(cls, at: datetime) -> RestoreWish:
        """All commits up to and including ``at``, which must carry an offset."""
        if at.tzinfo is None:
            raise ValueError(f"a time without an offset names no moment: {at}")
        return cls(at=at)

    @classmethod
    def to_position(cls, position: Position) -> RestoreWish:
        """All commits that end at or before ``position``."""
        return cls(position=position)

    @classmethod
    def of_backup(cls, backup_id: str) -> RestoreWish:
        """The state at which that backup ends."""
        return cls(backup=backup_id)

    def __str__(self) -> str:
        if self.at is not None:
            return self.at.isoformat()
        if self.position is not None:
            return f"position {self.position}"
        return f"backup {self.backup}" if self.backup else "the latest state"
