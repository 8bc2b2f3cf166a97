"""The port of a place that a restore may write to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from backupd.model.position import Position
from backupd.model.records import LogFile, StoredFile
from backupd.ports.pages import PageFile


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """A process that has a file of the copy open."""

    pid: int
    command: str
    path: str


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What is at a restore's target now; ``role`` is active, passive or directory.

    ``keeps_log``: all log files of a restore lie there at once, and need room.
    ``given_up``: a restore in place had begun there and has not ended: nothing but a restore makes it whole again.
    """

    role: str
    path: Path
    exists: bool
    size_bytes: int
    position: Position | None
    users: tuple[ProcessUse, ...]
    free_bytes: int
    keeps_log: bool = False
    given_up: bool = False


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

    def commits_after(self, position: Position, at: datetime | None) -> int | None:
        """How many transactions are here that were committed after ``position``, and after ``at`` when it is given.

        None when nobody can say, as where the log does not go back so far.
        """
        ...

    def begin(self, run_id: str, *, force: bool = False) -> None:
        """Suspend replication and claim the target; ``force`` allows a directory that holds a file of that name.

        Raises:
            Refused: the target is a passive, a program has it open (named by
                pid), or a file of that name is in the directory already.
        """
        ...

    def stage_file(self, stored: StoredFile) -> Path | PageFile:
        """Where the restored file is built, on the target's own filesystem, for its owner only.

        Files are asked for in the order in which they are fetched: what was stored last comes first.
        """
        ...

    def live_file(self, stored: StoredFile) -> Path | PageFile | None:
        """What is there now, for a delta restore; only to be read."""
        ...

    def reserve(self, histories: Collection[str]) -> None:
        """These histories were used already: the restored database must begin none of them a second time."""
        ...

    def log_path(self, log: LogFile) -> Path | None:
        """Where to fetch a log file to; None: anywhere, it is only lent to ``apply_log``."""
        ...

    def read_log(self, path: Path) -> LogFile:
        """The header of a fetched log file, after its digest and sums were verified. Raises DamageFound."""
        ...

    def apply_log(self, path: Path, *, until: Position | None, at: datetime | None) -> Position:
        """Replay one verified log file onto the stage, whole or up to the last commit not after ``until``/``at``."""
        ...

    def check(self, until: Position | None, at: datetime | None) -> Sequence[str]:
        """Open the stage with the engine and check it; answers with findings, empty when sound.

        An engine that replays by itself does it here, up to the last commit not after
        ``until``/``at``, or to the end of the log when both are None.
        """
        ...

    def reached(self) -> Position | None:
        """After ``check``: where the stage stands, when the engine knows it better than the log files say."""
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


@runtime_checkable
class ReusesLive(Protocol):
    """A target that can be restored in place: its own files become the stage, and no second copy is made.

    The price is that the database that was there is gone when the first page is written.
    """

    def reusable_bytes(self) -> int:
        """How much of what is there now needs no room a second time."""
        ...

    def left_bytes(self) -> int:
        """How much a restore that was not ended has left here, of whatever backup: it needs no room a second time."""
        ...

    def reuse_live(self) -> None:
        """Called after ``begin``: when all that can be known beforehand is known, what is there is given up.

        Raises:
            Refused: what is there cannot be reused; it was not changed.
        """
        ...


@runtime_checkable
class LooksAround(Protocol):
    """A restored place that a person may look around in, before anything else is done with it."""

    def open_up(self) -> Sequence[str]:
        """Let it be read, by this host's users of the right name only; answers with commands that show how.

        Raises:
            NotHealthy: nothing is restored there, or it cannot be started.
        """
        ...

    def is_open(self) -> bool:
        """Whether something runs there that ``close_up`` would end."""
        ...

    def close_up(self) -> bool:
        """End what ``open_up`` began; False when nothing ran."""
        ...
