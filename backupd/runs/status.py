"""How a database is doing, in one JSON value: copies, last backups, recovery window, alarms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from backupd.archive import names
from backupd.archive.lease import is_gone
from backupd.archive.term_objects import newest_term
from backupd.decide.schedule import next_slot
from backupd.errors import BackupdError
from backupd.journal.records import JsonValue
from backupd.model.alarm import Alarm
from backupd.model.pair import CopyStatus, PairStatus
from backupd.runs.alarms import archive_emptied, of_archive, of_backups, of_error, of_findings, of_pair
from backupd.runs.archive_view import ArchiveView, look, record_names, remembered
from backupd.runs.context import RunContext
from backupd.runs.drill_facts import drill_alarms
from backupd.runs.held_log import guard_json, guard_verdicts, held_log_alarms
from backupd.runs.rolled_back import rolled_back
from backupd.runs.schedule_view import expected_intervals
from backupd.runs.second_status import second_status
from backupd.runs.slot_evidence import overdue_alarms


def status_json(databases: Sequence[dict[str, JsonValue]]) -> dict[str, JsonValue]:
    """The whole answer of ``status --json``."""
    return {"databases": list(databases)}


def status_of(context: RunContext) -> dict[str, JsonValue]:
    """One database, seen now.  Never raises for what the world did: that becomes an alarm."""
    alarms: list[Alarm] = []
    pair = _pair(context, alarms)
    view = _view(context, alarms)
    copies: list[JsonValue] = [copy_json(copy) for copy in pair.copies] if pair else []
    if pair is not None:
        alarms.extend(of_pair(context.database, pair))
    second = second_status(context, alarms)
    holds: list[JsonValue] = []
    guard: dict[str, JsonValue] = {}
    intervals = expected_intervals(context)
    try:
        if pair is not None:
            verdicts = guard_verdicts(context, pair)
            guard = guard_json(verdicts)
            alarms.extend(held_log_alarms(context.database, verdicts))
        holds.extend(_holds(context))
        missing = rolled_back(context, view.record_ids()) if view else ()
        alarms.extend(of_backups(context, view.last_full if view else None, missing))
        alarms.extend(overdue_alarms(context))
        alarms.extend(_of_drills(context, view, intervals.get("drill")))
    except BackupdError as error:
        alarms.append(of_error(context.database, "journal", error))
    return {
        "name": context.database,
        "engine": context.engine,
        "history": pair.history if pair else None,
        "copies": copies,
        "last_full": view.last_full if view else None,
        "last_incremental": view.last_incremental if view else None,
        "recovery_window": view.recovery_window if view else None,
        "verified": view.verified if view else None,
        "last_drill": view.last_drill if view else None,
        "last_proven": view.last_proven if view else None,
        "expected_restore_seconds": view.expected_restore_seconds if view else None,
        "archive_seen_at": view.seen_at.isoformat() if view else None,
        "second_archive": second,
        "held_log_bytes_warn": context.policy.truncation.held_log_bytes_warn,
        "expected_interval_seconds": dict(intervals),
        "next_run": _next_run(context),
        "running": _running(context),
        "holds": holds,
        "log_guard": guard,
        "alarms": list(dict.fromkeys(alarm.sentence for alarm in alarms)),
        "alarm_details": _details(alarms),
    }


def _details(alarms: Sequence[Alarm]) -> list[JsonValue]:
    """Each alarm once, the first of those that are the same."""
    once: dict[tuple[str, str, str], Alarm] = {}
    for alarm in alarms:
        once.setdefault(alarm.key, alarm)
    return [dict(alarm.to_json()) for alarm in once.values()]


def _running(context: RunContext) -> dict[str, JsonValue] | None:
    """The run that holds the lease in the archive, on whatever host; its times are by that host's clock."""
    try:
        term = newest_term(context.open_store(), names.database_id(context.database, context.engine))
    except BackupdError:
        return None  # the archive is away: an alarm says so
    if term is None or term.released or is_gone(term.holder, term.nonce):
        return None
    return {
        "run": term.run,
        "host": term.holder.host,
        "pid": term.holder.pid,
        "since": term.since.isoformat(),
        "renewed_at": term.at.isoformat(),
    }


def _holds(context: RunContext) -> list[JsonValue]:
    return [
        {
            "holder": hold.holder,
            "needs_from": str(hold.needs_from),
            "reason": hold.reason,
            "placed_at": hold.placed_at.isoformat(),
        }
        for hold in context.journal.holds(context.database)
    ]


def copy_json(copy: CopyStatus) -> dict[str, JsonValue]:
    """One copy with the keys that scripts rely on."""
    return {
        "name": copy.name,
        "role": copy.role.value,
        "state": copy.state.value,
        "because": copy.because,
        "path": copy.path,
        "copy_queue_logs": copy.copy_queue_logs,
        "replay_queue_logs": copy.replay_queue_logs,
        "held_log_bytes": copy.held_log_bytes,
        "held_log_seconds": round(copy.held_log_seconds, 3),
        "held_log_count": copy.held_log_count,
        "log_disk_free_bytes": copy.log_disk_free_bytes,
        "last_inspected": str(copy.inspected) if copy.inspected else None,
        "last_replayed": str(copy.replayed) if copy.replayed else None,
        "facts": dict(copy.facts),
    }


def _pair(context: RunContext, alarms: list[Alarm]) -> PairStatus | None:
    try:
        return context.writer.pair()
    except BackupdError as error:
        alarms.append(of_error(context.database, "pair-away", error))
        return None


def _view(context: RunContext, alarms: list[Alarm]) -> ArchiveView | None:
    """What is remembered while the archive has the same names, else a fresh look; if it is away, what is remembered."""
    kept = remembered(context)
    try:
        known = record_names(context)
        if not known:
            return _gone(context, kept, alarms) if kept is not None and kept.names else None
        view = kept if kept is not None and kept.names == known else look(context)
    except BackupdError as error:
        alarms.append(of_archive(context.database, error))
        return kept
    alarms.extend(of_findings(context.database, view.findings))
    return view


def _of_drills(context: RunContext, view: ArchiveView | None, interval_seconds: float | None) -> Iterator[Alarm]:
    passed = view.last_passed_drill_at if view else None
    at = datetime.fromisoformat(passed) if passed else None
    return drill_alarms(context, view.last_drill if view else None, at, interval_seconds)


def _gone(context: RunContext, kept: ArchiveView, alarms: list[Alarm]) -> ArchiveView:
    """The archive answers, but holds nothing of what it held: an empty mount looks like this."""
    alarms.append(archive_emptied(context.database, len(kept.names), kept.seen_at.isoformat()))
    return kept


def _next_run(context: RunContext) -> dict[str, JsonValue] | None:
    slot = next_slot(context.policy.schedule_rules(), context.clock.now(), database=context.database)
    return None if slot is None else {"at": slot.at.isoformat(), "type": slot.task.value, "local": slot.local}
