"""Finds the commits in the archived log near a moment, with what each of them changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backupd.decide.log_near import LogStretch, log_near, logs_of
from backupd.decide.pick_commits import names_table, pick_commits
from backupd.decide.restore_path import RestoreWish
from backupd.errors import NotFound, Refused
from backupd.journal.records import JsonValue
from backupd.model.amounts import size_text
from backupd.model.records import ArchivedBackup, Progress, StoredLog
from backupd.ports import ClosedLog, CommitFinder, Deed, FoundCommit
from backupd.runs.context import RunContext
from backupd.runs.looking import looking
from backupd.runs.rebuild import Rebuild
from backupd.runs.restore_plan import plan_restore

FETCH_BYTES_MAX = 4 << 30
_BEFORE = 2  # what a commit did may be written in a segment before the one with its end
_HARM = frozenset({Deed.DELETE, Deed.TRUNCATE, Deed.DROP, Deed.SCHEMA, Deed.POINT})


@dataclass(frozen=True, slots=True)
class CommitsFound:
    """The commits near a moment, in the log's order; ``total`` is how many there were before some were chosen,
    ``commands`` are what to paste for each."""

    database: str
    near: datetime
    since: datetime
    until: datetime
    commits: tuple[FoundCommit, ...]
    total: int
    read_bytes: int
    notes: tuple[str, ...]
    commands: Sequence[str]

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``timeline --commits --json`` shows."""
        return {
            "database": self.database,
            "near": self.near.isoformat(),
            "from": self.since.isoformat(),
            "to": self.until.isoformat(),
            "commits": [commit_json(one, say) for one, say in zip(self.commits, self.commands, strict=True)],
            "total": self.total,
            "read_bytes": self.read_bytes,
            "notes": list(self.notes),
        }


def restore_command(database: str, commit: FoundCommit, finder: CommitFinder) -> str:
    """What to paste to have the state just before a commit; of a restore point, the state at it."""
    if commit.deed is Deed.POINT:
        return f"backupctl restore {database} --to {finder.text(commit.after)}"
    return f"backupctl restore {database} --before-position {finder.text(commit.position)}"


def commit_json(commit: FoundCommit, command: str) -> dict[str, JsonValue]:
    """One commit with the names that scripts rely on."""
    return {
        "at": commit.at.isoformat() if commit.at else None,
        "seen_after": commit.seen_after.isoformat() if commit.seen_after else None,
        "position": str(commit.position),
        "after": str(commit.after),
        "deed": commit.deed.value,
        "xid": commit.xid,
        "name": commit.name,
        "tables": [
            {"table": one.table, "rows": one.rows, "pages": one.pages, "certain": one.certain} for one in commit.changes
        ],
        "says": commit.says,
        "restore": command,
    }


def find_commits(
    context: RunContext, near: datetime, since: datetime, until: datetime, *, table: str = "", count_max: int = 200
) -> CommitsFound:
    """The commits from ``since`` to ``until``; reads the archive and changes nothing.

    Args:
        context: the database.
        near: the moment that matters; where there are more than ``count_max``, the nearest are told.
        since: the first moment.
        until: the last moment.
        table: only commits that changed this table, or may have.
        count_max: at most so many; what took something away comes before what only added.

    Raises:
        NotFound: the archive has no log of that time.
        Refused: there is too much of it to fetch.
        ArchiveUnreachable, DamageFound, KeyMissing: the log cannot be read.
        NotHealthy: the scratch cannot be written, or the engine's program is missing.
    """
    finder = context.commit_finder()
    backups = context.archive().list().backups
    stretches = log_near(backups, since, until, before=0 if finder.wants_pages else _BEFORE)
    _refuse_nothing_or_too_much(context, backups, stretches, since, until)
    found: list[FoundCommit] = []
    notes: list[str] = []
    for number, stretch in enumerate(stretches):
        with looking(context) as place:
            some, said = _commits_of(context, finder, stretch, place, since, until)
        found += [one for one in some if not _among(one, found)] if number else some
        notes += said
    if len(stretches) > 1:
        found.sort(key=lambda one: one.at or near)  # a later history may begin before the end of an earlier one
    wished = [one for one in found if not table or _touches(one, table)]
    chosen = pick_commits(wished, [one.deed in _HARM for one in wished], near, count_max)
    return CommitsFound(
        database=context.database,
        near=near,
        since=since,
        until=until,
        commits=chosen,
        total=len(wished),
        read_bytes=sum(stretch.stored_bytes for stretch in stretches),
        notes=tuple(dict.fromkeys(notes)),
        commands=tuple(restore_command(context.database, one, finder) for one in chosen),
    )


def _among(one: FoundCommit, found: Sequence[FoundCommit]) -> bool:
    return any(same(one, other) for other in found)


def _touches(commit: FoundCommit, table: str) -> bool:
    """A table that is not known may be any."""
    return commit.deed is Deed.POINT or any(
        names_table(one.table, table) or (not one.certain and one.rows is None) for one in commit.changes
    )


def same(one: FoundCommit, other: FoundCommit) -> bool:
    """Whether two are one: the first log file of a history may repeat the end of the one before it."""
    if one.position.history == other.position.history:
        return one.position == other.position
    return (one.position.offset, one.xid, one.at) == (other.position.offset, other.xid, other.at)


def _refuse_nothing_or_too_much(
    context: RunContext,
    backups: Sequence[ArchivedBackup],
    stretches: Sequence[LogStretch],
    since: datetime,
    until: datetime,
) -> None:
    if not stretches:
        times = [at for one in logs_of(backups) for at in (one.log.first_commit_at, one.log.last_commit_at) if at]
        held = (
            f"its log has commits from {min(times).isoformat()} to {max(times).isoformat()}" if times else "it has none"
        )
        raise NotFound(
            f"the archive holds no log of {context.database} from {since.isoformat()} to {until.isoformat()}",
            because=held,
            next_step=f"backupctl timeline {context.database} shows the gaps; "
            f"newer log comes with: backupctl backup {context.database} --type incremental",
        )
    refuse_too_much(context, stretches, "name a shorter --window")


def refuse_too_much(context: RunContext, stretches: Sequence[LogStretch], next_step: str) -> None:
    """Log that would take too long to fetch. Raises Refused."""
    size = sum(stretch.stored_bytes for stretch in stretches)
    if size > FETCH_BYTES_MAX:
        raise Refused(
            f"too much log of {context.database} lies in that time",
            because=f"{size_text(size)} would have to be fetched, and {size_text(FETCH_BYTES_MAX)} is the most",
            next_step=next_step,
        )


def _commits_of(
    context: RunContext, finder: CommitFinder, stretch: LogStretch, place: Path, since: datetime, until: datetime
) -> tuple[Sequence[FoundCommit], Sequence[str]]:
    notes: list[str] = []
    pages = _pages_at(context, stretch, place / "pages", notes) if finder.wants_pages else None
    logs = fetched(context, finder, stretch.logs, place / "log")
    found, said = finder.commits(logs, pages, since, until)
    return found, [*notes, *said]


def _pages_at(context: RunContext, stretch: LogStretch, place: Path, notes: list[str]) -> Path | None:
    """The data file as it was where the stretch begins, restored to ``place``; None where no backup leads there."""
    begin = stretch.logs[0].log.start
    try:
        plan = plan_restore(context, RestoreWish.to_position(begin), str(place))
    except NotFound as error:
        notes.append(f"the tables are not known before the first full of a history: {error.problem}")
        return None
    if plan.blockers:
        notes.append(f"the tables are not known, for the pages cannot be restored here: {plan.blockers[0]}")
        return None
    target = context.writer.restore_target(str(place))
    target.begin("looking")
    # A restore that runs beside this look lends its log files in the state directory.
    rebuild = Rebuild(context, plan.route, target, lends_in=place.parent)
    rebuild.run()
    if rebuild.position != begin:
        notes.append(f"the tables are not known: the pages lead to {rebuild.position}, the log begins at {begin}")
        return None
    target.activate(came_from=plan.base)
    target.finish()
    return target.facts().path


def fetched(
    context: RunContext, finder: CommitFinder, logs: Sequence[StoredLog], place: Path, *, told: str = "fetching log"
) -> list[ClosedLog]:
    """Log files out of the archive, decrypted and checked, under the names that the engine wants.

    Raises:
        ArchiveUnreachable, DamageFound, KeyMissing: one cannot be read.
        NotHealthy: ``place`` cannot be written.
    """
    archive, found = context.archive(), []
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    done, total = 0, sum(stored.stored_bytes for stored in logs)
    for stored in logs:
        path = place / finder.log_name(stored.log)
        archive.fetch_log(stored, path)
        done += stored.stored_bytes
        context.report(Progress(told, done, total))
        found.append(ClosedLog(stored.log, path))
    return found
