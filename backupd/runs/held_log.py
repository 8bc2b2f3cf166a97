"""Guards the copies' disks: measures held log against its budget, and remembers how much it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from backupd.decide.log_guard import NOT_ARCHIVED, WARNING_SHARE, GuardLevel, GuardVerdict, LogSample, guard_log
from backupd.decide.reasons import Reason
from backupd.durable import read_json, write_json
from backupd.errors import BackupdError
from backupd.journal.records import JsonValue, RunKind
from backupd.model.alarm import Alarm, Severity
from backupd.model.pair import CopyState, CopyStatus, PairStatus
from backupd.runs.context import RunContext

SAMPLES_MAX = 240
SAMPLE_SECONDS_MIN = 30.0
_NOTHING_TO_REMOVE = "nothing to remove:"


def guard_verdicts(context: RunContext, pair: PairStatus) -> dict[str, GuardVerdict]:
    """Each copy's verdict, by its name. Raises NotHealthy: the journal cannot be read."""
    remembered = samples_of(context)
    budget = budget_bytes(context)
    blockers = _blockers(context, pair) if any(copy.held_log_bytes for copy in pair.copies) else ()
    verdicts = {}
    for copy in pair.copies:
        now = LogSample(context.clock.now(), copy.held_log_bytes, copy.log_disk_free_bytes)
        samples = [*(one for one in remembered.get(copy.name, ()) if one.at < now.at), now]
        what = f"the {copy.role} copy {copy.name}"
        verdicts[copy.name] = guard_log(what, samples, budget_bytes=budget, blockers=blockers)
    return verdicts


def budget_bytes(context: RunContext) -> int:
    """The policy's budget; a policy that only says when to warn gets the one that this is the warning share of."""
    options = context.policy.truncation
    if options.held_log_budget is not None:
        return options.held_log_budget
    return int(options.held_log_bytes_warn / WARNING_SHARE)


def held_log_alarms(database: str, verdicts: Mapping[str, GuardVerdict]) -> Iterator[Alarm]:
    """An alarm for each copy whose log is near its budget."""
    for name, verdict in verdicts.items():
        if verdict.level is GuardLevel.NONE:
            continue
        severity = Severity.CRITICAL if verdict.level is GuardLevel.CRITICAL else Severity.WARNING
        helps = f"backupctl explain truncation {database}"
        if verdict.incremental_helps:
            helps = f"backupctl backup {database} --type incremental"
        yield Alarm(database, "held-log", verdict.sentence, name, severity, helps)


def guard_json(verdicts: Mapping[str, GuardVerdict]) -> dict[str, JsonValue]:
    """The guard as ``status --json`` shows it, by copy."""
    return {
        name: {
            "level": verdict.level.value,
            "budget_bytes": verdict.budget_bytes,
            "share": round(verdict.share, 4),
            "growth_bytes_per_second": verdict.growth_bytes_per_second,
            "budget_full_at": _iso(verdict.budget_full_at),
            "disk_full_at": _iso(verdict.disk_full_at),
            "incremental_helps": verdict.incremental_helps,
        }
        for name, verdict in verdicts.items()
    }


def remember_held_log(context: RunContext, copies: Iterable[CopyStatus | Mapping[str, Any]]) -> None:
    """Add a sample of each copy to those that are kept, so that a restart does not forget the rate.

    Only the service does so, for one process writes the file; a full disk is no error here.

    Args:
        context: the database.
        copies: as the writer says them, or as ``status_of`` answers them.
    """
    now, kept, changed = context.clock.now(), samples_of(context), False
    for copy in copies:
        name, held, free = _measured(copy)
        samples = kept.setdefault(name, [])
        if samples and 0 <= (now - samples[-1].at).total_seconds() < SAMPLE_SECONDS_MIN:
            continue
        samples.append(LogSample(now, held, free))
        del samples[:-SAMPLES_MAX]
        changed = True
    if changed:
        value = {
            name: [[one.at.isoformat(), one.held_bytes, one.free_bytes] for one in samples]
            for name, samples in kept.items()
        }
        with suppress(BackupdError):
            write_json(_place(context), {"copies": value}, durable=False)


def samples_of(context: RunContext) -> dict[str, list[LogSample]]:
    """What is remembered, oldest first, by the copy's name; what cannot be understood is forgotten."""
    found = read_json(_place(context)) or {}
    copies = found.get("copies")
    try:
        return {
            str(name): [LogSample(datetime.fromisoformat(at), int(held), free) for at, held, free in samples]
            for name, samples in (copies if isinstance(copies, dict) else {}).items()
        }
    except (TypeError, ValueError):
        return {}


def _measured(copy: CopyStatus | Mapping[str, Any]) -> tuple[str, int, int | None]:
    if isinstance(copy, CopyStatus):
        return copy.name, copy.held_log_bytes, copy.log_disk_free_bytes
    return str(copy["name"]), int(copy["held_log_bytes"]), copy.get("log_disk_free_bytes")


def _blockers(context: RunContext, pair: PairStatus) -> tuple[Reason, ...]:
    """What keeps the log now, as far as a quick look can tell; the last truncation knows the rest."""
    found = []
    if not context.policy.truncation.enabled:
        found.append(Reason("disabled", "the policy has truncation switched off"))
    passive = pair.passive
    if passive.state is not CopyState.HEALTHY:
        because = f": {passive.because}" if passive.because else ""
        found.append(Reason("passive", f"the passive copy {passive.name} {passive.state.says}{because}"))
    found.extend(
        Reason("hold", f"{hold.holder} holds the log ({hold.reason}) from {hold.needs_from}")
        for hold in context.journal.holds(context.database)
    )
    return (*found, *(one for one in _last_truncation(context) if not found or one.code != NOT_ARCHIVED))


def _last_truncation(context: RunContext) -> tuple[Reason, ...]:
    for run in context.journal.runs(context.database, RunKind.BACKUP, limit=20):
        note = context.journal.truncation(run.label) if run.label else None
        if note is None:
            continue
        waits = [one for one in note.blocked_by if not one.startswith(_NOTHING_TO_REMOVE)]
        if waits:
            return tuple(Reason("truncation", one) for one in waits)
        return (Reason(NOT_ARCHIVED, f"the archive does not hold yet what was written since backup {run.label}"),)
    return (Reason("no-backup", f"see backupctl explain truncation {context.database}"),)


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _place(context: RunContext) -> Path:
    return context.state_dir / "held-log.json"
