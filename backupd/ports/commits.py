"""The port that looks into log files: which commits they hold, when, and what each changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from backupd.model.position import Position
from backupd.model.records import LogFile
from backupd.ports.log import ClosedLog


class Deed(StrEnum):
    """What a commit did, the worst of it."""

    COMMIT = "commit"
    DELETE = "delete"  # more rows are gone than came
    TRUNCATE = "truncate"  # a table was emptied or rewritten whole
    DROP = "drop"  # a table or an index is gone
    SCHEMA = "schema"  # the schema is another
    POINT = "point"  # no commit: a named restore point


@dataclass(frozen=True, slots=True)
class TableChange:
    """What a commit did to one table: the change of its number of rows (None: not known), and pages touched.

    ``certain`` is False where the table of a page was guessed.
    """

    table: str
    rows: int | None
    pages: int
    certain: bool = True


@dataclass(frozen=True, slots=True)
class FoundCommit:
    """One commit, or a named restore point.

    ``position`` names it: ``restore --before-position`` stops just before it, and ``after`` is where a restore
    stops that has it.  It was made at ``at``; where ``seen_after`` is set the log does not know it to the moment:
    it was made after that and not after ``at``.  ``xid`` is the engine's number of the transaction.
    """

    position: Position
    after: Position
    at: datetime | None
    deed: Deed
    changes: tuple[TableChange, ...] = ()
    seen_after: datetime | None = None
    xid: int | None = None
    name: str = ""
    says: str = ""


class CommitFinder(Protocol):
    """Looks into log files of one engine.

    ``wants_pages``: it names tables only beside the data files as they were where the first log file begins.
    """

    engine: str
    wants_pages: bool

    def log_name(self, log: LogFile) -> str:
        """What the file of ``log`` must be called."""
        ...

    def commits(
        self, logs: Sequence[ClosedLog], pages: Path | None, since: datetime, until: datetime
    ) -> tuple[Sequence[FoundCommit], Sequence[str]]:
        """Commits from ``since`` to ``until`` of neighbouring log files of one history, in order; and notes.

        Args:
            logs: verified, oldest first, without a gap.
            pages: the data file as it was where the first one begins; it is changed. None: tables are not known.
            since: leave out what was committed before.
            until: leave out what was committed after.

        Raises:
            NotHealthy: the engine's program is missing or fails.
            DamageFound: a log file is not what it should be.
        """
        ...

    def text(self, position: Position) -> str:
        """A position as a shell takes it and ``Writer.parse_position`` reads it."""
        ...

    def before(self, position: Position) -> Position:
        """The furthest position that a restore may go to without the commit that ``position`` names."""
        ...

    def numbers(self, logs: Sequence[ClosedLog]) -> tuple[int, int] | None:
        """The least and the greatest transaction number in these log files; None when there is none.

        Raises:
            UsageProblem: the engine gives transactions no numbers.
        """
        ...

    def ended(self, logs: Sequence[ClosedLog], xid: int) -> FoundCommit | None:
        """The commit of transaction ``xid`` in these log files. Raises NotFound: it was rolled back there."""
        ...

    def points(self, logs: Sequence[ClosedLog]) -> Iterable[FoundCommit]:
        """The named restore points in these log files."""
        ...
