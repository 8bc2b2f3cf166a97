"""How an engine gets its passive ready, holds it still and lets it go again, as values and one small port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from backupd.model.position import Position


@dataclass(frozen=True, slots=True)
class Prepared:
    """The passive has replayed up to ``position``; no newer commit existed at ``covers_until``."""

    position: Position
    covers_until: datetime
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FreezeEnd:
    """How a freeze ended: ``held`` is False when replay resumed by itself before the thaw, ``because`` may say why."""

    frozen_seconds: float
    held: bool
    because: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What one snapshot is taken of: files, by their names below a directory."""

    directory: Path
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class PagesEnd:
    """What the pages of a snapshot need of the log to be whole, and up to when they then hold every commit.

    Nothing is needed when ``log_start == log_end``; ``covers_until`` None means: as it was prepared.
    """

    log_start: Position
    log_end: Position
    covers_until: datetime | None = None
    notes: tuple[str, ...] = ()


class Freeze(Protocol):
    """A pause of replay that ends by itself when this process dies or the limit passes."""

    position: Position
    last_commit_at: datetime | None  # when the newest commit of the frozen state was seen; None when not known
    places: Sequence[Place]

    def thaw(self) -> FreezeEnd:
        """Let replay run again; may be called twice (the second answer equals the first)."""
        ...

    def close(self) -> None:
        """Let go of whatever is still held, for nothing will be read any more; may be called at any time, and twice."""
        ...
