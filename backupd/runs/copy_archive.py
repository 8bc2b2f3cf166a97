"""Copies backups to the policy's second archive and verifies them there: by hand, or after every backup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from backupd.archive.replica import make_replica
from backupd.archive.replicate import Copied, Replicator, ToCopy, to_copy
from backupd.errors import BackupdError, DamageFound, NotFound
from backupd.journal.records import JsonValue, RunKind, TruncationNote
from backupd.model.amounts import size_text
from backupd.model.records import ArchivedBackup, BackupRecord
from backupd.model.states import RunState
from backupd.runs.archive_view import refuse_vanished, remember_quietly
from backupd.runs.context import RunContext
from backupd.runs.one_run import one_run
from backupd.runs.recover import recover_under_lease
from backupd.runs.second_archive import CopyQueue, copy_queue, second_of, settle_second, wants_both
from backupd.runs.truncate import truncate_after_backup


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What would be copied from where to where; ``stuck`` cannot be, by id with the reason."""

    database: str
    first: str
    second: str
    items: tuple[ToCopy, ...]
    stuck: tuple[tuple[str, str], ...]

    @property
    def missing_bytes(self) -> int:
        """What would go over."""
        return sum(item.missing_bytes for item in self.items)

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``copy-archive --dry-run --json`` shows."""
        return {
            "database": self.database,
            "from": self.first,
            "to": self.second,
            "backups": [
                {
                    "id": item.backup.record.id,
                    "type": item.backup.record.type.value,
                    "missing_objects": item.missing_objects,
                    "missing_bytes": item.missing_bytes,
                    "there_bytes": item.there_bytes,
                }
                for item in self.items
            ],
            "missing_bytes": self.missing_bytes,
            "stuck": [{"id": id_, "because": because} for id_, because in self.stuck],
        }


@dataclass(frozen=True, slots=True)
class CopyOutcome:
    """What was copied and verified at the second archive; ``failed`` was not, by id with its damage."""

    plan: CopyPlan
    copied: tuple[Copied, ...] = ()
    failed: tuple[tuple[str, DamageFound], ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def copied_bytes(self) -> int:
        """What went over."""
        return sum(one.copied_bytes for one in self.copied)

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``copy-archive --json`` shows."""
        return {
            **self.plan.to_json(),
            "copied": [
                {
                    "id": one.backup_id,
                    "copied_objects": one.copied_objects,
                    "copied_bytes": one.copied_bytes,
                    "kept_bytes": one.kept_bytes,
                    "verified_bytes": one.verified_bytes,
                }
                for one in self.copied
            ],
            "copied_bytes": self.copied_bytes,
            "failed": [{"id": id_, "because": f"{harm.problem}: {harm.because}"} for id_, harm in self.failed],
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def run_copy_archive(context: RunContext, ids: Sequence[str] = (), *, dry_run: bool = False) -> CopyOutcome:
    """Copy what the second archive lacks, or the named backups with what they build on.

    Promise: a backup is listed there only when every object of it was read back
    there from the medium; an interrupted copy is gone on with by the next one, and
    what is there already does not go over again.  A backup that is damaged is
    named and left out, with what builds on it; the others are copied.

    Args:
        context: the database.
        ids: backups to copy; one that is there already is looked through once more.
        dry_run: only plan.

    Raises:
        ConfigInvalid: the policy names no second archive.
        NotFound: nothing was ever backed up, or there is no backup of that id.
        Busy: another run works on the database, or a deletion in the second archive.
        Refused: another archive is at the second place.
        ArchiveUnreachable: one of the two cannot be reached now.
    """
    second_of(context)
    if dry_run:
        return CopyOutcome(plan_copies(context, ids))
    with one_run(context, f"copy of {context.database} to its second archive"):
        return _copy(context, ids, recover_under_lease(context))


def truncate_and_copy(context: RunContext, record: BackupRecord) -> tuple[TruncationNote | None, tuple[str, ...]]:
    """At the end of a backup: copy it to the second archive, and let log go.

    The copy comes first only where both archives must hold a backup before its log
    goes; neither ever fails the backup, and what did not work is told in the notes.
    """
    first = copy_after_backup(context) if wants_both(context) else None
    truncation = truncate_after_backup(context, record.id) if record.type.moves_stamp else None
    return truncation, copy_after_backup(context) if first is None else first


def copy_after_backup(context: RunContext) -> tuple[str, ...]:
    """Copy all that waits; answers with sentences. The caller holds the lease. Never raises for what the world did."""
    if context.second is None:
        return ()
    try:
        outcome = _copy(context, (), ())
    except BackupdError as error:
        again = f"backupctl copy-archive {context.database}"
        return (f"not copied to the second archive: {error.problem} ({error.because}); again with {again}",)
    failed = [f"{id_} was not copied to the second archive: {harm.because}" for id_, harm in outcome.failed]
    count, size = len(outcome.copied), size_text(outcome.copied_bytes)
    what = f"{count} backup{'s' if count != 1 else ''}, {size}, copied to the second archive and verified there"
    return (*outcome.notes, *([what] if count else []), *failed)


def plan_copies(context: RunContext, ids: Sequence[str] = ()) -> CopyPlan:
    """Read both archives and say what would be copied; changes nothing. Raises as ``run_copy_archive``."""
    queue = copy_queue(context)
    for id_ in ids:
        context.archive().get(id_)
    backups = _chosen(queue, ids) if ids else queue.waiting
    return CopyPlan(
        context.database,
        context.policy.archive,
        second_of(context).policy.archive,
        to_copy(queue.replica, backups),
        tuple((id_, because) for id_, because in queue.stuck.items() if not ids or id_ in ids),
    )


def _chosen(queue: CopyQueue, ids: Sequence[str]) -> tuple[ArchivedBackup, ...]:
    """The named backups, and before each what it builds on and is not there yet."""
    known = queue.listing.by_id()
    chosen = set(ids)
    for id_ in ids:
        parent = known[id_].record.parent if id_ in known else None
        while parent is not None and parent in known and parent not in queue.there:
            chosen.add(parent)
            parent = known[parent].record.parent
    return tuple(backup for backup in queue.listing.backups if backup.record.id in chosen - set(queue.stuck))


def _copy(context: RunContext, ids: Sequence[str], notes: tuple[str, ...]) -> CopyOutcome:
    """One copying run with its entry in the journal; the caller holds the lease."""
    second = second_of(context)
    facts: dict[str, JsonValue] = {"to": second.policy.archive}
    run = context.journal.begin_run(database=context.database, kind=RunKind.COPY_ARCHIVE, facts=facts)
    began = context.clock.monotonic()
    try:
        outcome = _carry_out(context, ids, notes)
    except BaseException as error:
        says = f"{error.problem} ({error.because})" if isinstance(error, BackupdError) else type(error).__name__
        context.journal.finish(run.id, RunState.FAILED, says, because=says)
        raise
    finally:
        remember_quietly(second)
    if outcome.failed:
        id_, harm = outcome.failed[0]
        says = f"{id_} was not copied: {harm.because}"
        context.journal.finish(run.id, RunState.FAILED, says, because=says)
    else:
        says = f"{len(outcome.copied)} backups copied"
        context.journal.finish(run.id, RunState.COMPLETE, says, copied_bytes=outcome.copied_bytes)
    return replace(outcome, seconds=context.clock.monotonic() - began)


def _carry_out(context: RunContext, ids: Sequence[str], notes: tuple[str, ...]) -> CopyOutcome:
    second = second_of(context)
    refuse_vanished(second)
    target = make_replica(context.archive(), second.probe_store())
    target.lock_days = second.policy.s3.object_lock_days
    notes = (*notes, *settle_second(context))
    plan = plan_copies(context, ids)
    replicator = Replicator(context.archive(), target, threads=context.policy.archive_options.threads)
    copied: list[Copied] = []
    failed: dict[str, DamageFound] = {}
    for item in plan.items:
        id_, parent = item.backup.record.id, item.backup.record.parent
        total = item.missing_bytes + item.there_bytes
        if parent in failed:
            failed[id_] = _left_out(id_, parent, failed[parent])
            continue
        try:
            copied.append(replicator.copy(item.backup, _teller(context, id_, total)))
        except DamageFound as harm:
            failed[id_] = harm
        except NotFound:
            notes = (*notes, f"{id_} is not copied: it was pruned from the first archive meanwhile")
    return CopyOutcome(plan, tuple(copied), tuple(failed.items()), notes)


def _teller(context: RunContext, id_: str, total_bytes: int) -> Callable[[int], None]:
    return lambda done_bytes: context.tell(f"copying {id_}", done_bytes, total_bytes)


def _left_out(id_: str, parent: str, harm: DamageFound) -> DamageFound:
    return DamageFound(
        f"the backup {id_} cannot be copied",
        because=f"it builds on {parent}, which was not copied: {harm.because}",
        next_step=harm.next_step,
        **harm.details,
    )
