"""The sockets in the wall: Writer, RestoreTarget, SnapshotProvider, ObjectStore, Clock.

A port says what it promises, whether a call may be repeated, and which error
means what.  Every concrete class passes the one contract suite of its port
(``tests/contracts``).  Callers ask for features; they never ask for a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from backupd.model.pair import PairStatus
from backupd.model.position import Position
from backupd.model.records import LogFile, Progress, Stamp, Stamps

if TYPE_CHECKING:
    import numpy as np

ReportProgress = Callable[[Progress], None]


class Clock(Protocol):
    """Time comes through this door only."""

    def now(self) -> datetime:
        """The wall clock, with an offset (UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait about so long."""
        ...


# --- the archive ------------------------------------------------------------


class StoreFeature(StrEnum):
    """What a store can do; the absence of a feature has a stated consequence."""

    CREATE_ONCE = "create-once"  # absent: one writer only, a lease file decides
    CHECKS_ON_ARRIVAL = "checks-on-arrival"  # absent: what was stored is read back before it counts
    CHEAP_LIST = "cheap-list"  # absent: listing costs money


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store knows it; ``sha256`` (hex) is of the stored bytes."""

    name: str
    size_bytes: int
    sha256: str = ""


class ObjectStore(Protocol):
    """Bytes under names, written once.

    Names are relative, with ``/`` between parts, of ``[A-Za-z0-9._-]`` only.
    All errors are ``ArchiveUnreachable`` unless said otherwise.
    """

    features: frozenset[StoreFeature]

    def describe(self) -> str:
        """Where this is, in words for a person: ``/backups`` or ``s3://bucket/prefix``."""
        ...

    def create(self, name: str, pieces: Iterable[bytes | memoryview]) -> StoredObject:
        """Write an object whole, or not at all; it is durable after ``sync``.

        Raises:
            ObjectExists: the name is taken (also by an equal object).
        """
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """The object's bytes in pieces of at most 4 MiB. Raises ObjectMissing."""
        ...

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; fewer only at the end. Raises ObjectMissing."""
        ...

    def stat(self, name: str) -> StoredObject:
        """Its size. Raises ObjectMissing."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose name begins with ``prefix``, sorted by name; an empty answer is not an error."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; it may be gone already. Only prune calls this."""
        ...

    def forget_cached(self, name: str) -> None:
        """Make the next read come from the medium and not from a cache, where the store can."""
        ...

    def sync(self) -> None:
        """After this, everything created so far survives a power cut."""
        ...


# --- snapshots --------------------------------------------------------------


class ProviderFeature(StrEnum):
    """What a provider's snapshot is like."""

    ATOMIC = "atomic"  # all files at one instant
    SHARES_BLOCKS = "shares-blocks"  # costs no space until replay changes pages
    READ_ONLY = "read-only"  # nobody can change the snapshot


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


# --- engines ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClosedLog:
    """A closed log file and where it lies."""

    log: LogFile
    path: Path


@dataclass(frozen=True, slots=True)
class Prepared:
    """The passive has replayed up to ``position``; no newer commit existed at ``covers_until``."""

    position: Position
    covers_until: datetime


@dataclass(frozen=True, slots=True)
class FreezeEnd:
    """How a freeze ended: ``held`` is False when replay resumed by itself before the thaw."""

    frozen_seconds: float
    held: bool


class Freeze(Protocol):
    """A pause of replay that ends by itself when this process dies or the limit passes."""

    position: Position
    last_commit_at: datetime | None  # when the newest commit of the frozen state was seen; None when not known
    directory: Path
    names: Sequence[str]

    def thaw(self) -> FreezeEnd:
        """Let replay run again; may be called twice (the second answer equals the first)."""
        ...


class PageSource(Protocol):
    """One data file of a snapshot, with the knowledge of what its pages must be."""

    name: str  # path below the copy
    path: Path
    size_bytes: int
    page_bytes: int
    page_count: int

    def bad_pages(self, first_page: int, hashes: np.ndarray) -> Sequence[int]:
        """Page numbers (from 0) whose 8-byte hash is not the expected one; ``hashes`` belong to ``first_page`` on."""
        ...


@dataclass(frozen=True, slots=True)
class TruncationEvidence:
    """What the two copies can say about their log (design: truncation); None means not known.

    ``oldest_held`` is where the log that either copy holds begins, ``passive_log_from``
    where the passive's own log begins that goes on to its newest without a gap.
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


@dataclass(frozen=True, slots=True)
class Truncated:
    """What a truncation removed, read back from the copies afterwards."""

    removed_logs: int
    removed_bytes: int
    oldest_held: Position | None
    kept: tuple[str, ...] = ()  # sentences about log of ended histories that no backup holds


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """A process that has a file of the copy open."""

    pid: int
    command: str
    path: str


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What is at a restore's target now; ``role`` is active, passive or directory."""

    role: str
    path: Path
    exists: bool
    size_bytes: int
    position: Position | None
    users: tuple[ProcessUse, ...]
    free_bytes: int


class RestoreTarget(Protocol):
    """One place that a restore may write to; knows its engine.

    The order of calls: facts, begin, stage_path (pages are written there by the
    caller), apply_log for each log file, check, activate, finish.  ``abandon``
    undoes everything before ``activate``; after ``activate`` only ``finish`` is left.
    Every call may be repeated by a run that resumes.
    """

    def facts(self) -> TargetFacts:
        """What is there now; changes nothing."""
        ...

    def begin(self, run_id: str, *, force: bool = False) -> None:
        """Suspend replication and claim the target; ``force`` allows a directory that holds a file of that name.

        Raises:
            Refused: the target is a passive, a program has it open (named by
                pid), or a file of that name is in the directory already.
        """
        ...

    def stage_path(self, file_name: str) -> Path:
        """Where the restored file is built; on the target's own filesystem, mode 0600."""
        ...

    def live_path(self, file_name: str) -> Path | None:
        """The file that is there now, for a delta restore; only to be read."""
        ...

    def read_log(self, path: Path) -> LogFile:
        """The header of a fetched log file, after its digest and sums were verified. Raises DamageFound."""
        ...

    def apply_log(self, path: Path, *, until: Position | None, at: datetime | None) -> Position:
        """Replay one verified log file onto the stage, whole or up to the last commit not after ``until``/``at``."""
        ...

    def check(self) -> Sequence[str]:
        """Open the stage with the engine and check it; answers with findings, empty when sound."""
        ...

    def activate(self, *, came_from: str) -> None:
        """Put the stage in place (last, atomically), begin a new history, mark the passive *must be seeded*."""
        ...

    def finish(self) -> None:
        """Let replication run again (the passive is reseeded by it) and remove what the restore left."""
        ...

    def abandon(self, *, keep_stage: bool = False) -> None:
        """Undo ``begin``; the live files are as they were. ``keep_stage`` leaves the pages for a run that resumes."""
        ...


class Writer(Protocol):
    """Speaks for one database of one engine (VSS: writer)."""

    engine: str
    database: str

    def identity(self) -> str:
        """What tells this pair from every other: made once, kept over restores; the archive is bound to it."""
        ...

    def adopt_identity(self, identity: str) -> None:
        """From now on this pair is the database that the archive knows by ``identity`` (after a restore from it)."""
        ...

    def pair(self) -> PairStatus:
        """Who is who and how they are, seen now; never blocks for more than a second."""
        ...

    def replication(self) -> AbstractContextManager[None]:
        """While inside, replication runs: by the service if it is up, else for the time of the block."""
        ...

    def prepare(self, *, checkpoint: bool, timeout_seconds: float, report: ReportProgress) -> Prepared:
        """Close the active's log (and checkpoint it), and wait until the passive has replayed past it.

        Raises:
            NotHealthy: the passive does not get there in time, or a copy is not fit.
        """
        ...

    def freeze(self, limit_seconds: float) -> Freeze:
        """Pause replay between two log files. Raises NotHealthy."""
        ...

    def page_sources(self, directory: Path, position: Position) -> Sequence[PageSource]:
        """The data files of the snapshot in ``directory``, taken at ``position``. Raises NotHealthy, DamageFound."""
        ...

    def closed_logs(self, after: Position, until: Position) -> Sequence[ClosedLog]:
        """The passive's log files that cover the log after ``after`` up to ``until``, oldest first.

        Raises:
            NotHealthy: there is a gap, or the histories differ.
        """
        ...

    def check_log(self, closed: ClosedLog) -> None:
        """Verify one log file whole. Raises DamageFound."""
        ...

    def stamps(self) -> Stamps:
        """The stamps that the passive has seen in its log."""
        ...

    def stamp(self, stamp: Stamp, timeout_seconds: float) -> bool:
        """Write the stamp on the active; True when the passive has seen it. May be repeated."""
        ...

    def mark_suspect(self, because: str) -> None:
        """Mark the passive as suspect: no backup and no truncation until it is seeded."""
        ...

    def truncation_evidence(self) -> TruncationEvidence:
        """What the copies say about their log now."""
        ...

    def truncate(self, before: Position, archived: Mapping[str, int]) -> Truncated:
        """Remove log files that end at or before ``before`` on both copies, oldest first; read back.

        So does the log of ended histories, but of one in ``archived`` only up to that offset: the rest is in no backup.
        """
        ...

    def restore_target(self, target: str) -> RestoreTarget:
        """``active``, the name of a copy, or a directory. Raises Refused for a passive."""
        ...

    def recover(self, *, keep_stage: bool = False) -> Sequence[str]:
        """Undo or finish what a dead restore left on the copies; answers with what was done, in sentences.

        ``keep_stage`` leaves the pages that were restored already: a run is about to resume.
        """
        ...

    def check_snapshot(self, directory: Path, level: str) -> Sequence[str]:
        """The engine's own check (``quick`` or ``full``) of the snapshot in ``directory``; empty when sound."""
        ...

    def suspend(self, comment: str) -> None:
        """Stop copying and replaying until ``resume``; the active runs on. May be repeated."""
        ...

    def resume(self) -> None:
        """End a suspension. May be repeated."""
        ...

    def seed(self) -> None:
        """Mark the passive *must be seeded*; running replication then makes it anew from the active."""
        ...
