"""From a committed record to the end of its run: the stamp, then complete, or pending until the stamp is seen."""

from __future__ import annotations

from backupd.errors import BackupdError
from backupd.model.records import BackupRecord, BackupType, Stamp
from backupd.model.states import RunEvent, RunState
from backupd.runs.context import RunContext


def settle(context: RunContext, run_id: str, state: RunState, record: BackupRecord) -> tuple[RunState, str]:
    """Walk a run that is proven, stamped or pending as far as it goes; answers its state and a sentence.

    The stamp is written before the run is complete: without it the next
    incremental would build on an older backup than the archive holds.  Everything
    here may be repeated, so recovery calls it too.  Replication must be running.
    """
    journal = context.journal
    if state is RunState.STAMPED or not record.type.moves_stamp:
        return journal.move(run_id, RunEvent.COMPLETE).to, ""
    seen, why = _stamped(context, record)
    if seen:
        journal.move(run_id, RunEvent.STAMP)
        return journal.move(run_id, RunEvent.COMPLETE).to, ""
    if state is RunState.PROVEN:
        journal.move(run_id, RunEvent.POSTPONE, because=why)
    return RunState.PENDING, f"the stamp is not seen on the passive yet ({why}); no increment is taken until it is"


def _stamped(context: RunContext, record: BackupRecord) -> tuple[bool, str]:
    stamps = context.writer.stamps()
    for known in (stamps.full, stamps.incremental):
        if known is not None and (known.backup_id == record.id or _is_later(known, record)):
            return True, ""
    # An express is a full to what builds on it, so its stamp is that of one.
    kind = BackupType.FULL if record.type.is_full else record.type
    stamp = Stamp(kind, record.id, record.log_end, context.clock.now())
    timeout = context.policy.stamp.timeout_seconds
    try:
        if context.writer.stamp(stamp, timeout):
            return True, ""
    except BackupdError as error:
        return False, f"{error.problem}: {error.because}"
    return False, f"not within {timeout:g} s"


def _is_later(stamp: Stamp, record: BackupRecord) -> bool:
    """Whether a stamp of the same history says that a later backup was taken, so that this one's is not missed."""
    return stamp.end.history == record.log_end.history and stamp.end.offset > record.log_end.offset
