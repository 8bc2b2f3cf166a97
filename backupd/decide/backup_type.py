"""Decides which type a backup really is, and what it builds on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from backupd.decide.chains import BrokenChain, by_id, chain_of, page_line, unfit_by_pages
from backupd.decide.log_walk import Goal, walk_log
from backupd.decide.reasons import Reason
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup, BackupType, Stamp, Stamps, StoredLog

_NONE_UNFIT: Mapping[str, str] = {}

# A restore reads a little of each; and one lost object would cost all that stand on it.
EXPRESS_IN_A_ROW_MAX = 30


@dataclass(frozen=True, slots=True)
class BackupChoice:
    """The type to take.

    ``parent`` and ``log_start`` are what an increment builds on and where its log
    begins; a full and a copy have neither, and an express full has only a ``parent``, which has the pages
    that it does not store.  The log of an increment is
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
        """Whether an increment or an express became a full."""
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
    known_maps: Collection[str] = (),
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
        known_maps: ids of the fulls and express fulls whose page maps this host has: an express compares with one.
    """
    if requested is BackupType.EXPRESS:
        return _express(backups, unfit, known_maps, raise_to_full=raise_to_full)
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
    return _raised(requested, base, raise_to_full=raise_to_full)


def _raised(requested: BackupType, because: Reason, *, raise_to_full: bool) -> BackupChoice | RefuseBackup:
    if not raise_to_full:
        forbidden = Reason("raise-forbidden", f"the policy does not let a {requested} be raised to a full")
        return RefuseBackup((because, forbidden))
    raised = Reason(because.code, f"{because.sentence}: {requested} raised to full")
    return BackupChoice(BackupType.FULL, requested, None, None, (raised,))


def _express(
    backups: Sequence[ArchivedBackup], unfit: Mapping[str, str], known_maps: Collection[str], *, raise_to_full: bool
) -> BackupChoice | RefuseBackup:
    """An express full on the newest full or express that is sound, and whose page map is here."""
    harmed = unfit_by_pages(backups, unfit)
    known = by_id(backups)
    fulls = [backup for backup in backups if backup.record.type.is_full]
    if not fulls:
        return _raised(BackupType.EXPRESS, Reason("no-full", "express without a full"), raise_to_full=raise_to_full)
    newest = max(fulls, key=_age)
    fit = [backup for backup in fulls if backup.record.id not in harmed]
    here = [backup for backup in fit if backup.record.id in known_maps]
    if not here:
        why = Reason("no-page-map", f"the page map of {newest.record.id} is not on this host")
        if not fit:
            why = Reason("chain-damaged", f"{newest.record.id} cannot be built on: {harmed[newest.record.id]}")
        return _raised(BackupType.EXPRESS, why, raise_to_full=raise_to_full)
    base = max(here, key=_age)
    line = page_line(base, known)
    if isinstance(line, tuple) and len(line) > EXPRESS_IN_A_ROW_MAX:
        why = Reason("express-depth", f"{len(line) - 1} express fulls in a row stand on {line[0].record.id}")
        return _raised(BackupType.EXPRESS, why, raise_to_full=raise_to_full)
    sentence = f"it stores what differs from the {base.record.type} {base.record.id}"
    return BackupChoice(BackupType.EXPRESS, BackupType.EXPRESS, base, None, (Reason("base", sentence),))


def _age(backup: ArchivedBackup) -> tuple[datetime, str]:
    return backup.record.started_at, backup.record.id


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
    same_history = stamp is not None and stamp.end.history == history
    stamped_offset = stamp.end.offset if stamp is not None and same_history else -1
    for backup in backups:
        record = backup.record
        relevant = record.type.is_full if requested is BackupType.DIFFERENTIAL else record.type.moves_stamp
        if not relevant or record.log_end.history != history:
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
    for part in chain.all:
        if part.record.id in unfit:
            return Reason("chain-damaged", f"{part.record.id} cannot be built on: {unfit[part.record.id]}")
    if not chain.records[0].record.type.is_full or not chain.records[-1].record.type.moves_stamp:
        return Reason("chain-broken", f"{stamp.backup_id} is not a full or an incremental with a full below it")
    if chain.end != stamp.end:
        return Reason(
            "stamp-differs", f"the stamp says that {stamp.backup_id} ends at {stamp.end}, it ends at {chain.end}"
        )
    return chain.records[-1]
