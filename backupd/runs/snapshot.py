"""Freeze, snapshot, thaw: the only moment in which replay stands still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backupd.errors import FreezeBroken
from backupd.model.position import Position
from backupd.model.states import RunEvent
from backupd.ports import Snapshot, SnapshotProvider
from backupd.runs.context import RunContext
from backupd.runs.walk import Walk


@dataclass(frozen=True, slots=True)
class Captured:
    """A snapshot that stands exactly at ``position``, with commits up to ``last_commit_at``, and what it cost."""

    snapshot: Snapshot
    position: Position
    last_commit_at: datetime | None
    provider: str
    frozen_seconds: float


def capture(walk: Walk) -> Captured:
    """Walk from ``prepared`` to ``thawed``; the snapshot is discarded when the run ends.

    The provider is chosen before the freeze, for trying providers out takes time.
    The thaw stands on the way out before the snapshot is taken, so no end of this
    process's code leaves replay frozen; the writer's freeze ends by itself when
    the whole process dies.

    Raises:
        FreezeBroken: replay resumed by itself before the snapshot was whole.
        NotHealthy: no freeze, no provider, or no space for the snapshot.
    """
    context = walk.context
    place = place_of(context.writer.pair().passive.path)
    choice = context.choose_provider(place)
    clear_leftovers(context, place, walk.note)
    freeze = context.writer.freeze(context.policy.freeze.seconds_max)
    walk.on_the_way_out("thawing", freeze.thaw)
    if freeze.directory != place:
        choice = context.choose_provider(freeze.directory)
    walk.move(RunEvent.FREEZE, directory=str(freeze.directory), position=str(freeze.position))
    provider = choice.provider
    snapshot = provider.take(freeze.directory, freeze.names, walk.label)
    walk.on_the_way_out("discarding the snapshot", lambda: provider.discard(snapshot))
    walk.move(RunEvent.CAPTURE, provider=provider.name)
    end = freeze.thaw()
    if not end.held:
        raise FreezeBroken(
            f"the snapshot of {context.database} is worthless",
            because=f"replay resumed by itself after {end.frozen_seconds:.1f} s, before the snapshot was whole",
            next_step="raise freeze.seconds_max in the policy, or give the passive a filesystem with snapshots",
        )
    walk.move(RunEvent.THAW, frozen_seconds=end.frozen_seconds)
    walk.note(f"snapshot by {provider.name}: {'; '.join(choice.reasons)}")
    return Captured(snapshot, freeze.position, freeze.last_commit_at, provider.name, end.frozen_seconds)


def clear_leftovers(context: RunContext, directory: Path, say: Callable[[str], object]) -> None:
    """Discard every snapshot of ``directory`` that an earlier run has left; the caller holds the lease."""
    for provider in context.providers:
        for leftover in provider.leftovers(directory):
            _discard(provider, leftover, say)


def _discard(provider: SnapshotProvider, leftover: Snapshot, say: Callable[[str], object]) -> None:
    provider.discard(leftover)
    say(f"discarded the snapshot {leftover.label} that a dead run had left")


def place_of(path: str) -> Path:
    """The directory that a snapshot of the copy at ``path`` is taken of: a data directory itself, or a file's."""
    place = Path(path)
    return place if place.is_dir() else place.parent
