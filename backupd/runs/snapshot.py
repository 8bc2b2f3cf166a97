"""Freeze, snapshot, thaw: the only moment in which replay stands still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backupd.errors import FreezeBroken, NotHealthy
from backupd.model.pair import CopyRole
from backupd.model.position import Position
from backupd.model.states import RunEvent
from backupd.ports import Freeze, FreezeEnd, Place, ProviderFeature, Snapshot, SnapshotProvider
from backupd.runs.context import ProviderChoice, RunContext
from backupd.runs.walk import Walk


@dataclass(frozen=True, slots=True)
class _Chosen:
    """See ``ProviderChoice``."""

    provider: SnapshotProvider
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Captured:
    """A snapshot that stands exactly at ``position``, with commits up to ``last_commit_at``, and what it cost.

    ``release`` is called when the last page was read: what is read in place is thawed then.
    """

    snapshots: tuple[Snapshot, ...]
    position: Position
    last_commit_at: datetime | None
    provider: str
    release: Callable[[], object]
    frozen_seconds: Callable[[], float]


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
    place = context.writer.snapshot_places()[0]
    choice = _live(context) if context.writer.source_role is CopyRole.ACTIVE else context.choose_provider(place)
    clear_leftovers(context, place, walk.note)
    moving = ProviderFeature.MOVING in choice.provider.features
    in_place = ProviderFeature.IN_PLACE in choice.provider.features
    limits = context.policy.freeze
    freeze = context.writer.freeze(limits.paused_seconds_max if in_place else limits.seconds_max, moving=moving)
    walk.on_the_way_out("thawing", freeze.close)
    walk.move(RunEvent.FREEZE, directory=str(freeze.places[0].directory), position=str(freeze.position))
    snapshots = tuple(_take(walk, one, choice, at_place=place) for one in freeze.places)
    walk.move(RunEvent.CAPTURE, provider=choice.provider.name)
    thawing = _Thawing(walk, freeze)
    if not in_place or moving:
        thawing.thaw()
    walk.note(f"snapshot by {choice.provider.name}: {'; '.join(choice.reasons)}")
    return Captured(
        snapshots, freeze.position, freeze.last_commit_at, choice.provider.name, thawing.thaw, thawing.frozen_seconds
    )


def _live(context: RunContext) -> ProviderChoice:
    """An active cannot be frozen: it is read while it works. Raises NotHealthy: this engine has no way to do that."""
    for provider in context.providers:
        if ProviderFeature.MOVING in provider.features:
            return _Chosen(provider, ("the active cannot be frozen",))
    raise NotHealthy(
        f"the active of {context.database} cannot be read",
        because="no way to read its files while they change is known for this engine",
        next_step=f"make the passive fit: backupctl status {context.database}",
    )


def _take(walk: Walk, place: Place, choice: ProviderChoice, *, at_place: Path) -> Snapshot:
    """Snapshot one place; another filesystem than that of the copy's own directory may need another provider."""
    provider = choice.provider
    if place.directory != at_place and ProviderFeature.IN_PLACE not in provider.features:
        provider = walk.context.choose_provider(place.directory).provider
        if ProviderFeature.IN_PLACE in provider.features:
            raise NotHealthy(
                f"cannot snapshot {place.directory}",
                because=f"it is part of the copy, and {choice.provider.name} cannot be used there",
                next_step='set backup.provider = "live" in the policy, or put it on the filesystem of the copy',
            )
        clear_leftovers(walk.context, place.directory, walk.note)
    snapshot = provider.take(place.directory, place.names, f"{walk.context.database}.{walk.label}")
    walk.on_the_way_out("discarding the snapshot", lambda: provider.discard(snapshot))
    return snapshot


class _Thawing:
    """The end of a freeze, which comes once: after the snapshot, or after the last page of what is read in place."""

    def __init__(self, walk: Walk, freeze: Freeze) -> None:
        self._walk = walk
        self._freeze = freeze
        self._end: FreezeEnd | None = None

    def thaw(self) -> None:
        """Raises FreezeBroken: replay resumed by itself before this."""
        if self._end is not None:
            return
        end = self._freeze.thaw()
        if not end.held:
            raise FreezeBroken(
                f"the snapshot of {self._walk.context.database} is worthless",
                because=end.because
                or f"replay resumed by itself after {end.frozen_seconds:.1f} s, before the snapshot was whole",
                next_step="raise freeze.seconds_max in the policy, or give the passive a filesystem with snapshots",
            )
        self._end = end
        self._walk.move(RunEvent.THAW, frozen_seconds=end.frozen_seconds)

    def frozen_seconds(self) -> float:
        """How long replay stood still; 0 while it still does."""
        return self._end.frozen_seconds if self._end is not None else 0.0


def clear_leftovers(context: RunContext, directory: Path, say: Callable[[str], object]) -> None:
    """Discard what earlier runs of this database have left in ``directory``; the caller holds its lease.

    Copies of several databases may lie in one directory: what carries another one's name is
    another run's, which may go on. What carries none is of a version that did not name them.
    """
    for provider in context.providers:
        for leftover in provider.leftovers(directory):
            owner, named, _ = leftover.label.partition(".")
            if not named or owner == context.database:
                _discard(provider, leftover, say)


def _discard(provider: SnapshotProvider, leftover: Snapshot, say: Callable[[str], object]) -> None:
    provider.discard(leftover)
    say(f"discarded the snapshot {leftover.label} that a dead run had left")
