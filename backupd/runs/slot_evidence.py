"""What is known about slots of a schedule: who has tried them here, and what in the archive serves them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.archive import names
from backupd.decide.schedule import BACKUPS, Attempt, Outcome, Overdue, overdue, serves
from backupd.decide.slots import newest_slot
from backupd.durable import read_json, write_json
from backupd.errors import BackupdError, DamageFound, NotFound
from backupd.journal.records import RunKind
from backupd.model.alarm import Alarm, Severity
from backupd.model.rules import ScheduleRules, Task
from backupd.model.states import RunState

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive
    from backupd.journal.journal import Journal
    from backupd.runs.context import RunContext

# What else counts for a slot besides the service's own tries: runs by hand, or by cron.
_RUNS_LOOKED_AT = 50
_KNOWN_FILE = "schedule.json"
_TASK_WORDS = frozenset(task.value for task in Task)
_DONE = frozenset({RunState.COMPLETE, RunState.PENDING})


def slot_name(task: Task, at: datetime) -> str:
    """How the journal calls a slot: ``full 2026-11-22T02:00:00+00:00``."""
    return f"{task} {at.isoformat()}"


def by_hand(task: Task, database: str) -> str:
    """The command that does what a slot wants."""
    return f"backupctl backup {database} --type {task}" if task in BACKUPS else f"backupctl {task} {database}"


def attempts_here(journal: Journal, database: str, rules: ScheduleRules, now: datetime) -> list[Attempt]:
    """What this node has tried for the newest slot of each task, and the runs that it has finished."""
    found = []
    for task in rules.calendars:
        slot = newest_slot(rules, task, now, database)
        if slot is not None:
            tries = journal.attempts(database, slot_name(task, slot.at))
            found += [Attempt(task, each.at, Outcome(each.outcome)) for each in tries]
    for kind in (RunKind.BACKUP, RunKind.PRUNE, RunKind.VERIFY, RunKind.DRILL):
        for run in journal.runs(database, kind, limit=_RUNS_LOOKED_AT):
            word = run.type or kind.value
            # A copy stands beside the schedule, and a run that is not over is asked for by its lease.
            if run.state in _DONE and word in _TASK_WORDS:
                found.append(Attempt(Task(word), run.started_at))
    return found


def served_by(archive: DatabaseArchive, task: Task, slot_at: datetime) -> Attempt | None:
    """The newest backup, or drill that passed, in the archive that serves a slot, whoever it was; None without one.

    Lists names, and reads only the records of backups that began since the slot.

    Raises:
        ArchiveUnreachable: it cannot be read now.
    """
    if task is Task.DRILL:
        return _drilled(archive, slot_at)
    labels = []
    for each in archive.store.list(names.records_prefix(archive.dbid)):
        with suppress(ValueError):
            label = names.parse_label(names.label_in(each.name))
            if label.type.value in _TASK_WORDS and serves(Task(label.type.value), task):
                labels.append((label.at, names.label_in(each.name), Task(label.type.value)))
    for at, name, type_ in sorted(labels, reverse=True):
        if at < slot_at:
            break
        with suppress(NotFound):  # it was aborted
            archive.get(name)
            return Attempt(type_, at)
    return None


def _drilled(archive: DatabaseArchive, slot_at: datetime) -> Attempt | None:
    """The newest drill that began since and passed; only verdicts that were written since are read."""
    found = []
    for each in archive.store.list(names.verdicts_prefix(archive.dbid)):
        with suppress(NotFound, DamageFound, ValueError):
            if names.verdict_time(each.name) < slot_at.replace(microsecond=0):
                continue
            verdict = archive.read_verdict(each.name)
            if verdict.drill is not None and verdict.sound and verdict.drill.started_at >= slot_at:
                found.append(verdict.drill.started_at)
    return Attempt(Task.DRILL, max(found)) if found else None


def overdue_in_archive(context: RunContext, now: datetime, known_since: Mapping[Task, datetime]) -> tuple[Overdue, ...]:
    """Backups that the archive should hold by now and does not, whichever node was to take them.

    Raises:
        ArchiveUnreachable: it cannot be read now.
    """
    rules, database = context.policy.schedule_rules(), context.database
    asked = overdue(rules, now, (), database=database, known_since=known_since)
    if not asked:
        return ()
    try:
        archive = context.archive()
    except NotFound:
        return asked
    there = [found for one in asked if (found := served_by(archive, one.slot.task, one.slot.at)) is not None]
    return overdue(rules, now, there, database=database, known_since=known_since)


def known_since(context: RunContext, *, remember: bool = True) -> dict[Task, datetime]:
    """Since when each task's words are known on this node: a new policy owes nothing for last week.

    Words that are new or were changed count from now on; that is written down when ``remember`` says so.

    Raises:
        NotHealthy: the state directory cannot be written.
    """
    rules, now = context.policy.schedule_rules(), context.clock.now()
    path = context.state_dir / _KNOWN_FILE
    kept = read_json(path) or {}
    wanted = {task.value: f"{words} {rules.timezone}" for task, words in rules.calendars.items()}
    known = {}
    for task, words in wanted.items():
        try:
            same = kept[task]["words"] == words and datetime.fromisoformat(kept[task]["since"]) <= now
        except (KeyError, TypeError, ValueError):
            same = False
        known[task] = kept[task] if same else {"words": words, "since": now.isoformat()}
    if remember and known != kept:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(path, known, step_name="schedule.known")
    return {Task(task): datetime.fromisoformat(each["since"]) for task, each in known.items()}


def overdue_alarms(context: RunContext) -> list[Alarm]:
    """An alarm for each backup that is overdue; none while the archive is away, which is an alarm of its own."""
    try:
        late = overdue_in_archive(context, context.clock.now(), known_since(context, remember=False))
    except BackupdError:
        return []
    return [_overdue(context.database, one) for one in late]


def _overdue(database: str, late: Overdue) -> Alarm:
    return Alarm(
        database,
        "backup-overdue",
        f"the {late.slot.task} of {late.slot.local} is overdue: the archive holds none that began since",
        subject=late.slot.task.value,
        severity=Severity.CRITICAL,
        next_step=f"backupctl explain schedule {database}",
    )
