"""How rows of the journal become values, and values become columns."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime

from backupd.errors import NotFound
from backupd.journal.records import Attempt, JsonValue, Run, RunKind, Transition, TruncationNote
from backupd.model.position import Position
from backupd.model.records import Hold
from backupd.model.states import RunState
from backupd.process import ProcessIdentity

RUN_COLUMNS = (
    "id, database, kind, type, state, label, host, boot_id, pid, started_ticks, started_at, finished_at, facts"
)


def run_of(row: sqlite3.Row) -> Run:
    """A row with all of ``RUN_COLUMNS``."""
    return Run(
        id=row["id"],
        database=row["database"],
        kind=RunKind(row["kind"]),
        type=row["type"],
        state=RunState(row["state"]),
        process=ProcessIdentity(row["pid"], row["started_ticks"], row["boot_id"], row["host"]),
        started_at=time_of(row["started_at"]),
        finished_at=None if row["finished_at"] is None else time_of(row["finished_at"]),
        label=row["label"],
        facts=json.loads(row["facts"]),
    )


def run_in(connection: sqlite3.Connection, run_id: str) -> Run:
    """The run as it stands inside a transaction. Raises NotFound."""
    return one_run(connection.execute(f"SELECT {RUN_COLUMNS} FROM runs WHERE id = ?", (run_id,)).fetchall(), run_id)


def one_run(rows: list[sqlite3.Row], run_id: str) -> Run:
    """The only row. Raises NotFound."""
    if rows:
        return run_of(rows[0])
    raise NotFound(
        f"there is no run {run_id}",
        because="the journal of this node does not know it",
        next_step="list the runs with: backupctl status",
    )


def time_text(moment: datetime) -> str:
    """ISO 8601 in UTC with six digits: the order of the texts is the order of the times."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def time_of(text: str) -> datetime:
    """What ``time_text`` wrote."""
    return datetime.fromisoformat(text)


def json_text(value: JsonValue) -> str:
    """JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def hold_of(row: sqlite3.Row) -> Hold:
    """A row of ``holds``."""
    return Hold(
        holder=row["holder"],
        database=row["database"],
        needs_from=Position(row["history"], row["position"]),
        reason=row["reason"],
        placed_at=time_of(row["placed_at"]),
    )


def transition_of(row: sqlite3.Row) -> Transition:
    """A row of ``transitions``."""
    return Transition(
        run_id=row["run_id"],
        event=row["event"],
        from_state=row["from_state"],
        to_state=row["to_state"],
        says=row["says"],
        at=time_of(row["at"]),
    )


def truncation_of(row: sqlite3.Row) -> TruncationNote:
    """A row of ``truncations``."""
    return TruncationNote(
        label=row["label"],
        database=row["database"],
        state=row["state"],
        before=None if row["before"] is None else Position.parse(row["before"]),
        blocked_by=tuple(json.loads(row["blocked_by"])),
        at=time_of(row["at"]),
        facts=json.loads(row["facts"]),
    )


def attempt_of(row: sqlite3.Row) -> Attempt:
    """A row of ``attempts``."""
    return Attempt(
        database=row["database"],
        slot=row["slot"],
        run_id=row["run_id"],
        outcome=row["outcome"],
        at=time_of(row["at"]),
    )
