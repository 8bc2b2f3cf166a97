"""The port of an engine: it speaks for one database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from backupd.model.pair import CopyRole, PairStatus
from backupd.model.position import Position
from backupd.model.records import Stamp, Stamps
from backupd.ports.clock import ReportProgress
from backupd.ports.freeze import Freeze, PagesEnd, Prepared
from backupd.ports.log import ClosedLog, Truncated, TruncationEvidence
from backupd.ports.pages import PageSource
from backupd.ports.snapshots import Snapshot
from backupd.ports.target import RestoreTarget


class Writer(Protocol):
    """Speaks for one database of one engine (VSS: writer).

    ``active_can_stand_in``: whether a run may read the active when the passive is not fit to be read.
    ``source_role``: the copy that a run reads; the plan sets it, and what is said of the passive below holds for it.
    """

    engine: str
    database: str
    active_can_stand_in: bool
    source_role: CopyRole

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

    def freeze(self, limit_seconds: float, *, moving: bool = False) -> Freeze:
        """Pause replay, for at most so long; with ``moving`` only make ready to be read while replay runs on.

        Raises:
            NotHealthy: it did not come to rest.
        """
        ...

    def snapshot_places(self) -> Sequence[Path]:
        """The directories that snapshots of the passive are taken of, its own first. Raises NotHealthy."""
        ...

    def room_bytes(self, *, copied: bool) -> int:
        """About how much free space a backup needs beside the passive; ``copied``: its files are copied first."""
        ...

    def page_sources(self, snapshots: Sequence[Snapshot], position: Position) -> Iterable[PageSource]:
        """The files of the snapshots that were taken at ``position``, one for each place of the freeze.

        Each is read and checked whole before the next one is asked for.

        Raises:
            NotHealthy, DamageFound: also between two files.
        """
        ...

    def finish_pages(self, position: Position, timeout_seconds: float, report: ReportProgress) -> PagesEnd:
        """After all pages of the snapshot were read: what log they need; that log is closed on the passive now.

        Raises:
            NotHealthy: the log could not be closed in time.
        """
        ...

    def parse_position(self, text: str) -> Position:
        """A position as people write it for this engine. Raises ConfigInvalid."""
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

    def seed_target(self, *, asked: bool = False) -> RestoreTarget | None:
        """The passive as the target of a seed from the archive; None where it is seeded from the active (``seed``).

        ``asked``: a person wants it from the archive, whatever the policy prefers; None then says that it cannot be.

        Raises:
            Refused, NotHealthy: the pair cannot be seeded now.
        """
        ...

    def active_log_from(self) -> Position | None:
        """Where the log begins that the active still has, so that a seeded passive can go on; None: not known."""
        ...

    def rights(self) -> str:
        """What this user and role may do, in a sentence; empty where an engine knows of none.

        Raises:
            ConfigInvalid: something is missing; the next step grants it.
        """
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
        """Make the passive anew from the active, or mark it so that running replication does."""
        ...
