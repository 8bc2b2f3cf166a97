"""How a database is doing, in one JSON value: copies, last backups, recovery window, alarms."""

from __future__ import annotations

from collections.abc import Sequence

from backupd.archive import names
from backupd.archive.lease import is_gone
from backupd.archive.term_objects import newest_term
from backupd.decide.schedule import next_slot
from backupd.errors import BackupdError
from backupd.journal.records import JsonValue, RunKind
from backupd.model.amounts import size_text
from backupd.model.pair import CopyState, CopyStatus, PairStatus
from backupd.model.states import RunState
from backupd.runs.archive_view import ArchiveView, look, record_names, remembered
from backupd.runs.context import RunContext
from backupd.runs.rolled_back import rolled_back
from backupd.runs.schedule_view import expected_intervals
from backupd.runs.second_status import second_status

_SAYS_NOTHING = frozenset({RunState.REFUSED, RunState.ABORTED})


def status_json(databases: Sequence[dict[str, JsonValue]]) -> dict[str, JsonValue]:
    """The whole answer of ``status --json``."""
    return {"databases": list(databases)}


def status_of(context: RunContext) -> dict[str, JsonValue]:
    """One database, seen now.  Never raises for what the world did: that becomes an alarm."""
    alarms: list[str] = []
    pair = _pair(context, alarms)
    view = _view(context, alarms)
    copies: list[JsonValue] = [copy_json(copy) for copy in pair.copies] if pair else []
    if pair is not None:
        alarms.extend(pair.alarms)
        alarms.extend(_copy_alarms(context, pair))
    second = second_status(context, alarms)
    holds: list[JsonValue] = []
    try:
        holds.extend(_holds(context))
        alarms.extend(_backup_alarms(context, view))
    except BackupdError as error:
        alarms.append(f"{error.problem}: {error.because}")
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
        "archive_seen_at": view.seen_at.isoformat() if view else None,
        "second_archive": second,
        "held_log_bytes_warn": context.policy.truncation.held_log_bytes_warn,
        "expected_interval_seconds": dict(expected_intervals(context)),
        "next_run": _next_run(context),
        "running": _running(context),
        "holds": holds,
        "alarms": list(dict.fromkeys(alarms)),
    }


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
        "last_inspected": str(copy.inspected) if copy.inspected else None,
        "last_replayed": str(copy.replayed) if copy.replayed else None,
        "facts": dict(copy.facts),
    }


def _pair(context: RunContext, alarms: list[str]) -> PairStatus | None:
    try:
        return context.writer.pair()
    except BackupdError as error:
        alarms.append(f"{error.problem}: {error.because}")
        return None


def _view(context: RunContext, alarms: list[str]) -> ArchiveView | None:
    """What is remembered while the archive has the same names, else a fresh look; if it is away, what is remembered."""
    kept = remembered(context)
    try:
        known = record_names(context)
        if not known:
            return _gone(kept, alarms) if kept is not None and kept.names else None
        view = kept if kept is not None and kept.names == known else look(context)
    except BackupdError as error:
        alarms.append(f"the archive: {error.problem} ({error.because})")
        return kept
    alarms.extend(view.findings)
    return view


def _gone(kept: ArchiveView, alarms: list[str]) -> ArchiveView:
    """The archive answers, but holds nothing of what it held: an empty mount looks like this."""
    alarms.append(f"the archive is empty now; it held {len(kept.names)} records at {kept.seen_at.isoformat()}")
    return kept


def _copy_alarms(context: RunContext, pair: PairStatus) -> list[str]:
    alarms = []
    for copy in pair.copies:
        if copy.state is not CopyState.HEALTHY and not pair.alarms:
            because = f": {copy.because}" if copy.because else ""
            alarms.append(f"the {copy.role} copy {copy.name} {copy.state.says}{because}")
        warn = context.policy.truncation.held_log_bytes_warn
        if warn and copy.held_log_bytes >= warn:
            alarms.append(
                f"the {copy.role} copy {copy.name} holds {size_text(copy.held_log_bytes)} of log "
                f"(warning at {size_text(warn)}); "
                f"the blocker: {_blocker(context)}"
            )
    return alarms


def _blocker(context: RunContext) -> str:
    """What kept the log the last time that truncation was tried."""
    for run in context.journal.runs(context.database, RunKind.BACKUP, limit=20):
        note = context.journal.truncation(run.label) if run.label else None
        if note is not None and note.blocked_by:
            return note.blocked_by[0]
        if note is not None:
            break
    return f"see backupctl explain truncation {context.database}"


def _backup_alarms(context: RunContext, view: ArchiveView | None) -> list[str]:
    alarms = []
    if view is None or view.last_full is None:
        alarms.append(f"there is no full backup yet: backupctl backup {context.database} --type full")
    if view is not None:
        alarms.extend(rolled_back(context, view.record_ids()))
    pending = context.journal.runs(context.database, RunKind.BACKUP, RunState.PENDING)
    alarms.extend(f"backup {run.label} waits for its stamp to be seen on the passive" for run in pending)
    for run in context.journal.runs(context.database, RunKind.BACKUP, limit=20):
        if run.state in _SAYS_NOTHING:
            continue
        if run.state is RunState.FAILED:
            because = run.facts.get("because")
            said = f": {because}" if isinstance(because, str) else ""
            alarms.append(f"the last backup, {run.label or run.id}, failed{said}")
        break
    dead = context.journal.abandoned(context.database)
    if dead:
        what = "a run died and is" if len(dead) == 1 else f"{len(dead)} runs died and are"
        alarms.append(f"{what} not ended yet: backupctl recover")
    return alarms


def _next_run(context: RunContext) -> dict[str, JsonValue] | None:
    slot = next_slot(context.policy.schedule_rules(), context.clock.now(), database=context.database)
    return None if slot is None else {"at": slot.at.isoformat(), "type": slot.task.value, "local": slot.local}
