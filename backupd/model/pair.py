"""The two copies of a database as they were seen at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from backupd.model.position import Position


class CopyRole(StrEnum):
    """Which of the two a copy is."""

    ACTIVE = "active"
    PASSIVE = "passive"


class CopyState(StrEnum):
    """How a copy is doing; only a healthy passive is backed up."""

    HEALTHY = "healthy"
    INITIALIZING = "initializing"
    SEEDING = "seeding"
    MUST_SEED = "must be seeded"
    SUSPENDED = "suspended"
    SUSPECT = "suspect"
    FAILED = "failed"
    STOPPED = "stopped"
    RESTORING = "restoring"
    MISSING = "missing"

    @property
    def says(self) -> str:
        """With its verb: ``is healthy``, ``must be seeded``."""
        return self.value if self is CopyState.MUST_SEED else f"is {self.value}"


@dataclass(frozen=True, slots=True)
class CopyStatus:
    """One copy: role, state, queues and positions.

    ``copy_queue_logs`` and ``replay_queue_logs`` are counts of log files; the
    active's are 0.  ``held_log_bytes`` and ``held_log_seconds`` say how much
    closed log this copy keeps and how old the oldest of it is.
    ``log_disk_free_bytes`` is the room on the disk of that log; None when this host cannot tell.
    ``checkpointed`` is the position that the copy's data file has durably passed.
    """

    name: str
    role: CopyRole
    state: CopyState
    path: str
    because: str = ""
    copy_queue_logs: int = 0
    replay_queue_logs: int = 0
    held_log_bytes: int = 0
    held_log_seconds: float = 0.0
    held_log_count: int = 0
    closed: Position | None = None
    inspected: Position | None = None
    replayed: Position | None = None
    checkpointed: Position | None = None
    seen_at: datetime | None = None
    facts: tuple[tuple[str, str], ...] = ()
    log_disk_free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PairStatus:
    """Both copies, and the history that they share; ``alarms`` are plain sentences.

    ``ancestry`` says of each history that this one came from, oldest first, where
    it ended: up to there its positions are places of this history too.
    """

    database: str
    engine: str
    active: CopyStatus
    passive: CopyStatus
    history: str | None
    alarms: tuple[str, ...] = ()
    ancestry: tuple[Position, ...] = ()

    @property
    def copies(self) -> tuple[CopyStatus, CopyStatus]:
        """Active first."""
        return (self.active, self.passive)
