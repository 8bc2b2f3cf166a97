"""Plans a backup: which type it becomes, which copy it reads, what it builds on, or which rule refuses it."""

from __future__ import annotations

from dataclasses import dataclass

from backupd.archive.tombs import doomed
from backupd.decide.backup_type import BackupChoice, RefuseBackup, decide_backup_type
from backupd.decide.lineage import lineage_of, stamps_seen_from
from backupd.decide.source_copy import RefuseSource, UseCopy, choose_source
from backupd.errors import BackupdError, ConfigInvalid, NotFound, NotHealthy, Refused
from backupd.journal.records import JsonValue
from backupd.model.pair import CopyRole, CopyState, PairStatus
from backupd.model.position import Position, rebase
from backupd.model.records import ArchivedBackup, BackupType, Stamps, StoredLog
from backupd.model.rules import SourceRule
from backupd.runs.archive_view import refuse_vanished
from backupd.runs.context import RunContext
from backupd.runs.fitness import unfit_backups

_POLL_SECONDS = 0.25
# A copy in one of these states gets well without help while replication runs.
_PASSING_STATES = frozenset({CopyState.INITIALIZING, CopyState.SEEDING, CopyState.MUST_SEED, CopyState.STOPPED})


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """What a backup run is going to do, and why.

    ``log_start`` is where an increment's log begins and None for a full or copy;
    ``archived_logs`` of it are in the archive already, and the copies give what comes
    after ``log_from``; ``last_stamp_end`` is where the last full or incremental ended,
    in this history or in one that it came from.
    """

    requested: BackupType
    type: BackupType
    source_copy: str
    source_role: str
    parent: ArchivedBackup | None
    log_start: Position | None
    last_stamp_end: Position | None
    notes: tuple[str, ...]
    archived_logs: tuple[StoredLog, ...] = ()
    log_from: Position | None = None

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``backup --dry-run --json`` shows."""
        return {
            "requested": self.requested.value,
            "type": self.type.value,
            "source_copy": self.source_copy,
            "source_role": self.source_role,
            "parent": self.parent.record.id if self.parent else None,
            "log_start": str(self.log_start) if self.log_start else None,
            "notes": list(self.notes),
        }


def plan_backup(context: RunContext, requested: BackupType, *, dry_run: bool = False) -> BackupPlan:
    """Judge the copies and the archive and decide; changes nothing.

    A ``dry_run`` neither waits for a copy nor makes an archive.

    Raises:
        NotHealthy: the passive is not fit to be read.
        Refused: a rule says no.
        ArchiveUnreachable: the archive cannot be read.
    """
    pair, source = _judge_source(context, requested, wait=not dry_run)
    context.writer.source_role = source.role
    backups, unfit = _archived(context, dry_run=dry_run)
    stamps = context.writer.stamps()
    lineage = lineage_of(pair.history, backups, pair.ancestry)
    answer = decide_backup_type(
        requested,
        stamps_seen_from(stamps, pair.history, pair.ancestry),
        lineage.backups,
        pair.history,
        unfit=unfit,
        oldest_held=_oldest_held(context, source),
        raise_to_full=context.policy.backup.raise_to_full,
        archived_log_counts=True,
        known_maps=context.page_maps.known(),
    )
    if isinstance(answer, RefuseBackup):
        raise Refused(
            f"no {requested} backup of {context.database} now",
            because="; ".join(str(reason) for reason in answer.reasons),
            next_step=f"backupctl status {context.database}",
            reasons=[reason.as_json() for reason in answer.reasons],
        )
    parent = lineage.as_stored(answer.parent) if answer.parent is not None else None
    log_start = parent.record.log_end if parent is not None and not answer.type.takes_pages else None
    archived_logs = lineage.logs_as_stored(answer.archived_logs)
    return BackupPlan(
        requested=requested,
        type=answer.type,
        source_copy=source.name,
        source_role=source.role.value,
        parent=parent,
        log_start=log_start,
        last_stamp_end=_stamp_end(stamps, pair),
        notes=_notes(answer, source),
        archived_logs=archived_logs,
        log_from=archived_logs[-1].log.end if archived_logs else log_start,
    )


def _oldest_held(context: RunContext, source: UseCopy) -> Position | None:
    """Where the passive's log begins; nobody needs it for what is read from the active, which takes pages."""
    return context.writer.truncation_evidence().passive_log_from if source.role is CopyRole.PASSIVE else None


def _notes(choice: BackupChoice, source: UseCopy) -> tuple[str, ...]:
    notes = [str(reason) for reason in (*choice.reasons, *source.reasons)]
    if choice.raised:
        notes.insert(0, f"raised from {choice.requested} to {choice.type}")
    return tuple(notes)


def _stamp_end(stamps: Stamps, pair: PairStatus) -> Position | None:
    """Where the last stamp ended, if that is on the way to where the copies are now."""
    last = stamps.last
    if last is None or pair.history is None:
        return None
    return last.end if rebase(last.end, pair.history, pair.ancestry) is not None else None


def _archived(context: RunContext, *, dry_run: bool) -> tuple[tuple[ArchivedBackup, ...], dict[str, str]]:
    refuse_vanished(context)
    try:
        archive = context.archive(create=not dry_run)
    except NotFound:
        return (), {}
    listing = archive.list()
    return listing.backups, unfit_backups(archive, listing) | doomed(archive)


def _judge_source(context: RunContext, requested: BackupType, *, wait: bool) -> tuple[PairStatus, UseCopy]:
    """Ask the rules until they name a copy or refuse; a copy that is only starting is given time.

    The wait is bounded by the policy: ``source.wait_seconds_max``, and for a copy
    that is being started or seeded at least ``prepare.timeout_seconds``.
    """
    began, asked_again, rules = context.clock.monotonic(), not wait, context.policy.source_rules()
    # What a real run would come to after its wait is what a dry run has to say.
    would_wait = 0.0 if wait or rules.rule is SourceRule.PASSIVE_ONLY else rules.wait_seconds_max
    while True:
        pair = context.writer.pair()
        waited = context.clock.monotonic() - began
        answer = choose_source(
            rules,
            pair,
            waited_seconds=waited + would_wait,
            active_possible=context.writer.active_can_stand_in and requested.takes_pages,
        )
        if isinstance(answer, UseCopy) and not _only_slow(context, pair, answer):
            return pair, answer
        if pair.passive.seen_at is None and not asked_again:
            asked_again = True
            if _answers(context):
                continue
        passing = pair.passive.state in _PASSING_STATES and waited < context.policy.prepare.timeout_seconds
        slow_too_long = waited > rules.wait_seconds_max + context.policy.prepare.timeout_seconds
        if not wait or slow_too_long or (isinstance(answer, RefuseSource) and not passing):
            raise _unfit(context.database, pair, "; ".join(str(reason) for reason in answer.reasons))
        context.tell(f"waiting for the passive copy, which {pair.passive.state.says}", state="waiting")
        context.clock.sleep(_POLL_SECONDS)


def _only_slow(context: RunContext, pair: PairStatus, answer: UseCopy) -> bool:
    """Whether the active would stand in for a passive that answers, to one who waits longer: no reason to read it."""
    return answer.role is CopyRole.ACTIVE and pair.passive.seen_at is None and _answers(context)


def _answers(context: RunContext) -> bool:
    """Whether copies that were silent for a moment, as on a busy host, answer one who waits longer.

    Raises:
        ConfigInvalid: they do, and the policy or a right is wrong.
    """
    try:
        context.writer.truncation_evidence()
    except ConfigInvalid:
        raise
    except BackupdError:
        return False
    return True


def _unfit(database: str, pair: PairStatus, because: str) -> BackupdError:
    state = pair.passive.state
    if state is CopyState.HEALTHY:
        return Refused(
            f"no copy of {database} may be backed up now",
            because=because,
            next_step=f"backupctl status {database}",
        )
    cures = {
        CopyState.SUSPENDED: f"backupctl copy resume {database}",
        CopyState.SUSPECT: f"backupctl copy seed {database}",
        CopyState.FAILED: f"put that right, or make the copy anew: backupctl copy seed {database}",
        CopyState.MUST_SEED: f"backupctl copy seed {database}",
        CopyState.RESTORING: "backupctl recover",
    }
    return NotHealthy(
        f"the passive copy of {database} {state.says}",
        because=because or pair.passive.because or "only a healthy passive is backed up",
        next_step=cures.get(state, f"backupctl check {database}"),
    )
