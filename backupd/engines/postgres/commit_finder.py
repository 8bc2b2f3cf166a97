"""Finds the commits of archived segments with the server's own pg_waldump: time, LSN, number, and what each did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from backupd.engines.postgres.cluster import PgCopy, PgOptions
from backupd.engines.postgres.positions import position_text
from backupd.engines.postgres.relation_names import RelationNames, ask_names
from backupd.engines.postgres.wal_lines import record_lines
from backupd.engines.postgres.wal_names import lsn_text, segment_name
from backupd.engines.postgres.wal_records import RMGRS, Ended, Relation, commit_of, ended, numbers_in
from backupd.engines.postgres.wal_restore_point import is_restore_point
from backupd.engines.postgres.wal_segment import MAGICS
from backupd.engines.postgres.waldump import find_waldump, lsns_in
from backupd.errors import DamageFound, NotHealthy
from backupd.model.position import Position
from backupd.model.records import LogFile
from backupd.ports import ClosedLog, Deed, FoundCommit, TableChange
from backupd.steps import step

_NO_NAMES = "no server answers, so tables are told by number: database/file"
_TODAYS_NAMES = "tables have the names of today; one that is gone is told by number: database/file"
_FROM_HERE = "rows of a transaction that began before this log are not counted"


class PgCommitFinder:
    """See ``ports.CommitFinder``.

    Args:
        copies: where names of tables are asked for.
        options: the policy's.
    """

    engine, wants_pages = "postgres", False

    def __init__(self, copies: Iterable[PgCopy], options: PgOptions) -> None:
        self._copies, self._options = tuple(copies), options
        self._names = RelationNames()
        self._known: set[int] = set()

    def log_name(self, log: LogFile) -> str:
        """See ``ports.CommitFinder``."""
        return segment_name(int(log.history), log.number, log.size_bytes)

    def commits(
        self,
        logs: Sequence[ClosedLog],
        pages: Path | None,
        since: datetime,
        until: datetime,
    ) -> tuple[Sequence[FoundCommit], Sequence[str]]:
        """See ``ports.CommitFinder``."""
        del pages
        found: list[tuple[Ended, datetime]] = []
        before: datetime | None = None
        said: list[str] = []
        with self._lines(logs, RMGRS, said) as lines:
            for end in ended(lines):
                at = before = end.at or before  # a restore point says no time: it came after the last commit before it
                if end.committed and at is not None and since <= at <= until:
                    found.append((end, at))
        notes = [_FROM_HERE, *_cut_short(said, logs)]
        databases = {relation[0] for end, _ in found for relation in (*end.doing.records, *end.removed)}
        self._learn_names(databases)
        if databases:
            notes.append(_TODAYS_NAMES if self._names.asked else _NO_NAMES)
        history = logs[-1].log.history
        return [_told(end, history, self._names, at) for end, at in found], notes

    def text(self, position: Position) -> str:
        """See ``ports.CommitFinder``."""
        return position_text(position)

    def before(self, position: Position) -> Position:
        """See ``ports.CommitFinder``: recovery stops before the record that begins there, and that is the commit."""
        return position

    def numbers(self, logs: Sequence[ClosedLog]) -> tuple[int, int] | None:
        """See ``ports.CommitFinder``."""
        with self._lines(logs, (), []) as lines:
            return numbers_in(lines)

    def ended(self, logs: Sequence[ClosedLog], xid: int) -> FoundCommit | None:
        """See ``ports.CommitFinder``."""
        with self._lines(logs, ("Transaction",), []) as lines:
            end = commit_of(lines, xid)
        return None if end is None else _told(end, logs[-1].log.history, RelationNames(), end.at)

    def points(self, logs: Sequence[ClosedLog]) -> Iterable[FoundCommit]:
        """See ``ports.CommitFinder``; each is told with the time of the last commit before it."""
        history, before, size = logs[-1].log.history, None, logs[0].log.size_bytes
        found, files = [], {one.log.number: one.path for one in logs}
        with self._lines(logs, ("Transaction", "XLOG"), []) as lines:
            for end in ended(lines):
                if end.name and is_restore_point(files, end.lsn, end.name, size):
                    found.append(_point(end, history, before))
                before = end.at or before
        return found

    def _learn_names(self, databases: set[int]) -> None:
        missing = databases - self._known
        if missing:
            self._known |= missing
            self._names.update(ask_names(self._copies, missing))

    @contextmanager
    def _lines(self, logs: Sequence[ClosedLog], rmgrs: Sequence[str], said: list[str]) -> Iterator[Iterator[bytes]]:
        first, last = logs[0].log, logs[-1].log
        step("pg.commits.waldump")
        with record_lines(
            self._waldump(logs[0].path),
            logs[0].path.parent,
            timeline=int(first.history),
            start=first.number * first.size_bytes,
            end=(last.number + 1) * first.size_bytes,
            rmgrs=rmgrs,
        ) as lines:
            yield iter(lines)
        if lines.complaint:
            said.append(lines.complaint)

    def _waldump(self, segment: Path) -> Path:
        """The program of the version that wrote the log, which the log itself says. Raises NotHealthy, DamageFound."""
        with segment.open("rb") as file:
            major = MAGICS.get(int.from_bytes(file.read(2), "little"))
        if major is None:
            raise DamageFound(
                f"{segment.name} is no segment of a version from 14 to 18",
                because="its first two bytes are not theirs",
                next_step="backupctl verify --level data",
            )
        places: list[Path | None] = [*(copy.data_directory for copy in self._copies), None]
        for place in places:
            found = find_waldump(major, chosen=self._options.bin_directory, data_directory=place)
            if found is not None:
                return found
        raise NotHealthy(
            "the log cannot be looked into",
            because=f"pg_waldump of PostgreSQL {major} is not on this host",
            next_step=f"install the programs of PostgreSQL {major} here, or name their bin_directory in the policy",
        )


def _cut_short(said: Sequence[str], logs: Sequence[ClosedLog]) -> list[str]:
    """Where the program stopped before the last segment: then what comes after is not told."""
    start = logs[-1].log.end.offset - logs[-1].log.size_bytes
    return [
        f"the log was read up to {lsn_text(stopped)} only: {complaint}"
        for complaint in said
        for stopped in lsns_in(complaint)
        if stopped < start
    ][:1]


def _point(end: Ended, history: str, at: datetime | None) -> FoundCommit:
    place = Position(history, end.lsn)
    after = Position(history, end.lsn + 1)  # recovery stops before the first record that does not begin before it
    return FoundCommit(place, after, at, Deed.POINT, name=end.name, says=f"restore point {end.name!r}")


def _told(end: Ended, history: str, names: RelationNames, at: datetime | None) -> FoundCommit:
    if end.name:
        return _point(end, history, at)
    doing = end.doing
    changes: dict[str, TableChange] = {}
    for relation, count in doing.records.items():
        table, known = _name(relation, names)
        rows = 0 if relation in names.toast else doing.rows[relation]
        one = changes.get(table, TableChange(table, 0, 0))
        changes[table] = TableChange(table, (one.rows or 0) + rows, one.pages + count, one.certain and known)
    deed = _deed(end)
    for table, known in _removed(end, deed, names):
        changes.setdefault(table, TableChange(table, None, 0, known))
    return FoundCommit(
        position=Position(history, end.lsn),
        after=Position(history, end.lsn + 1),
        at=at,
        deed=deed,
        changes=tuple(changes.values()),
        xid=end.xid,
        says=_files(end.removed),
    )


def _deed(end: Ended) -> Deed:
    if end.removed or end.doing.truncated:
        # A table that is emptied or rewritten gets a new file; one that is dropped gets none.
        return Deed.TRUNCATE if end.doing.made_files or end.doing.truncated else Deed.DROP
    if end.doing.catalog:
        return Deed.SCHEMA
    if any(rows < 0 for rows in end.doing.rows.values()):
        return Deed.DELETE
    return Deed.COMMIT


def _removed(end: Ended, deed: Deed, names: RelationNames) -> Iterator[tuple[str, bool]]:
    """Tables whose files were removed: by their oid where they are still there, else by the first file's number."""
    if not end.removed:
        return
    database = end.removed[0][0]
    named = [names.by_oid[database, oid] for oid in end.changed_oids if (database, oid) in names.by_oid]
    if named and deed is Deed.TRUNCATE:
        yield from ((name, True) for name in dict.fromkeys(named))
        return
    yield f"{database}/{min(file for _, file in end.removed)}", False  # the table's own file is the oldest, mostly


def _files(removed: Sequence[Relation]) -> str:
    """Which files of tables and indexes are gone."""
    if not removed:
        return ""
    files = ", ".join(f"{database}/{file}" for database, file in sorted(removed)[:8])
    return f"removed files {files}" + (f" and {len(removed) - 8} more" if len(removed) > 8 else "")


def _name(relation: Relation, names: RelationNames) -> tuple[str, bool]:
    found = names.by_file.get(relation)
    return (found, True) if found is not None else (f"{relation[0]}/{relation[1]}", False)
