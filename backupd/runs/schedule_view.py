"""The schedule of a database as people and metrics ask for it: what is due and why, and how far apart runs are."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from backupd.decide import schedule as decide
from backupd.journal.records import JsonValue, RunKind
from backupd.model.records import BackupType

if TYPE_CHECKING:
    from backupd.runs.context import RunContext

ATTEMPTS_SHOWN_MAX = 200
# Every calendar repeats after a week; a little more shows its longest pause between two runs.
_LOOK_DAYS = 16


def schedule_json(context: RunContext) -> dict[str, JsonValue]:
    """The form that ``explain schedule --json`` shows, without the name of the database."""
    rules, now = context.policy.schedule_rules(), context.clock.now()
    runs = context.journal.runs(context.database, RunKind.BACKUP, limit=ATTEMPTS_SHOWN_MAX)
    attempts = [decide.Attempt(BackupType(run.type), run.started_at) for run in runs if run.type]
    due = decide.due(rules, now, attempts, database=context.database)
    coming = decide.next_slot(rules, now, database=context.database)
    return {
        "timezone": rules.timezone,
        "due": {"type": due.type.value, "slot": due.slot.at.isoformat(), "reasons": [*map(str, due.reasons)]}
        if due
        else None,
        "next": {"type": coming.type.value, "at": coming.at.isoformat()} if coming else None,
        "attempts": [{"type": one.type.value, "at": one.at.isoformat()} for one in attempts],
    }


def next_runs(context: RunContext, count_max: int = 5) -> list[dict[str, JsonValue]]:
    """The slots that come next, as ``next_run`` of the status shows the first of them."""
    now = context.clock.now()
    slots = decide.calendar(context.policy.schedule_rules(), now, _LOOK_DAYS, database=context.database)
    coming = [slot for slot in slots if slot.at > now][:count_max]
    return [{"at": slot.at.isoformat(), "type": slot.type.value, "local": slot.local} for slot in coming]


def expected_intervals(context: RunContext) -> dict[str, float]:
    """The longest pause between two scheduled runs: ``any`` backup, and ``full`` ones; absent where none is planned."""
    begin = context.clock.now() - timedelta(days=1)
    slots = decide.calendar(context.policy.schedule_rules(), begin, _LOOK_DAYS, database=context.database)
    wanted = {"any": slots, "full": [slot for slot in slots if slot.type.is_full]}
    pauses = {name: [(b.at - a.at).total_seconds() for a, b in pairwise(found)] for name, found in wanted.items()}
    return {name: max(found) for name, found in pauses.items() if found}
