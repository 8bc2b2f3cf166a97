"""Runs of the journal as rows and whole, with the names that ``list --failed --json`` and ``show --json`` use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.errors import NotFound
from backupd.journal.records import JsonValue, Run
from backupd.model.states import RunState
from backupd.process import is_alive

if TYPE_CHECKING:
    from backupd.journal.journal import Journal

_ENDED_BADLY = {RunState.REFUSED, RunState.ABORTED, RunState.FAILED}


def run_row(journal: Journal, run: Run) -> dict[str, JsonValue]:
    """One run; ``because`` is told of those that did not end well, ``running`` of those that a process works on."""
    return {
        "run": run.id,
        "database": run.database,
        "kind": run.kind.value,
        "type": run.type,
        "state": run.state.value,
        "backup": run.label or None,
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "running": run.finished_at is None and is_alive(run.process),
        "because": _because(journal, run),
    }


def run_whole(journal: Journal, database: str, run_id: str) -> dict[str, JsonValue]:
    """One run with its diary.

    Raises:
        NotFound: the database has no such run.
    """
    run = journal.run(run_id)
    if run.database != database:
        raise NotFound(
            f"there is no run {run_id} of {database}",
            because="it is another database's",
            next_step=f"backupctl status {database}",
        )
    diary: list[JsonValue] = [
        {"at": entry.at.isoformat(), "event": entry.event, "state": entry.to_state, "says": entry.says}
        for entry in journal.transitions(run_id)
    ]
    return {**run_row(journal, run), "facts": dict(run.facts), "history": diary}


def _because(journal: Journal, run: Run) -> str:
    if run.state not in _ENDED_BADLY:
        return ""
    because = run.facts.get("because")
    if isinstance(because, str):
        return because
    diary = journal.transitions(run.id)
    return diary[-1].says if diary else ""
