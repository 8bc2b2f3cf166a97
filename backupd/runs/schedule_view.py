"""The schedule of a database as people and metrics ask for it: what is due and why, and how far apart runs are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from backupd.decide import schedule as decide
from backupd.decide.slots import Slot, next_slot_of, slots_between
from backupd.journal.records import JsonValue
from backupd.model.calendar import Interval
from backupd.model.rules import ScheduleRules, Task
from backupd.runs.slot_evidence import attempts_here, known_since

if TYPE_CHECKING:
    from backupd.runs.context import RunContext

# Most calendars repeat after a week; those of months and years are looked at further, and none is at every status.
_LOOK_DAYS = (16, 70, 800)


def schedule_json(context: RunContext) -> dict[str, JsonValue]:
    """The form that ``explain schedule --json`` shows, without the name of the database."""
    rules, now = context.policy.schedule_rules(), context.clock.now()
    attempts = attempts_here(context.journal, context.database, rules, now)
    known = known_since(context, remember=False)
    answer = decide.decide(rules, now, attempts, database=context.database, known_since=known)
    due, coming = answer.due, decide.next_slot(rules, now, database=context.database)
    return {
        "timezone": rules.timezone,
        "due": {"type": due.task.value, "slot": due.slot.at.isoformat(), "reasons": [*map(str, due.reasons)]}
        if due
        else None,
        "waiting": [*map(str, answer.waiting)],
        "given_up": [{"type": slot.task.value, "slot": slot.at.isoformat()} for slot in answer.given_up],
        "next": {"type": coming.task.value, "at": coming.at.isoformat()} if coming else None,
        "attempts": [
            {"type": one.task.value, "at": one.at.isoformat(), "outcome": one.outcome.value} for one in attempts
        ],
    }


def next_runs(context: RunContext, count_max: int = 5) -> list[dict[str, JsonValue]]:
    """The slots that come next, as ``next_run`` of the status shows the first of them."""
    rules, now = context.policy.schedule_rules(), context.clock.now()
    coming = [slot for task in decide.TASKS for slot in _following(rules, task, now, context.database, count_max)]
    coming.sort(key=lambda slot: slot.at)
    return [{"at": slot.at.isoformat(), "type": slot.task.value, "local": slot.local} for slot in coming[:count_max]]


def expected_intervals(context: RunContext) -> dict[str, float]:
    """The longest pause between two scheduled backups: ``any``, ``full`` ones; and ``drill``s; absent where none is.

    Where an interval is among the words it is at most that one: slots of each second are not walked through.
    """
    rules, now = context.policy.schedule_rules(), context.clock.now()
    fulls = (Task.FULL, Task.EXPRESS)
    found: dict[str, float] = {}
    for name, tasks in (("any", decide.BACKUPS), ("full", fulls), ("drill", (Task.DRILL,))):
        pause = longest_pause(rules, tasks, now, context.database)
        if pause is not None:
            found[name] = pause
    return found


def longest_pause(rules: ScheduleRules, tasks: Sequence[Task], now: datetime, database: str) -> float | None:
    """The longest pause in seconds that is planned between runs of these; None where fewer than two are planned."""
    parts = [part for task in tasks if task in rules.calendars for part in rules.calendars[task].parts]
    intervals = [part.seconds for part in parts if isinstance(part, Interval)]
    if intervals:
        return float(min(intervals))
    for days in _LOOK_DAYS if parts else ():
        end = now + timedelta(days=days)
        slots = {slot.at for task in tasks for slot in slots_between(rules, task, now, end, database)}
        if len(slots) > 1:
            return max((later - at).total_seconds() for at, later in pairwise(sorted(slots)))
    return None


def _following(rules: ScheduleRules, task: Task, after: datetime, database: str, count_max: int) -> list[Slot]:
    found: list[Slot] = []
    while len(found) < count_max and (slot := next_slot_of(rules, task, after, database)) is not None:
        found.append(slot)
        after = slot.at
    return found
