"""What backupd did on this node, and what it may not forget: runs, holds, truncations, attempts."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from backupd.journal.book import Book
from backupd.journal.records import Attempt, Entry, JsonValue, Run, RunKind, Transition, TruncationNote
from backupd.journal.rows import (
    RUN_COLUMNS,
    attempt_of,
    hold_of,
    json_text,
    one_run,
    run_in,
    run_of,
    time_text,
    transition_of,
    truncation_of,
)
from backupd.model.records import Hold
from backupd.model.states import EDGES, FINAL_STATES, Edge, IllegalMove, RunEvent, RunState, next_state
from backupd.process import is_alive, this_process

# States in which no process works on a run: the final ones, and pending, which waits for the log to arrive.
RESTING_STATES = FINAL_STATES | {RunState.PENDING}


def unheard(entry: Entry) -> None:
    """Tell nobody."""


class Journal:
    """The book of one node's runs; every method is one transaction, durable when it returns.

    Safe for several threads and processes.  All methods raise ``NotHealthy``
    (disk full, not writable), ``Busy`` (locked too long) or ``DamageFound``.

    Args:
        path: the SQLite file; made when it is not there.
        now: the clock's door, for the times in the rows.

    ``hear`` is told of every entry about a run once it is durable.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime]) -> None:
        self.path = path
        self.hear: Callable[[Entry], None] = unheard
        self._ids: dict[RunKind, str] = {}
        self._now = now
        self._book = Book(path)

    def close(self) -> None:
        """Close this thread's connection; the journal may be used again."""
        self._book.close()

    # --- runs ---

    def new_id(self, kind: RunKind) -> str:
        """A run's id that no other one has."""
        return f"{self._now().astimezone(UTC):%Y%m%dT%H%M%SZ}-{kind}-{secrets.token_hex(4)}"

    def call_next(self, kind: RunKind, run_id: str) -> None:
        """The next run of this kind that begins here gets this id, by which somebody speaks of it already."""
        self._ids[kind] = run_id

    def begin_run(
        self,
        *,
        database: str,
        kind: RunKind,
        type: str = "",  # noqa: A002 - the word of the tables and of the JSON
        label: str = "",
        facts: Mapping[str, JsonValue] | None = None,
    ) -> Run:
        """Note that this process begins a run; it stands at ``planned``."""
        now = self._now()
        run = Run(
            id=self._ids.pop(kind, "") or self.new_id(kind),
            database=database,
            kind=kind,
            type=type,
            state=RunState.PLANNED,
            process=this_process(),
            started_at=now,
            finished_at=None,
            label=label,
            facts=dict(facts or {}),
        )
        values = (
            *(run.id, run.database, run.kind, run.type, run.state, run.label),
            *(run.process.host, run.process.boot_id, run.process.pid, run.process.started_ticks),
            *(time_text(now), None, json_text(dict(run.facts))),
        )
        says = f"{kind} of {database} begins"
        with self._book.writing("begin") as connection:
            connection.execute(f"INSERT INTO runs ({RUN_COLUMNS}) VALUES ({', '.join('?' * len(values))})", values)
            self._tell(connection, run.id, ("begin", "", run.state, says))
        self.hear(Entry(run, "begin", run.state, says, run.facts))
        return run

    def move(self, run_id: str, event: RunEvent, **facts: JsonValue) -> Edge:
        """Move a backup along the table of states and merge ``facts`` into the run's.

        The mover becomes the process that works on the run.  A final state, or
        ``pending``, ends that work.

        Raises:
            IllegalMove: the table has no such edge; nothing has changed.
            NotFound: there is no such run.
        """
        with self._book.writing("move") as connection:
            run = run_in(connection, run_id)
            edge = next_state(run.state, event)
            self._store(connection, run, edge.to, facts)
            self._tell(connection, run_id, (event, run.state, edge.to, edge.says))
        self.hear(Entry(run, event, edge.to, edge.says, facts))
        return edge

    def finish(self, run_id: str, state: RunState, says: str, **facts: JsonValue) -> None:
        """End a run of another kind than backup; it goes from ``planned`` to ``state`` at once.

        Raises:
            IllegalMove: the run is a backup, or is over, or ``state`` ends nothing; nothing has changed.
            NotFound: there is no such run.
        """
        with self._book.writing("finish") as connection:
            run = run_in(connection, run_id)
            if run.kind is RunKind.BACKUP:
                raise IllegalMove(f"{run_id} is a backup; it moves by the table of states")
            if not EDGES[run.state] or state not in RESTING_STATES:
                raise IllegalMove(f"a {run.kind} that is {run.state} cannot end as {state}")
            self._store(connection, run, state, facts)
            self._tell(connection, run_id, ("finish", run.state, state, says))
        self.hear(Entry(run, "finish", state, says, facts))

    def note(self, run_id: str, says: str, **facts: JsonValue) -> None:
        """Add a sentence to the run's diary, and facts, without moving it. Raises NotFound."""
        with self._book.writing("note") as connection:
            run = run_in(connection, run_id)
            merged = json_text({**run.facts, **facts})
            connection.execute("UPDATE runs SET facts = ? WHERE id = ?", (merged, run_id))
            self._tell(connection, run_id, ("note", run.state, run.state, says))
        self.hear(Entry(run, "note", run.state, says, facts))

    def set_label(self, run_id: str, label: str) -> None:
        """Give the run the id of the backup that it makes. Raises NotFound."""
        with self._book.writing("label") as connection:
            run_in(connection, run_id)
            connection.execute("UPDATE runs SET label = ? WHERE id = ?", (label, run_id))

    def run(self, run_id: str) -> Run:
        """One run. Raises NotFound."""
        return one_run(self._book.rows(f"SELECT {RUN_COLUMNS} FROM runs WHERE id = ?", (run_id,)), run_id)

    def run_of_label(self, label: str) -> Run | None:
        """The backup run that made backup ``label``; the newest when a second was begun under the same label."""
        rows = self._book.rows(
            f"SELECT {RUN_COLUMNS} FROM runs WHERE label = ? ORDER BY kind <> 'backup', started_at DESC LIMIT 1",
            (label,),
        )
        return run_of(rows[0]) if rows and label else None

    def runs(
        self,
        database: str | None = None,
        kind: RunKind | None = None,
        state: RunState | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """Runs, newest first; None asks for all."""
        rows = self._book.rows(
            f"SELECT {RUN_COLUMNS} FROM runs WHERE (?1 IS NULL OR database = ?1) AND (?2 IS NULL OR kind = ?2)"
            " AND (?3 IS NULL OR state = ?3) ORDER BY started_at DESC, rowid DESC LIMIT ?4",
            (database, kind, state, -1 if limit is None else limit),
        )
        return [run_of(row) for row in rows]

    def transitions(self, run_id: str) -> list[Transition]:
        """The run's diary, oldest first."""
        rows = self._book.rows("SELECT * FROM transitions WHERE run_id = ? ORDER BY number", (run_id,))
        return [transition_of(row) for row in rows]

    def in_progress(self, database: str | None = None) -> list[Run]:
        """Runs that a process works on, or died working on; oldest first."""
        rows = self._book.rows(
            f"SELECT {RUN_COLUMNS} FROM runs WHERE finished_at IS NULL AND (?1 IS NULL OR database = ?1)"
            " ORDER BY started_at, rowid",
            (database,),
        )
        return [run_of(row) for row in rows]

    def abandoned(self, database: str | None = None) -> list[Run]:
        """Runs in progress whose process is dead (pid, start time and boot are compared); oldest first."""
        return [run for run in self.in_progress(database) if not is_alive(run.process)]

    def _store(self, connection: sqlite3.Connection, run: Run, state: RunState, facts: Mapping[str, JsonValue]) -> None:
        here = this_process()
        connection.execute(
            "UPDATE runs SET state = ?, facts = ?, finished_at = ?, host = ?, boot_id = ?, pid = ?, started_ticks = ?"
            " WHERE id = ?",
            (
                state,
                json_text({**run.facts, **facts}),
                time_text(self._now()) if state in RESTING_STATES else None,
                *(here.host, here.boot_id, here.pid, here.started_ticks),
                run.id,
            ),
        )

    def _tell(self, connection: sqlite3.Connection, run_id: str, entry: tuple[str, str, str, str]) -> None:
        connection.execute(
            "INSERT INTO transitions (run_id, event, from_state, to_state, says, at) VALUES (?, ?, ?, ?, ?, ?)",
            (run_id, *entry, time_text(self._now())),
        )

    # --- holds ---

    def place_hold(self, hold: Hold) -> None:
        """Keep log from ``hold.needs_from`` on; a holder has one hold a database, placing again replaces it."""
        with self._book.writing("hold") as connection:
            connection.execute(
                "INSERT OR REPLACE INTO holds (database, holder, history, position, reason, placed_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(hold.database, hold.holder, hold.needs_from.history, hold.needs_from.offset),
                    *(hold.reason, time_text(hold.placed_at)),
                ),
            )

    def release_hold(self, database: str, holder: str) -> bool:
        """Release a hold; False when there was none."""
        with self._book.writing("release") as connection:
            gone = connection.execute("DELETE FROM holds WHERE database = ? AND holder = ?", (database, holder))
            return gone.rowcount > 0

    def holds(self, database: str | None = None) -> list[Hold]:
        """Holds, oldest first."""
        rows = self._book.rows(
            "SELECT * FROM holds WHERE (?1 IS NULL OR database = ?1) ORDER BY placed_at, holder", (database,)
        )
        return [hold_of(row) for row in rows]

    # --- truncations and attempts ---

    def record_truncation(self, note: TruncationNote) -> None:
        """Note how the truncation after a backup went; the last note of a label counts."""
        with self._book.writing("truncation") as connection:
            connection.execute(
                "INSERT INTO truncations (label, database, state, before, blocked_by, at, facts)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    *(note.label, note.database, note.state, None if note.before is None else str(note.before)),
                    *(json_text(list(note.blocked_by)), time_text(note.at), json_text(dict(note.facts))),
                ),
            )

    def truncation(self, label: str) -> TruncationNote | None:
        """The last truncation note of a backup, or None."""
        rows = self._book.rows("SELECT * FROM truncations WHERE label = ? ORDER BY number DESC LIMIT 1", (label,))
        return truncation_of(rows[0]) if rows else None

    def record_attempt(self, attempt: Attempt) -> None:
        """Note one try at a slot of the schedule."""
        with self._book.writing("attempt") as connection:
            connection.execute(
                "INSERT INTO attempts (database, slot, run_id, outcome, at) VALUES (?, ?, ?, ?, ?)",
                (attempt.database, attempt.slot, attempt.run_id, attempt.outcome, time_text(attempt.at)),
            )

    def attempts(self, database: str, slot: str) -> list[Attempt]:
        """All tries at a slot, oldest first."""
        rows = self._book.rows(
            "SELECT * FROM attempts WHERE database = ? AND slot = ? ORDER BY number", (database, slot)
        )
        return [attempt_of(row) for row in rows]
