"""Carries out what the one pure function decides about the log, and reads back what happened."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backupd.decide.chains import archived_end, archived_offsets
from backupd.decide.lineage import lineage_of, seen_from, stamps_seen_from
from backupd.decide.truncation import KeepLog, LogEvidence, TruncateBefore, decide_truncation
from backupd.errors import BackupdError, NotFound
from backupd.journal.records import JsonValue, RunKind, TruncationNote
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup, Hold
from backupd.model.states import RunState
from backupd.ports import TruncationEvidence
from backupd.runs.context import RunContext
from backupd.runs.fitness import unfit_backups
from backupd.runs.one_run import one_run
from backupd.runs.recover import recover_under_lease
from backupd.runs.second_archive import second_end


@dataclass(frozen=True, slots=True)
class TruncationOutcome:
    """What was decided about the log, why, and what was removed."""

    state: str
    before: Position | None
    blocked_by: tuple[str, ...]
    reasons: tuple[str, ...]
    evidence: dict[str, JsonValue]
    removed_logs: int = 0
    removed_bytes: int = 0

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``truncate --json`` and ``explain truncation --json`` show."""
        return {
            "state": self.state,
            "before": str(self.before) if self.before else None,
            "blocked_by": list(self.blocked_by),
            "reasons": list(self.reasons),
            "evidence": self.evidence,
            "removed_logs": self.removed_logs,
            "removed_bytes": self.removed_bytes,
        }


def explain_truncation(context: RunContext) -> TruncationOutcome:
    """The evidence as it is now, and what would be decided from it; changes nothing."""
    try:
        evidence = gather_evidence(context)
    except BackupdError as error:
        return _deferred(error)
    return _as_outcome(evidence, decide_truncation(evidence))


def run_truncate(context: RunContext, *, dry_run: bool = False) -> TruncationOutcome:
    """Remove log that is safely archived, from both copies, oldest first.

    Raises:
        Busy: another run works on the database.
        ArchiveUnreachable: the archive cannot be read, so nothing may go.
    """
    if dry_run:
        return explain_truncation(context)
    with one_run(context, f"truncation of {context.database}"):
        recover_under_lease(context)
        run = context.journal.begin_run(database=context.database, kind=RunKind.TRUNCATE)
        try:
            with context.writer.replication():
                outcome = _truncate(context)
        except BaseException as error:
            context.journal.finish(run.id, RunState.FAILED, f"{type(error).__name__}: {error}")
            raise
        context.journal.finish(run.id, RunState.COMPLETE, f"log {outcome.state}", **_facts(outcome))
        backup = _last_backup(context)
        if backup is not None:
            _record(context, backup[0], outcome)
        return outcome


def truncate_after_backup(context: RunContext, label: str) -> TruncationNote:
    """Truncate at the end of a backup's run; a failure is recorded as deferred and never fails the backup."""
    try:
        outcome = _truncate(context)
    except BackupdError as error:
        outcome = _deferred(error)
    note = _note(context, label, outcome)
    try:
        context.journal.record_truncation(note)
    except BackupdError as error:
        return TruncationNote(label, note.database, "deferred", note.before, (error.problem,), note.at)
    return note


def gather_evidence(context: RunContext) -> LogEvidence:
    """Ask the copies, the journal and the archive itself; nothing is taken from memory.

    A hold stands for the next incremental too: it needs the log after the last
    stamp, however far a differential has archived it.
    """
    unfit: dict[str, str] = {}
    backups: tuple[ArchivedBackup, ...] = ()
    try:
        archive = context.archive()
        listing = archive.list()
        backups, unfit = listing.backups, unfit_backups(archive, listing)
    except NotFound:
        pass  # nothing was ever backed up; the decision says so
    # The copies last: their answer must not be old when it is used.
    copies = context.writer.truncation_evidence()
    seen = lineage_of(copies.history, backups, copies.ancestry).backups
    second, second_offsets = second_end(context, backups, copies)
    offsets = archived_offsets(seen, unfit)
    if second is not None:  # of an ended history too, only what both hold may go
        offsets = {history: min(end, second_offsets.get(history, 0)) for history, end in offsets.items()}
    last = _last_backup(context)
    age = (context.clock.now() - copies.seen_at).total_seconds()
    return LogEvidence(
        database=context.database,
        enabled=context.policy.truncation.enabled,
        history=copies.history,
        oldest_held=copies.oldest_held,
        archive_end=archived_end(seen, copies.history, frozenset(unfit)),
        last_backup=last[0] if last else None,
        last_backup_state=last[1] if last else None,
        passive_state=copies.passive_state,
        passive_because=copies.passive_because,
        passive_replayed=copies.passive_replayed,
        passive_checkpointed=copies.passive_checkpointed,
        active_checkpointed=copies.active_checkpointed,
        holds=_holds(context, copies),
        age_seconds=age,
        age_seconds_max=context.policy.truncation.evidence_age_seconds_max,
        archived_ended={history: end for history, end in offsets.items() if history != copies.history},
        second=second,
    )


def _holds(context: RunContext, copies: TruncationEvidence) -> tuple[Hold, ...]:
    """All holds, in the coordinates of the history that the copies are in."""
    found = list(context.journal.holds(context.database))
    if copies.history is None:
        return tuple(found)
    last = stamps_seen_from(context.writer.stamps(), copies.history, copies.ancestry).last
    if last is not None and last.end.history == copies.history:
        reason = "it begins at the last stamp"
        found.append(Hold("the next incremental", context.database, last.end, reason, last.at))
    return tuple(
        replace(hold, needs_from=seen_from(hold.needs_from, copies.history, copies.ancestry)) for hold in found
    )


def _last_backup(context: RunContext) -> tuple[str, RunState] | None:
    """The newest backup run that got as far as touching anything: its backup's id and its state.

    A refused or aborted run says nothing about what the archive holds.
    """
    for run in context.journal.runs(context.database, RunKind.BACKUP, limit=50):
        if run.state not in {RunState.REFUSED, RunState.ABORTED}:
            return run.label or run.id, run.state
    return None


def _truncate(context: RunContext) -> TruncationOutcome:
    evidence = gather_evidence(context)
    decision = decide_truncation(evidence)
    outcome = _as_outcome(evidence, decision)
    if isinstance(decision, KeepLog):
        return outcome
    context.still_ours()
    removed = context.writer.truncate(decision.position, evidence.archived_ended)
    facts = {**outcome.evidence, "oldest_held_afterwards": str(removed.oldest_held) if removed.oldest_held else None}
    return TruncationOutcome(
        state="truncated",
        before=decision.position,
        blocked_by=(),
        reasons=(*outcome.reasons, *removed.kept),
        evidence=facts,
        removed_logs=removed.removed_logs,
        removed_bytes=removed.removed_bytes,
    )


def _as_outcome(evidence: LogEvidence, decision: TruncateBefore | KeepLog) -> TruncationOutcome:
    facts = evidence_json(evidence)
    reasons = tuple(str(reason) for reason in decision.reasons)
    if isinstance(decision, TruncateBefore):
        return TruncationOutcome("would truncate", decision.position, (), reasons, facts)
    blocked = tuple(f"{reason.code}: {reason.sentence}" for reason in decision.reasons)
    return TruncationOutcome("kept", None, blocked, reasons, facts)


def _deferred(error: BackupdError) -> TruncationOutcome:
    because = f"{error.problem}: {error.because}"
    return TruncationOutcome("deferred", None, (because,), (because,), {})


def evidence_json(evidence: LogEvidence) -> dict[str, JsonValue]:
    """The evidence as ``explain truncation`` prints it; positions as text, unknown as null."""

    def text(position: Position | None) -> str | None:
        return str(position) if position is not None else None

    return {
        "enabled": evidence.enabled,
        "history": evidence.history,
        "oldest_held": text(evidence.oldest_held),
        "archive_end": text(evidence.archive_end),
        "last_backup": evidence.last_backup,
        "last_backup_state": evidence.last_backup_state.value if evidence.last_backup_state else None,
        "passive_state": str(evidence.passive_state),
        "passive_because": evidence.passive_because,
        "passive_replayed": text(evidence.passive_replayed),
        "passive_checkpointed": text(evidence.passive_checkpointed),
        "active_checkpointed": text(evidence.active_checkpointed),
        "holds": [
            {"holder": hold.holder, "needs_from": str(hold.needs_from), "reason": hold.reason}
            for hold in evidence.holds
        ],
        "second_archive": {
            "place": evidence.second.place,
            "end": text(evidence.second.end),
            "lacks": list(evidence.second.lacks),
            "because": evidence.second.because,
        }
        if evidence.second is not None
        else None,
        "age_seconds": round(evidence.age_seconds, 3),
        "age_seconds_max": evidence.age_seconds_max,
    }


def _facts(outcome: TruncationOutcome) -> dict[str, JsonValue]:
    return {"removed_logs": outcome.removed_logs, "removed_bytes": outcome.removed_bytes}


def _note(context: RunContext, label: str, outcome: TruncationOutcome) -> TruncationNote:
    return TruncationNote(
        label, context.database, outcome.state, outcome.before, outcome.blocked_by, context.clock.now(), _facts(outcome)
    )


def _record(context: RunContext, label: str, outcome: TruncationOutcome) -> None:
    """Note it with the backup; that its log went is not unsaid by a later try that finds nothing more."""
    noted = context.journal.truncation(label)
    if noted is not None and noted.state == "truncated" and outcome.state != "truncated":
        return
    context.journal.record_truncation(_note(context, label, outcome))
