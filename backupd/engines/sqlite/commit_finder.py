"""Finds the commits of SQLite's log files: when each was seen, which tables it changed, and by how many rows."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backupd.engines.sqlite.apply import apply_partially
from backupd.engines.sqlite.commit_pages import PageChanges, PageWatch
from backupd.engines.sqlite.logcheck import verify_log
from backupd.engines.sqlite.logfile import commit_ends, read_header, read_marks
from backupd.engines.sqlite.logheader import LogHeader, LogKindCode, Mark, file_name, unwritable
from backupd.engines.sqlite.page_owners import SCHEMA, Owners, TreeNames, read_owners
from backupd.errors import DamageFound, UsageProblem
from backupd.model.position import Position
from backupd.model.records import LogFile
from backupd.ports import ClosedLog, Deed, FoundCommit, TableChange

UNKNOWN = "unknown"
_NOT_KNOWN = "the tables are not known: "
_TIMES = "a time is when backupd saw the commit, a moment after it; commits between two looks have one time"
_COMPARED = "the log before it was lost, and all pages were compared: it stands for every commit of that time"


@dataclass(frozen=True, slots=True)
class _Seen:
    """One commit before its tables are named."""

    header: LogHeader
    entries: int
    at: datetime
    after: datetime | None
    pages: PageChanges | None
    count: int


class SqliteCommitFinder:
    """See ``ports.CommitFinder``."""

    engine, wants_pages = "sqlite", True

    def log_name(self, log: LogFile) -> str:
        """See ``ports.CommitFinder``; a stretch is of one history."""
        return file_name(log.number)

    def commits(
        self, logs: Sequence[ClosedLog], pages: Path | None, since: datetime, until: datetime
    ) -> tuple[Sequence[FoundCommit], Sequence[str]]:
        """See ``ports.CommitFinder``."""
        headers = [_verified(closed) for closed in logs]
        names, notes = TreeNames(), [_TIMES]
        size = max((header.pages_after for header in headers), default=0)
        start = read_owners(pages, names, size) if pages is not None else None
        if pages is not None and start is None:
            notes.append(f"{_NOT_KNOWN}the SQLite here cannot say which page belongs to which (dbstat)")
        if pages is None or start is None:
            return [_named(seen, None) for seen in _wished(_walk(logs, headers, None), since, until)], notes
        try:
            watch = PageWatch(pages, start, names, headers[0].page_bytes, size)
            seen = list(_wished(_walk(logs, headers, watch), since, until))
            for closed, header in zip(logs, headers, strict=True):
                if header.kind.has_pages:
                    apply_partially(pages, closed.path, durable=False)
        except OSError as error:
            raise unwritable(pages, error) from None
        end = read_owners(pages, names, size)
        if end is None:
            notes.append("pages that came to a table in that time are not named: the state at its end cannot be read")
            end = np.zeros_like(start)
        tables = _Tables(names, _stretched(end, len(watch.times_freed) - 1), watch.times_freed)
        return [_named(one, tables) for one in seen], notes

    def text(self, position: Position) -> str:
        """See ``ports.CommitFinder``."""
        return str(position)

    def before(self, position: Position) -> Position:
        """See ``ports.CommitFinder``: a commit is named by its last entry."""
        return Position(position.history, max(0, position.offset - 1))

    def numbers(self, logs: Sequence[ClosedLog]) -> tuple[int, int] | None:  # noqa: ARG002 - the port's shape
        """See ``ports.CommitFinder``."""
        raise _no_numbers()

    def ended(self, logs: Sequence[ClosedLog], xid: int) -> FoundCommit | None:  # noqa: ARG002 - the port's shape
        """See ``ports.CommitFinder``."""
        raise _no_numbers()

    def points(self, logs: Sequence[ClosedLog]) -> Iterable[FoundCommit]:  # noqa: ARG002 - the port's shape
        """See ``ports.CommitFinder``: SQLite has none."""
        return ()


def _no_numbers() -> UsageProblem:
    return UsageProblem(
        "SQLite gives its transactions no numbers",
        because="--before-xid is of PostgreSQL",
        next_step="backupctl timeline DATABASE --commits --near TIME shows each commit's position, "
        "for restore --before-position",
    )


def _verified(closed: ClosedLog) -> LogHeader:
    found = verify_log(closed.path)
    if found.digest.hex() != closed.log.digest:
        raise DamageFound(
            f"{closed.path.name} is another log file",
            because=f"its digest is not that of number {closed.log.number} of history {closed.log.history}",
            next_step="backupctl verify --level data",
        )
    return found.header


def _walk(logs: Sequence[ClosedLog], headers: Sequence[LogHeader], watch: PageWatch | None) -> Iterator[_Seen]:
    """Every commit of all logs, in order."""
    before: datetime | None = None
    for closed, header in zip(logs, headers, strict=True):
        fd = os.open(closed.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            marks = read_marks(fd, read_header(closed.path))
            if header.kind.has_pages:
                for count, found in _changes(fd, header, watch):
                    at, after = _times(marks, count[1])
                    yield _Seen(header, count[1], at, after or before, found, count[1] - count[0])
            before = _moment(marks[-1].unix_us) if marks else before
        finally:
            os.close(fd)


def _changes(
    fd: int, header: LogHeader, watch: PageWatch | None
) -> Iterator[tuple[tuple[int, int], PageChanges | None]]:
    """Where each commit begins and ends among the entries, and what it did where that is watched."""
    begin = 0
    if watch is not None:
        for found in watch.commits(fd, header):
            yield (begin, found.entries), found
            begin = found.entries
        return
    for ends in commit_ends(fd, header):
        for end in ends.tolist():
            yield (begin, end), None
            begin = end


def _times(marks: Sequence[Mark], count: int) -> tuple[datetime, datetime | None]:
    """When the commit that ends after ``count`` entries was seen, and when the log was looked at before that."""
    at = min(bisect_left(marks, count, key=lambda mark: mark.entries), len(marks) - 1)
    return _moment(marks[at].unix_us), _moment(marks[at - 1].unix_us) if at else None


def _moment(unix_us: int) -> datetime:
    return datetime.fromtimestamp(unix_us / 1e6, UTC)


def _wished(seen: Iterable[_Seen], since: datetime, until: datetime) -> Iterator[_Seen]:
    return (one for one in seen if since <= one.at <= until)


def _stretched(owners: Owners, size: int) -> Owners:
    return np.concatenate([owners, np.zeros(max(0, size + 1 - len(owners)), np.uint32)])


@dataclass(frozen=True, slots=True)
class _Tables:
    """Names tables: a page whose tree nobody has followed to is of the tree that it is of at the end."""

    names: TreeNames
    end: Owners
    times_freed: NDArray[np.int32]

    def changes(self, found: PageChanges) -> Iterator[TableChange]:
        end = self.end[found.pages]
        after = np.where(found.tree_after != 0, found.tree_after, end)
        before = np.where(found.tree_before != 0, found.tree_before, after)
        # A page that was let go later may have been another tree's meanwhile.
        kept = (end != 0) & (found.times_freed == self.times_freed[found.pages])
        sure = (found.tree_after != 0) | kept
        tables: dict[str, TableChange] = {}
        for tree in np.union1d(after, before[found.rows_before > 0]).tolist():
            here, left = after == tree, before == tree
            rows = int(found.rows_after[here].sum() - found.rows_before[left].sum())
            table = self.names.table_of[tree] or UNKNOWN
            known = tables.get(table, TableChange(table, 0, 0))
            tables[table] = TableChange(
                table,
                None if tree == 0 else (known.rows or 0) + (rows if self.names.is_table[tree] else 0),
                known.pages + int(here.sum()),
                known.certain and tree != 0 and bool(sure[here].all()),
            )
        yield from tables.values()


def _named(seen: _Seen, tables: _Tables | None) -> FoundCommit:
    position = Position(seen.header.history, seen.header.start_offset + seen.entries)
    compared = seen.header.kind is LogKindCode.DELTA
    if tables is None or seen.pages is None:
        changes: tuple[TableChange, ...] = (TableChange(UNKNOWN, None, seen.count, certain=False),)
        deed, freed = Deed.COMMIT, 0
    else:
        freed = seen.pages.freed_pages
        changes = tuple(tables.changes(seen.pages))
        deed = _deed(seen.pages, changes)
        # The page that holds the schema holds the free list's beginning too, and says nothing beside a table's.
        changes = tuple(one for one in changes if one.table != SCHEMA) or changes
    says = _COMPARED if compared else f"{freed} page{'s' * (freed != 1)} let go" if freed else ""
    return FoundCommit(position, position, seen.at, deed, changes, seen.after, says=says)


def _deed(pages: PageChanges, changes: Sequence[TableChange]) -> Deed:
    if pages.new_schema:
        return Deed.DROP if pages.schema_rows < 0 else Deed.SCHEMA
    if any((one.rows or 0) < 0 for one in changes):
        return Deed.DELETE
    return Deed.COMMIT
