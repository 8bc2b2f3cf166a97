"""The port of the providers, which catch the files of a copy at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class ProviderFeature(StrEnum):
    """What a provider's snapshot is like."""

    ATOMIC = "atomic"  # all files at one instant
    SHARES_BLOCKS = "shares-blocks"  # costs no space until replay changes pages
    READ_ONLY = "read-only"  # nobody can change the snapshot
    IN_PLACE = "in-place"  # nothing is copied: the copy's own files are read, before the thaw
    MOVING = "moving"  # replay runs on while they are read; the engine must be able to judge such pages


@dataclass(frozen=True, slots=True)
class Suitability:
    """Whether a provider can snapshot a directory, and why or why not."""

    suits: bool
    because: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A taken snapshot: files are found below ``directory`` under their own names."""

    provider: str
    label: str
    directory: Path
    source: Path


class SnapshotProvider(Protocol):
    """Catches named files of one directory at one moment."""

    name: str
    features: frozenset[ProviderFeature]

    def suits(self, directory: Path) -> Suitability:
        """Try, for real, whether this provider can snapshot ``directory``; leaves nothing behind."""
        ...

    def take(self, directory: Path, names: Sequence[str], label: str) -> Snapshot:
        """Snapshot ``names`` of ``directory``; the caller has frozen them.

        Raises:
            NotHealthy: it did not work (disk full, permission); nothing is left.
        """
        ...

    def discard(self, snapshot: Snapshot) -> None:
        """Remove the snapshot; it may be gone already."""
        ...

    def leftovers(self, directory: Path) -> Sequence[Snapshot]:
        """Snapshots of ``directory`` that an earlier run has left."""
        ...
