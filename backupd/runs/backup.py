"""A backup, state by state: planned, prepared, frozen, captured, thawed, checked, stored, proven, stamped, complete."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime

import backupd
from backupd.archive.open_backup import OpenBackup
from backupd.errors import BackupdError, DamageFound, FreezeBroken, Refused
from backupd.journal.records import JsonValue, RunKind
from backupd.model.pair import CopyRole
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup, BackupRecord, BackupType, Hold
from backupd.model.states import RunEvent, RunState
from backupd.pipeline.express import MostPagesDiffer
from backupd.ports import PagesEnd, Prepared
from backupd.process import this_process
from backupd.runs.archive_view import remember_quietly
from backupd.runs.backup_outcome import BackupOutcome
from backupd.runs.backup_plan import BackupPlan, plan_backup
from backupd.runs.content import Content, checked_logs, lend_logs, store_logs, store_pages
from backupd.runs.context import RunContext
from backupd.runs.copy_archive import truncate_and_copy
from backupd.runs.one_run import one_run
from backupd.runs.recover import recover_under_lease
from backupd.runs.settle import settle
from backupd.runs.snapshot import capture
from backupd.runs.walk import Walk, told_as_role_change


def run_backup(
    context: RunContext,
    requested: BackupType,
    *,
    dry_run: bool = False,
    reason: str = "manual",
    unless: Callable[[], None] = lambda: None,
) -> BackupOutcome:
    """Take one backup now.

    Promise: when this returns, the archive lists the backup as complete (or
    pending, when only its stamp is late); when it raises or dies, the archive
    lists nothing of it (or, if it died at the very commit, a whole backup that the
    next run finishes), replay runs, and no log has left any copy.  A snapshot that
    was spoiled by its freeze is tried again at once, as often as the policy says.

    Args:
        context: the database.
        requested: the type; what it really becomes is in the outcome's plan.
        dry_run: only plan.
        reason: who or what asked for it.
        unless: is called once under the lease, before anything is begun; what it raises ends the run.

    Raises:
        Busy: another run works on the database.
        Refused: a rule says no; nothing was touched.
        NotHealthy: a copy is not fit, or no freeze held.
        DamageFound: a page or a log file is bad; the passive is marked suspect.
        ArchiveUnreachable: the archive cannot be read or written.
    """
    if dry_run:
        plan = plan_backup(context, requested, dry_run=True)
        return BackupOutcome(plan, None, RunState.PLANNED, None, plan.notes)
    context.refuse_another_pairs_archive()
    with one_run(context, f"{requested} backup of {context.database}"):
        said = recover_under_lease(context)
        unless()
        tries = context.policy.freeze.attempts_max
        while True:
            try:
                return _walk_once(context, requested, reason, said)
            except FreezeBroken as broken:
                tries -= 1
                if tries <= 0:
                    raise
                said = (*said, f"tried once more, because the last freeze did not hold: {broken.because}")
            except MostPagesDiffer as much:
                if not context.policy.backup.raise_to_full:
                    raise
                requested = BackupType.FULL
                said = (*said, f"raised from express to full: {much.because}")


def _walk_once(context: RunContext, requested: BackupType, reason: str, before: tuple[str, ...]) -> BackupOutcome:
    facts: dict[str, JsonValue] = {"requested": requested.value, "reason": reason}
    run = context.journal.begin_run(database=context.database, kind=RunKind.BACKUP, type=requested.value, facts=facts)
    with ExitStack() as outer:
        try:
            with ExitStack() as undo:
                walk = Walk(context, run, undo)
                for sentence in before:
                    walk.note(sentence)
                try:
                    outer.enter_context(context.writer.replication())
                    plan = plan_backup(context, requested)
                    walk.source_copy = plan.source_copy
                    archived = _carry_out(walk, plan)
                    _settled(walk, archived)
                except BackupdError as error:
                    told = told_as_role_change(walk, error)
                    walk.give_up(told)
                    if told is error:
                        raise
                    raise told from error
                except BaseException as error:
                    walk.give_up(error)
                    raise
        finally:
            remember_quietly(context)
        truncation, copied = truncate_and_copy(context, archived.record)
        return BackupOutcome(plan, archived.record, walk.state, truncation, (*walk.notes, *copied))


def _carry_out(walk: Walk, plan: BackupPlan) -> ArchivedBackup:
    """From planned to proven: everything up to the commit of the record."""
    context, policy = walk.context, walk.context.policy
    started = context.clock.now()
    for sentence in plan.notes:
        walk.note(sentence)
    backup = _announce(walk, plan)
    prepared = context.writer.prepare(
        checkpoint=policy.prepare.checkpoint, timeout_seconds=policy.prepare.timeout_seconds, report=context.report
    )
    for sentence in prepared.notes:
        walk.note(sentence)
    _hold(walk, plan.log_from or plan.last_stamp_end or prepared.position)
    walk.move(RunEvent.PREPARE, type=plan.type.value, position=str(prepared.position))
    draft = BackupRecord(
        id=walk.label,
        database=context.database,
        engine=context.engine,
        type=plan.type,
        source_copy=plan.source_copy,
        source_role=plan.source_role,
        source_host=this_process().host,
        started_at=started,
        finished_at=started,
        covers_until=prepared.covers_until,
        log_start=prepared.position,
        log_end=prepared.position,
        parent=plan.parent.record.id if plan.parent else None,
        parent_sha256=plan.parent.sha256 if plan.parent else None,
        nonce=backup.nonce,
        policy_commit=context.read_policy_commit(),
        tool_version=backupd.__version__,
    )
    if plan.type.takes_pages:
        draft, content = _pages(walk, plan, backup, draft)
    else:
        draft, content = _log_only(walk, plan, backup, draft, prepared)
    walk.move(RunEvent.STORE, stored_bytes=content.stored_bytes, read_bytes=content.read_bytes)
    return _proven(walk, backup, draft, content)


def _announce(walk: Walk, plan: BackupPlan) -> OpenBackup:
    """Write the intent, so that no prune takes away what this backup builds on; it goes however the run ends."""
    level = walk.context.policy.archive_options.compression_level
    backup = walk.context.archive(create=True).begin(plan.type, parent=plan.parent, level=level)

    def give_up() -> None:
        if walk.committed or walk.commit_unknown:
            return
        if walk.storing:
            backup.abort("its run ended early")
        else:
            backup.withdraw()
        walk.context.page_maps.forget(walk.label)

    walk.on_the_way_out("giving up the backup", give_up)
    walk.name(backup.label)
    return backup


def _hold(walk: Walk, needs_from: Position) -> None:
    context = walk.context
    holder = f"backup {walk.label}"
    hold = Hold(holder, context.database, needs_from, "a backup reads it", context.clock.now())
    context.journal.place_hold(hold)
    walk.on_the_way_out("releasing the hold", lambda: context.journal.release_hold(context.database, holder))


def _pages(walk: Walk, plan: BackupPlan, backup: OpenBackup, draft: BackupRecord) -> tuple[BackupRecord, Content]:
    context = walk.context
    captured = capture(walk)
    walk.storing = True
    content = store_pages(walk, plan, backup, captured)
    end = context.writer.finish_pages(captured.position, context.policy.prepare.timeout_seconds, context.report)
    for sentence in end.notes:
        walk.note(sentence)
    content = _log_of_pages(walk, plan, end, backup, content)
    draft = replace(
        draft,
        log_start=end.log_start,
        log_end=end.log_end,
        covers_until=_covers(end.covers_until or draft.covers_until, captured.last_commit_at),
        provider=captured.provider,
        frozen_seconds=captured.frozen_seconds(),
    )
    return draft, content


def _log_of_pages(walk: Walk, plan: BackupPlan, end: PagesEnd, backup: OpenBackup, content: Content) -> Content:
    """Store the log that the pages need, and for a full the log between the last chain and it, so no moment is lost.

    A full does not need the latter, so a gap there is said and does not end the run.
    """
    after = plan.last_stamp_end if plan.type.is_full else None
    if after is not None and _comes_before(after, end.log_start):
        try:
            return store_logs(walk.context, backup, checked_logs(walk, after, end.log_end), content)
        except BackupdError as error:
            # Of an active that stands in no seed makes an old segment whole again, and its pages do not need it.
            old = isinstance(error, DamageFound) and walk.context.writer.source_role is CopyRole.ACTIVE
            if error.exit_status != 7 and not old:
                raise
            walk.note(f"points in time between {after} and this full cannot be restored: {error.because}")
    if end.log_start == end.log_end:
        return content
    return store_logs(walk.context, backup, checked_logs(walk, end.log_start, end.log_end), content)


def _comes_before(after: Position, start: Position) -> bool:
    """Of another history than the pages' log, it is one that this came from: the plan has looked."""
    return not after.same_history(start) or after < start


def _log_only(
    walk: Walk, plan: BackupPlan, backup: OpenBackup, draft: BackupRecord, prepared: Prepared
) -> tuple[BackupRecord, Content]:
    start = plan.log_start or prepared.position
    log_from = plan.log_from or start
    closed = checked_logs(walk, log_from, prepared.position)
    content = lend_logs(walk.context, backup, plan.archived_logs, closed)
    if content.logs:
        walk.note(f"{len(content.logs)} log files are named that other backups have stored; they were read back")
    walk.move(RunEvent.CHECK, checked_logs=len(closed), lent_logs=len(content.logs))
    walk.storing = True
    content = store_logs(walk.context, backup, closed, content)
    last = content.logs[-1].log if content.logs else None
    end = last.end if last else start
    covers = _covers(draft.covers_until, last.last_commit_at if last else None)
    return replace(draft, log_start=start, log_end=end, covers_until=covers), content


def _covers(prepared: datetime, last_commit_at: datetime | None) -> datetime:
    """Up to when the backup holds every commit, and after which it holds none.

    What was committed between the log's closing and the freeze is in a snapshot: no restore to before it uses it.
    """
    return prepared if last_commit_at is None else max(prepared, last_commit_at)


def _proven(walk: Walk, backup: OpenBackup, draft: BackupRecord, content: Content) -> ArchivedBackup:
    """Read back what was stored, then commit; after this line the backup exists."""
    context = walk.context
    proven_bytes = backup.prove(lambda done: context.tell("reading back", done, content.stored_bytes))
    record = replace(
        draft,
        finished_at=context.clock.now(),
        files=content.files,
        logs=content.logs,
        read_bytes=content.read_bytes,
        stored_bytes=content.stored_bytes,
        checked_pages=content.checked_pages,
        notes=tuple(walk.notes),
    )
    archived = _committed(walk, backup, record)
    walk.move(RunEvent.PROVE, proven_bytes=proven_bytes)
    return archived


def _committed(walk: Walk, backup: OpenBackup, record: BackupRecord) -> ArchivedBackup:
    """Commit; a reply that was lost is asked for once more, for the record may exist although the call failed.

    When it stays unknown the run is left open: only what recovery finds in the archive can end it.
    """
    walk.context.still_ours()
    walk.commit_unknown = True
    try:
        archived = backup.commit(record)
    except (Refused, DamageFound):
        walk.commit_unknown = False
        raise
    except BackupdError as error:
        walk.note(f"the commit was repeated: {error.problem}")
        archived = backup.commit(record)
    walk.commit_unknown, walk.committed = False, True
    return archived


def _settled(walk: Walk, archived: ArchivedBackup) -> None:
    walk.state, sentence = settle(walk.context, walk.run.id, walk.state, archived.record)
    if sentence:
        walk.note(sentence)
