"""What an engine tells about its log: closed files, and the evidence for removing them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backupd.model.position import Position
from backupd.model.records import LogFile


@dataclass(frozen=True, slots=True)
class ClosedLog:
    """A closed log file and where it lies."""

    log: LogFile
    path: Path


@dataclass(frozen=True, slots=True)
class TruncationEvidence:
    """What the two copies can say about their log (design: truncation); None means not known.

    ``oldest_held`` is where the log that either copy holds begins, ``passive_log_from``
    where the passive's own log begins that goes on to its newest without a gap.
    Every position on the lineage of ``history`` is given in its coordinates; ``ancestry``
    is that of ``PairStatus``.
    """

    history: str | None
    oldest_held: Position | None
    passive_state: str
    passive_because: str
    passive_replayed: Position | None
    passive_checkpointed: Position | None
    active_checkpointed: Position | None
    seen_at: datetime
    passive_log_from: Position | None = None
    ancestry: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True)
class Truncated:
    """What a truncation removed, read back from the copies afterwards."""

    removed_logs: int
    removed_bytes: int
    oldest_held: Position | None
    kept: tuple[str, ...] = ()  # sentences about log of ended histories that no backup holds
