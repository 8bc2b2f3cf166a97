"""Removes backups that the retention no longer wants: planned, shown, then carried out, newest dependents first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backupd.archive import names
from backupd.decide.drill import last_proven
from backupd.decide.retention import (
    DROP_BESIDES_ONE_CHAIN,
    DROP_SHARE_MAX,
    Dropped,
    Kept,
    RetentionPlan,
    plan_retention,
)
from backupd.errors import BackupdError, KeptByLock, Refused
from backupd.journal.records import JsonValue, RunKind
from backupd.model.pair import CopyState
from backupd.model.states import RunState
from backupd.runs.archive_view import remember_quietly
from backupd.runs.context import RunContext
from backupd.runs.drill_facts import past_drills
from backupd.runs.fitness import unfit_backups, verdicts_by_backup, verified_backups
from backupd.runs.one_run import one_run
from backupd.runs.recover import recover_under_lease
from backupd.runs.second_archive import lacking_in_second

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """Which backups stay and which go, with reasons."""

    database: str
    retention: RetentionPlan

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``prune --dry-run --json`` and ``explain retention --json`` show."""
        return {
            "database": self.database,
            "keep": [_row(kept) for kept in self.retention.keep],
            "drop": [_row(gone) for gone in self.retention.drop],
            "bare": {backup_id: len(spare) for backup_id, spare in self.retention.spare.items()},
            "drop_logs_count": len(self.retention.drop_logs),
            "drop_share": round(self.retention.drop_share, 3),
            "needs_yes": self.retention.needs_a_yes,
        }


def _row(entry: Kept | Dropped) -> dict[str, JsonValue]:
    return {
        "id": entry.id,
        "type": entry.record.type.value,
        "covers_until": entry.record.covers_until.isoformat(),
        "reasons": [str(one) for one in entry.reasons],
        "codes": [one.code for one in entry.reasons],
    }


@dataclass(frozen=True, slots=True)
class PruneOutcome:
    """What was removed; a dry run has removed nothing.

    ``removed_logs`` counts log files of the archive; ``removed_bytes`` are of everything that went.
    """

    plan: PrunePlan
    deleted: tuple[str, ...]
    removed_logs: int
    removed_bytes: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``prune --json`` shows."""
        return {
            **self.plan.to_json(),
            "deleted": list(self.deleted),
            "removed_logs": self.removed_logs,
            "removed_bytes": self.removed_bytes,
            "notes": list(self.notes),
        }


def plan_prune(context: RunContext) -> PrunePlan:
    """Decide from the records in the archive itself; changes nothing.

    Raises:
        Refused: the retention is empty, or would leave nothing.
        NotFound: nothing was ever backed up.
        ArchiveUnreachable: the archive cannot be read.
    """
    archive = context.archive()
    listing = archive.list()
    verdicts = verdicts_by_backup(archive)
    proven = last_proven(past_drills(verdicts), listing.labels())
    lacking = lacking_in_second(context)
    plan = plan_retention(
        [backup.record for backup in listing.backups],
        context.policy.retention_rules(),
        context.clock.now(),
        verified=verified_backups(archive, listing, verdicts),
        damaged=unfit_backups(archive, listing, verdicts),
        in_use={**_in_use(context), **lacking},
        held={hold.backup_id: hold.sentence for hold in archive.holds()},
        drilled=proven.facts.backups if proven else (),
        current_history=_current_history(context),
    )
    # The second archive may still hold what leads to a full that it is to get.
    spare = {backup_id: logs for backup_id, logs in plan.spare.items() if backup_id not in lacking}
    return PrunePlan(context.database, replace(plan, spare=spare))


def run_prune(context: RunContext, *, dry_run: bool = False, yes: bool = False) -> PruneOutcome:
    """Remove what the plan drops, dependents before what they build on, then log that no kept point needs.

    A prune that is interrupted leaves only whole chains and is taken up by the next.

    Args:
        context: the database.
        dry_run: only plan.
        yes: remove even if it is more than a quarter of the backups; a person has said so.

    Raises:
        Busy: another run works on the database.
        Refused: the plan is refused, the passive is suspect, too much would go, or the backups are another pair's.
    """
    context.refuse_another_pairs_archive()
    if dry_run:
        return PruneOutcome(plan_prune(context), (), 0, 0, ())
    with one_run(context, f"prune of {context.database}", must=True):
        notes = recover_under_lease(context)
        plan = plan_prune(context)
        _refuse(context, plan, yes=yes)
        run = context.journal.begin_run(database=context.database, kind=RunKind.PRUNE)
        try:
            outcome = _carry_out(context, plan, notes)
        except BaseException as error:
            context.journal.finish(run.id, RunState.FAILED, f"{type(error).__name__}: {error}")
            raise
        finally:
            remember_quietly(context)
        context.journal.finish(
            run.id, RunState.COMPLETE, f"{len(outcome.deleted)} backups removed", deleted=list(outcome.deleted)
        )
        return outcome


def _carry_out(context: RunContext, plan: PrunePlan, notes: tuple[str, ...]) -> PruneOutcome:
    archive = context.archive()
    deleted: list[str] = []
    removed_bytes, logs_before = 0, _log_count(archive)
    listing = archive.list() if plan.retention.drop else None
    for number, gone in enumerate(plan.retention.drop):
        context.tell(f"removing backup {gone.id}", number, len(plan.retention.drop))
        reason = "; ".join(str(one) for one in gone.reasons)
        try:
            removed = archive.delete_backup(gone.id, reason=reason, by=context.node, since=listing)
        except KeptByLock as later:
            # What it builds on must stay as well; all of it is due again at the next prune.
            return _until_later(plan, deleted, removed_bytes, notes, f"{gone.id} is removed later: {later.because}")
        deleted.append(gone.id)
        listing = listing.without(gone.id) if listing else None
        removed_bytes += removed.bytes
        if removed.later:
            notes = (*notes, f"{gone.id} is listed no more, its objects are removed later: {removed.later}")
    archive.let_log_go(plan.retention.spare, reason="no kept backup leads along it")
    try:
        removed = archive.prune_logs(reason="no kept backup needs it")
        removed_bytes += removed.bytes
        notes = (*notes, f"some log files are removed later: {removed.later}") if removed.later else notes
    except KeptByLock as later:
        return _until_later(plan, deleted, removed_bytes, notes, f"log files are removed later: {later.because}")
    return PruneOutcome(plan, tuple(deleted), logs_before - _log_count(archive), removed_bytes, notes)


def _until_later(
    plan: PrunePlan, deleted: list[str], removed_bytes: int, notes: tuple[str, ...], why: str
) -> PruneOutcome:
    """The archive keeps the next one for now, which is no failure."""
    return PruneOutcome(plan, tuple(deleted), 0, removed_bytes, (*notes, why))


def _log_count(archive: DatabaseArchive) -> int:
    return sum(1 for _ in archive.store.list(names.logs_prefix(archive.dbid)))


def _refuse(context: RunContext, plan: PrunePlan, *, yes: bool) -> None:
    """While the newest state of the database is in doubt, or the plan is suspiciously large, everything stays."""
    drop = plan.retention.drop
    if not drop and not plan.retention.spare:
        return
    if context.writer.pair().passive.state is CopyState.SUSPECT or _last_backup_failed(context):
        raise Refused(
            f"no backup of {context.database} is pruned now",
            because="the last backup found damage, so the older backups may be the only good ones",
            next_step=f"backupctl copy seed {context.database}, then backupctl backup {context.database} --type full",
        )
    if plan.retention.needs_a_yes and not yes:
        raise Refused(
            f"this prune would remove {len(drop)} of {len(drop) + len(plan.retention.keep)} backups",
            because=f"that is more than {DROP_SHARE_MAX:.0%} at once (and more than one chain and "
            f"{DROP_BESIDES_ONE_CHAIN} backups), which a wrong policy would do too",
            next_step=f"look at backupctl prune {context.database} --dry-run, then repeat it with --yes",
        )


def _last_backup_failed(context: RunContext) -> bool:
    for run in context.journal.runs(context.database, RunKind.BACKUP, limit=50):
        if run.state not in {RunState.REFUSED, RunState.ABORTED}:
            return run.state is RunState.FAILED
    return False


def _current_history(context: RunContext) -> str | None:
    """The history that the pair lives in; None while nobody can be asked, for a prune may do without."""
    try:
        return context.writer.pair().history
    except BackupdError:
        return None


def _in_use(context: RunContext) -> dict[str, str]:
    """Backups that a restore or a drill reads at this moment, here."""
    used: dict[str, str] = {}
    for run in context.journal.in_progress(context.database):
        base, more = run.facts.get("base"), run.facts.get("backups")
        if run.kind in {RunKind.RESTORE, RunKind.DRILL}:
            read = [*([base] if base else []), *(more if isinstance(more, list) else [])]
            used |= {str(one): f"the {run.kind} {run.id} reads it" for one in read}
    return used
