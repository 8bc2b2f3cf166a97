"""Backups as rows and whole: what ``backup``, ``list`` and ``show`` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.archive.coverage import coverage_of
from backupd.archive.record import record_to_json
from backupd.errors import NotFound
from backupd.journal.records import JsonValue, Run, RunKind, TruncationNote
from backupd.model.records import BackupRecord
from backupd.model.states import RunState
from backupd.runs.fitness import unfit_backups, verdicts_by_backup

if TYPE_CHECKING:
    from backupd.runs.context import RunContext

_NOT_TRUNCATED: dict[str, JsonValue] = {"state": "none", "before": None, "blocked_by": []}


def backup_json(record: BackupRecord, state: str, truncation: TruncationNote | None) -> dict[str, JsonValue]:
    """One backup with the keys that scripts rely on."""
    return {
        "id": record.id,
        "database": record.database,
        "type": record.type.value,
        "state": state,
        "source_copy": record.source_copy,
        "source_role": record.source_role,
        "started_at": record.started_at.isoformat(),
        "finished_at": record.finished_at.isoformat(),
        "log_start": str(record.log_start),
        "log_end": str(record.log_end),
        "frozen_seconds": record.frozen_seconds,
        "read_bytes": record.read_bytes,
        "stored_bytes": record.stored_bytes,
        "checked_pages": record.checked_pages,
        "policy_commit": record.policy_commit,
        "truncation": truncation_json(truncation),
        "provider": record.provider,
    }


def truncation_json(note: TruncationNote | None) -> dict[str, JsonValue]:
    """How the truncation after a backup went; state ``none`` when the backup's type truncates nothing."""
    if note is None:
        return dict(_NOT_TRUNCATED)
    return {
        "state": note.state,
        "before": str(note.before) if note.before is not None else None,
        "blocked_by": list(note.blocked_by),
    }


def list_backups(context: RunContext) -> list[dict[str, JsonValue]]:
    """Every backup that the archive lists, oldest first; none is not an error. Raises ArchiveUnreachable."""
    try:
        archive = context.archive()
    except NotFound:
        return []
    listing = archive.list()
    unfit = unfit_backups(archive, listing)
    rows = []
    for backup in listing.backups:
        state = _state(context, backup.record.id, unfit)
        rows.append(backup_json(backup.record, state, context.journal.truncation(backup.record.id)))
    return rows


def show_backup(context: RunContext, backup_id: str) -> dict[str, JsonValue]:
    """One backup, whole: its row, its record, the diary of its run here, and the verdicts about it.

    Raises:
        NotFound: the archive does not list it.
        DamageFound: its record is damaged.
    """
    archive = context.archive()
    found = archive.get(backup_id)
    listing = archive.list()
    record = listing.by_id().get(backup_id, found).record  # of a bare full without the log that was let go
    verdicts = verdicts_by_backup(archive)
    state = _state(context, backup_id, unfit_backups(archive, listing, verdicts))
    row = backup_json(record, state, context.journal.truncation(backup_id))
    run = context.journal.run_of_label(backup_id)
    diary: list[JsonValue] = []
    if run is not None:
        diary = [
            {"at": entry.at.isoformat(), "event": entry.event, "state": entry.to_state, "says": entry.says}
            for entry in context.journal.transitions(run.id)
        ]
    said: list[JsonValue] = [
        {
            "kind": verdict.kind,
            "level": str(verdict.level),
            "at": verdict.at.isoformat(),
            "sound": verdict.sound,
            "findings": list(verdict.findings),
            "whole": verdict.whole,
            "read": None if verdict.read is None else dict(verdict.read),
            "read_bytes": verdict.read_bytes,
            "seconds": round(verdict.seconds, 3),
            "drill": None if verdict.drill is None else verdict.drill.to_json(),
        }
        for verdict in verdicts.get(backup_id, ())
    ]
    verified: dict[str, JsonValue] = dict(coverage_of(listing.backups, verdicts).share_of([found]).to_json())
    whole: dict[str, JsonValue] = record_to_json(record)
    row |= {"notes": list(record.notes), "record": whole, "history": diary, "verdicts": said, "verified": verified}
    return row


def failed_runs(context: RunContext, limit: int = 20) -> list[dict[str, JsonValue]]:
    """Backup runs that left no backup, newest first, each with the sentence of its end."""
    ended = {RunState.REFUSED, RunState.ABORTED, RunState.FAILED}
    runs = [run for run in context.journal.runs(context.database, RunKind.BACKUP) if run.state in ended]
    return [_failed(context, run) for run in runs[:limit]]


def _failed(context: RunContext, run: Run) -> dict[str, JsonValue]:
    diary = context.journal.transitions(run.id)
    because = run.facts.get("because")
    return {
        "run": run.id,
        "type": run.type,
        "state": run.state.value,
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "because": because if isinstance(because, str) else (diary[-1].says if diary else ""),
    }


def _state(context: RunContext, backup_id: str, unfit: dict[str, str]) -> str:
    """``complete``, ``pending`` (its stamp is late) or ``damaged`` (a verdict said so)."""
    if backup_id in unfit:
        return "damaged"
    run = context.journal.run_of_label(backup_id)
    if run is None or run.state in {RunState.COMPLETE, RunState.STAMPED}:
        return RunState.COMPLETE.value
    return RunState.PENDING.value
