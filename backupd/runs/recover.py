"""Finishes or undoes what a dead run left: never an eternal "in progress"."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from backupd.errors import ArchiveUnreachable, BackupdError, NotFound
from backupd.journal.records import Run, RunKind
from backupd.model.pair import CopyRole
from backupd.model.position import rebase
from backupd.model.records import BackupRecord
from backupd.model.states import EDGES, RunEvent, RunState
from backupd.runs.archive_view import remember_archive, remembered
from backupd.runs.context import RunContext
from backupd.runs.drill_place import clear_dead_drills
from backupd.runs.one_run import one_run
from backupd.runs.second_archive import settle_second
from backupd.runs.settle import settle
from backupd.runs.snapshot import clear_leftovers

# Runs of these kinds work under the lease: whoever holds it knows that they are dead.
_UNDER_LEASE = frozenset(
    {RunKind.BACKUP, RunKind.RESTORE, RunKind.TRUNCATE, RunKind.PRUNE, RunKind.SEED, RunKind.COPY_ARCHIVE}
)

Say = Callable[[str], None]


def run_recover(context: RunContext, *, patient: bool = False) -> tuple[str, ...]:
    """Finish or undo everything that dead runs left; answers with what was done, in sentences.

    May be repeated; with nothing left it does nothing and answers nothing.  ``patient``
    finds out whether another host that holds the lease is dead, up to 60 s long.

    Raises:
        Busy: a run works on the database now.
    """
    with one_run(context, f"recovery of {context.database}", patient=patient):
        sentences = recover_under_lease(context)
        return sentences if context.second is None else (*sentences, *settle_second(context))


def recover_under_lease(context: RunContext, *, keep_stage: bool = False) -> tuple[str, ...]:
    """As ``run_recover``, for a run that holds the lease; ``keep_stage`` leaves pages for a restore that resumes.

    What cannot be finished now (the archive is away) stays in the journal and is
    tried by the next run.  A run on the second archive recovers what runs left in the first one too.
    """
    asked, context = context, context.first or context
    context.writer.source_role = CopyRole.PASSIVE  # whatever the last run has read
    sentences: list[str] = []
    say = sentences.append
    for run in _dead(context):
        match run.kind:
            case RunKind.BACKUP:
                _try(partial(_recover_backup, context, run, say), say)
            case RunKind.RESTORE:
                _try(partial(_recover_restore, context, run, say, keep_stage=keep_stage), say)
            case RunKind.DRILL:
                pass  # below, with what it has left
            case RunKind.COPY_ARCHIVE:
                context.journal.finish(run.id, RunState.ABORTED, "the process of this copy died")
                say(f"the copy {run.id} had died; what it has copied stays, and the next one goes on with it")
            case _:
                context.journal.finish(run.id, RunState.ABORTED, f"the process of this {run.kind} died")
                say(f"the {run.kind} {run.id} had died; nothing was left to undo")
    for sentence in context.writer.recover(keep_stage=keep_stage):
        say(sentence)
    # What an ended run could not take away when it ended: no run is alive, so nothing of it is in use.
    for leftover in (_clear_drills, _release_holds, _clear_snapshots, _sweep, _read_archive_anew):
        _try(partial(leftover, context, say), say)
    _finish_pending(context, say)
    if asked is not context:
        sentences += settle_second(context)
    return tuple(sentences)


def _dead(context: RunContext) -> list[Run]:
    dead = {run.id for run in context.journal.abandoned(context.database)}
    return [run for run in context.journal.in_progress(context.database) if run.kind in _UNDER_LEASE or run.id in dead]


def _try(work: Callable[[], None], say: Say) -> None:
    """One dead run that cannot be ended now must not keep the others, or the run that follows, from going on."""
    try:
        work()
    except BackupdError as error:
        say(f"could not be ended yet: {error.problem} ({error.because})")


# --- backups ---


def _recover_backup(context: RunContext, run: Run, say: Say) -> None:
    """End one dead backup: a committed record is finished, anything less is undone."""
    directory = run.facts.get("directory")
    if isinstance(directory, str):
        clear_leftovers(context, Path(directory), say)
    record = _committed(context, run)
    if record is not None:
        _finish_backup(context, run, record, say)
    else:
        _undo_backup(context, run, say)


def _committed(context: RunContext, run: Run) -> BackupRecord | None:
    """The record, if the archive has it. Raises ArchiveUnreachable: then nothing can be said about the run yet."""
    if not run.label or run.state is RunState.PLANNED:
        return None
    try:
        return context.archive().get(run.label).record
    except NotFound:
        return None


def _finish_backup(context: RunContext, run: Run, record: BackupRecord, say: Say) -> None:
    """The commit is the point of no return: from there the run only goes forward."""
    state = run.state
    if state is RunState.STORED:
        state = context.journal.move(run.id, RunEvent.PROVE).to
    with context.writer.replication():
        state, _ = settle(context, run.id, state, record)
    end = "it is complete now" if state is RunState.COMPLETE else "it waits for its stamp"
    say(f"backup {record.id} had been committed when its process died; {end}")


def _undo_backup(context: RunContext, run: Run, say: Say) -> None:
    if run.state is not RunState.PLANNED:
        _sweep(context, say)
    edges = EDGES[run.state]
    event = RunEvent.ABORT if RunEvent.ABORT in edges else RunEvent.FAIL
    context.journal.move(run.id, event, because="the process of this run died")
    say(f"the {run.type} backup {run.label or run.id} had died when it was {run.state}; it was undone")


def _release_holds(context: RunContext, say: Say) -> None:
    for hold in context.journal.holds(context.database):
        if hold.holder.startswith("backup "):
            context.journal.release_hold(context.database, hold.holder)
            say(f"released the hold of {hold.holder}, whose run is over")


def _clear_drills(context: RunContext, say: Say) -> None:
    for sentence in clear_dead_drills(context):
        say(sentence)


def _clear_snapshots(context: RunContext, say: Say) -> None:
    for place in context.writer.snapshot_places():
        clear_leftovers(context, place, say)


def _sweep(context: RunContext, say: Say) -> None:
    """Abort the intents that no run stands behind and remove what they stored; the caller holds the lease."""
    try:
        archive = context.archive()
    except (NotFound, ArchiveUnreachable):
        return  # nothing there, or away: the run that needs the archive says so itself
    for sentence in archive.sweep(holding_lease=True).sentences:
        say(sentence)


def _read_archive_anew(context: RunContext, say: Say) -> None:
    """This node's book of the archive is a cache: when it was lost, it is written again from the archive."""
    if remembered(context) is not None:
        return
    try:
        held = len(context.archive().list().backups)
    except (NotFound, ArchiveUnreachable):
        return
    if held:
        remember_archive(context)
        say(f"this node's view of the archive was lost; it was made anew from the {held} backups there")


def _finish_pending(context: RunContext, say: Say) -> None:
    """Stamps that were late: whoever is first under the lease writes them again."""
    pending = context.journal.runs(context.database, RunKind.BACKUP, RunState.PENDING)
    for run in reversed(pending):
        try:
            record = context.archive().get(run.label).record
            pair = context.writer.pair()
            if pair.history is not None and rebase(record.log_end, pair.history, pair.ancestry) is None:
                context.journal.move(run.id, RunEvent.COMPLETE, because="the database is in another history now")
                say(f"backup {run.label} no longer waits for its stamp: the database is in another history now")
                continue
            with context.writer.replication():
                state, sentence = settle(context, run.id, RunState.PENDING, record)
        except NotFound:
            context.journal.move(run.id, RunEvent.COMPLETE, because="the backup was pruned")
            continue
        except BackupdError as error:
            say(f"backup {run.label} still waits for its stamp: {error.problem}")
            continue
        say(sentence or f"backup {run.label} had waited for its stamp; it is {state} now")


# --- restores ---


def _recover_restore(context: RunContext, run: Run, say: Say, *, keep_stage: bool) -> None:
    """End one dead restore: before activation the live files are as they were, after it only the rest is finished."""
    name = run.facts.get("target")
    phase = run.facts.get("phase", "planned")
    activating = phase in {"activating", "activated"}
    if isinstance(name, str) and phase != "planned" and run.facts.get("role") == "directory":
        target = context.writer.restore_target(name)
        if phase == "activated":
            target.finish()
        else:
            target.abandon(keep_stage=keep_stage)
    for sentence in context.writer.recover(keep_stage=keep_stage):
        say(sentence)
    if run.facts.get("stopped") is True and context.policy.restore.start_command:
        context.run_command(context.policy.restore.start_command, context.policy.restore.command_seconds_max)
        say("the policy's start command was run, for a dead restore had run the stop command")
    context.journal.finish(run.id, RunState.ABORTED, "the process of this restore died")
    end = "what is in place now is whole: the old file or the restored one" if activating else "nothing was replaced"
    if (
        run.facts.get("role") == "active"
        and isinstance(name, str)
        and context.writer.restore_target(name).facts().given_up
    ):
        end = "what was there is given up: only a restore makes it whole again"
    if phase == "activated" and run.facts.get("role") != "directory":
        adopt_archive(context)
        end = "the restored file is in place, and a new full is due"
    say(f"the restore {run.id} had died; {end}")


def adopt_archive(context: RunContext) -> None:
    """From now on the pair is the database of this archive, also when its local state had been lost."""
    archive = context.archive()
    identity = archive.repository.identity_of(archive.dbid).identity
    if identity != context.writer.identity():
        context.writer.adopt_identity(identity)
