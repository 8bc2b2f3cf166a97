"""Decides what is due now, what waits and what is overdue: a missed slot runs once, a failed one is tried again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from backupd.decide.reasons import Reason
from backupd.decide.slots import Slot, end_of_window, newest_slot, next_slot_of, slots_between
from backupd.model.rules import ScheduleRules, Task

# Of backups that are due at once the first of these runs, and serves those behind it.
BACKUPS = (Task.FULL, Task.EXPRESS, Task.DIFFERENTIAL, Task.INCREMENTAL)
# The rest has slots of its own; a backup goes first.
TASKS = (*BACKUPS, Task.PRUNE, Task.VERIFY, Task.DRILL)
# A backup is overdue when half the time to its next slot has passed, within these.
_OVERDUE_MIN, _OVERDUE_MAX = timedelta(minutes=10), timedelta(hours=6)


class Outcome(StrEnum):
    """How a run that was begun for a slot ended."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"  # the service was told to stop: it is begun anew, and was no fault of the run


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run that was begun at ``at``; ``ended_at`` is None when that is not known."""

    task: Task
    at: datetime
    outcome: Outcome = Outcome.DONE
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A run should begin now, for ``slot``; ``tried`` tries for it have failed."""

    task: Task
    slot: Slot
    reasons: tuple[Reason, ...]
    tried: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done now, and why not the rest.

    Attributes:
        due: what should begin, if anything.
        look_again_at: when the answer may be another one; None: never by itself, or when what is due is over.
        waiting: what is due and waits for a retry or the end of a blackout.
        given_up: tasks whose last slot failed too often, with the slot.
    """

    due: Due | None
    look_again_at: datetime | None
    waiting: tuple[Reason, ...] = ()
    given_up: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True)
class Overdue:
    """The archive holds no backup for a slot that was long ago; ``last`` began before it, None: there is none."""

    slot: Slot
    last: datetime | None


def decide(
    rules: ScheduleRules,
    now: datetime,
    attempts: Sequence[Attempt],
    *,
    database: str = "",
    known_since: Mapping[Task, datetime] | None = None,
) -> Decision:
    """What should begin now.

    Of each task only the newest slot counts, so a service that was down for a week
    begins one backup and not seven.  A slot is served by a run that was begun at or
    after it and came to a good end; a full serves every other backup's slot, a
    differential those of incrementals.  One that failed is tried again, ``retries_max`` times.

    Args:
        rules: the calendar.
        now: the moment, with an offset.
        attempts: runs that were begun, here or elsewhere; those from the future are ignored, for a clock was wrong.
        database: its name, which the jitter hangs on.
        known_since: of tasks; slots before that moment are not owed (the policy did not say so then).
    """
    past = [attempt for attempt in attempts if attempt.at <= now]
    looks: list[datetime] = []
    closed = end_of_window(rules.blackout, rules.timezone, now)
    found: Due | None = None
    waiting: list[Reason] = []
    given_up: list[Slot] = []
    for task in TASKS:
        slot = newest_slot(rules, task, now, database)
        if slot is None or _is_not_owed(slot, known_since) or _is_served(past, slot):
            continue
        failures = [one for one in past if one.task is task and one.at >= slot.at and one.outcome is Outcome.FAILED]
        if len(failures) > rules.retries_max:
            given_up.append(slot)
            continue
        again_at = _again_at(rules, failures, now)
        if again_at is not None and now < again_at:
            looks.append(again_at)
            sentence = f"the {task} of {slot.local} failed and is tried again at {again_at:%H:%M:%SZ}"
            waiting.append(Reason("retry", sentence))
        elif closed is not None:
            looks.append(closed[0])
            sentence = f"the {task} of {slot.local} waits for the end of the blackout {closed[1]}"
            waiting.append(Reason("blackout", sentence))
        elif found is None:
            found = Due(task, slot, _due_reasons(slot, now, past), tried=len(failures))
    if found is None:
        looks += [slot.at for task in TASKS if (slot := next_slot_of(rules, task, now, database)) is not None]
    return Decision(found, min(looks, default=None), tuple(waiting), tuple(given_up))


def due(
    rules: ScheduleRules,
    now: datetime,
    attempts: Sequence[Attempt],
    *,
    database: str = "",
    known_since: Mapping[Task, datetime] | None = None,
) -> Due | None:
    """The one run that should begin now, or None; see ``decide``."""
    return decide(rules, now, attempts, database=database, known_since=known_since).due


def overdue(
    rules: ScheduleRules,
    now: datetime,
    archived: Iterable[Attempt],
    *,
    database: str = "",
    known_since: Mapping[Task, datetime] | None = None,
) -> tuple[Overdue, ...]:
    """Backups that the archive should hold by now and does not, whoever was to take them.

    A slot counts when half the time to the next one has passed since, at least ten
    minutes and at most six hours.

    Args:
        rules: the calendar.
        now: the moment, with an offset.
        archived: the backups that the archive lists, by when they began.
        database: its name, which the jitter hangs on.
        known_since: of tasks; slots before that moment are not owed.
    """
    there = [one for one in archived if one.at <= now]
    found = []
    for task in BACKUPS:
        slot = _ripe_slot(rules, task, now, database)
        if slot is None or _is_not_owed(slot, known_since) or _is_served(there, slot):
            continue
        last = max((one.at for one in there if serves(one.task, task)), default=None)
        found.append(Overdue(slot, last))
    return tuple(found)


def calendar(rules: ScheduleRules, start: datetime, days: int, *, database: str = "") -> list[Slot]:
    """Every slot from ``start`` on for so many days, in order; of backups that coincide only the winner."""
    end = start + timedelta(days=days)
    winners: dict[tuple[datetime, Task | None], Slot] = {}
    for task in TASKS:
        for slot in slots_between(rules, task, start, end, database):
            winners.setdefault((slot.at, None if task in BACKUPS else task), slot)
    return sorted(winners.values(), key=lambda slot: (slot.at, TASKS.index(slot.task)))


def next_slot(rules: ScheduleRules, now: datetime, *, database: str = "") -> Slot | None:
    """The first slot of a backup after ``now``; None when the policy schedules none."""
    slots = [slot for task in BACKUPS if (slot := next_slot_of(rules, task, now, database)) is not None]
    return min(slots, key=lambda slot: (slot.at, TASKS.index(slot.task)), default=None)


def serves(attempted: Task, wanted: Task) -> bool:
    """Whether a run of one task makes a slot of another needless."""
    if attempted is wanted:
        return True
    return attempted in BACKUPS and wanted in BACKUPS and BACKUPS.index(attempted) < BACKUPS.index(wanted)


def _is_not_owed(slot: Slot, known_since: Mapping[Task, datetime] | None) -> bool:
    since = (known_since or {}).get(slot.task)
    return since is not None and slot.at < since


def _again_at(rules: ScheduleRules, failures: Sequence[Attempt], now: datetime) -> datetime | None:
    """When what has failed is tried again; an end in the future is of a clock that was wrong."""
    ends = [one.ended_at if one.ended_at is not None and one.ended_at <= now else one.at for one in failures]
    return max(ends) + timedelta(seconds=rules.retry_seconds) if ends else None


def _is_served(past: Iterable[Attempt], slot: Slot) -> bool:
    return any(one.at >= slot.at and one.outcome is Outcome.DONE and serves(one.task, slot.task) for one in past)


def _ripe_slot(rules: ScheduleRules, task: Task, now: datetime, database: str) -> Slot | None:
    """The newest slot that is so old that its backup is overdue if it is not there."""
    slot = newest_slot(rules, task, now, database)
    following = next_slot_of(rules, task, now, database)
    if slot is None or following is None:
        return slot
    grace = min(max((following.at - slot.at) / 2, _OVERDUE_MIN), _OVERDUE_MAX)
    return newest_slot(rules, task, now - grace, database)


def _due_reasons(slot: Slot, now: datetime, past: Sequence[Attempt]) -> tuple[Reason, ...]:
    late = int((now - slot.at).total_seconds())
    tense = "is due" if late < 120 else f"was missed {late // 60} min ago and runs once"
    reasons = [Reason("slot", f"the {slot.task} of {slot.local} {tense}")]
    last = max((one.at for one in past if serves(one.task, slot.task)), default=None)
    if last is None:
        reasons.append(Reason("never-tried", f"no run has served a {slot.task} yet"))
    else:
        reasons.append(Reason("last-tried", f"the last run that could serve it started at {last:%Y-%m-%d %H:%M:%SZ}"))
    return tuple(reasons)
