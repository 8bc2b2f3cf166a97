"""Decides which type a backup really is, and what it builds on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backupd.decide.chains import BrokenChain, chain_of
from backupd.decide.log_walk import Goal, walk_log
from backupd.decide.reasons import Reason
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup, BackupType, Stamp, Stamps, StoredLog

_NONE_UNFIT: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class BackupChoice:
    """The type to take.

    ``parent`` and ``log_start`` are what an increment builds on and where its log
    begins; a full and a copy have neither.  The log of an increment is
    ``archived_logs``, which other backups have stored already, and then what the
    copies hold after ``log_from``.
    """

    type: BackupType
    requested: BackupType
    parent: ArchivedBackup | None
    log_start: Position | None
    reasons: tuple[Reason, ...]
    archived_logs: tuple[StoredLog, ...] = ()
    log_from: Position | None = None

    @property
    def raised(self) -> bool:
        """Whether an increment became a full."""
        return self.type is not self.requested


@dataclass(frozen=True, slots=True)
class RefuseBackup:
    """No backup of that type can be taken now."""

    reasons: tuple[Reason, ...]


def decide_backup_type(
    requested: BackupType,
    stamps: Stamps,
    backups: Sequence[ArchivedBackup],
    history: str | None,
    *,
    unfit: Mapping[str, str] = _NONE_UNFIT,
    oldest_held: Position | None = None,
    raise_to_full: bool = True,
    archived_log_counts: bool = False,
) -> BackupChoice | RefuseBackup:
    """The type that a run takes, and the backup that it builds on.

    An increment builds on the backup that the database's own stamp names, and only
    when the archive lists that backup with a sound chain to a full, in the history
    that the database is in, and the log since then is still there.  Otherwise it is
    raised to a full.  While a newer backup waits for its stamp no increment is taken.

    Args:
        requested: what the policy or a person asked for.
        stamps: the stamps that the passive has seen.
        backups: every committed backup of the database.
        history: the history that the database is in; None when not known.
        unfit: ids that are known to be damaged, or may be deleted any moment, with a sentence.
        oldest_held: where the oldest log that the passive holds begins; None when not known or none.
        raise_to_full: the policy's wish; when False the increment is refused instead.
        archived_log_counts: whether the run can name log files that other backups have stored.  Without it a
            differential becomes a full as soon as an incremental has let the log since the full be removed.
    """
    if requested.takes_pages:
        return BackupChoice(requested, requested, None, None, (Reason("as-asked", f"a {requested} was asked for"),))
    stamp = _base_stamp(requested, stamps, history)
    pending = _waits_for_stamp(requested, stamp, backups, history)
    if pending is not None:
        return RefuseBackup((pending,))
    base = _find_base(requested, stamp, backups, history, unfit)
    if isinstance(base, ArchivedBackup):
        record = base.record
        fit = [backup for backup in backups if backup.record.id not in unfit] if archived_log_counts else []
        archived = walk_log(record.log_end, Goal(None), fit)
        if oldest_held is None or (oldest_held.history == history and oldest_held <= archived.place):
            reason = Reason("base", f"it builds on the {record.type} {record.id}, which ends at {record.log_end}")
            logs = tuple(archived.logs)
            return BackupChoice(requested, requested, base, record.log_end, (reason,), logs, archived.place)
        gone = f"the log after {archived.place} is gone from the copies (the oldest begins at {oldest_held})"
        base = Reason("log-gone", gone)
    if not raise_to_full:
        forbidden = Reason("raise-forbidden", f"the policy does not let a {requested} be raised to a full")
        return RefuseBackup((base, forbidden))
    raised = Reason(base.code, f"{base.sentence}: {requested} raised to full")
    return BackupChoice(BackupType.FULL, requested, None, None, (raised,))


def _base_stamp(requested: BackupType, stamps: Stamps, history: str | None) -> Stamp | None:
    """The stamp of the backup to build on; None without a full."""
    if requested is BackupType.DIFFERENTIAL or stamps.full is None:
        return stamps.full
    known = [stamp for stamp in (stamps.full, stamps.incremental) if stamp is not None]
    # A full that is newer than the last incremental is the base, whichever the writer names first.
    here = [stamp for stamp in known if stamp.end.history == history]
    return max(here, key=lambda stamp: stamp.end.offset, default=stamps.last)


def _waits_for_stamp(
    requested: BackupType, stamp: Stamp | None, backups: Sequence[ArchivedBackup], history: str | None
) -> Reason | None:
    """The backup that was committed after the one that the stamp names, in this history."""
    relevant = {BackupType.FULL} if requested is BackupType.DIFFERENTIAL else {BackupType.FULL, BackupType.INCREMENTAL}
    same_history = stamp is not None and stamp.end.history == history
    stamped_offset = stamp.end.offset if stamp is not None and same_history else -1
    for backup in backups:
        record = backup.record
        if record.type not in relevant or record.log_end.history != history:
            continue
        if record.log_end.offset > stamped_offset and not (stamp is not None and stamp.backup_id == record.id):
            return Reason(
                "stamp-pending",
                f"{record.type} {record.id} is in the archive, but the passive has not seen its stamp yet",
            )
    return None


def _find_base(
    requested: BackupType,
    stamp: Stamp | None,
    backups: Sequence[ArchivedBackup],
    history: str | None,
    unfit: Mapping[str, str],
) -> ArchivedBackup | Reason:
    """The backup that the stamp names, or why it cannot be built on."""
    if stamp is None:
        return Reason("no-full", f"{requested} without a full")
    if history is None:
        return Reason("history-unknown", "the history of the database is not known")
    if stamp.end.history != history:
        sentence = f"the last {stamp.type} is of history {stamp.end.history}, and the database is in {history}"
        return Reason("new-history", sentence)
    chain = chain_of(stamp.backup_id, backups)
    if isinstance(chain, BrokenChain):
        return Reason("chain-broken", f"the chain of {stamp.backup_id} is broken: {chain.reasons[0].sentence}")
    for part in chain.records:
        if part.record.id in unfit:
            return Reason("chain-damaged", f"{part.record.id} cannot be built on: {unfit[part.record.id]}")
    if chain.records[0].record.type is not BackupType.FULL or not chain.records[-1].record.type.moves_stamp:
        return Reason("chain-broken", f"{stamp.backup_id} is not a full or an incremental with a full below it")
    if chain.end != stamp.end:
        return Reason(
            "stamp-differs", f"the stamp says that {stamp.backup_id} ends at {stamp.end}, it ends at {chain.end}"
        )
    return chain.records[-1]
