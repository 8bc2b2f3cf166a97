"""Which backups build on which, and how far log reaches without a gap from a full."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from backupd.decide.reasons import Reason
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup, BackupRecord, BackupType, LogKind, StoredLog


@dataclass(frozen=True, slots=True)
class Chain:
    """A full and what builds on it, in order; the last one is the backup that was asked for.

    ``bases`` are the backups that the pages of an express full at its beginning build on, the plain full first.
    """

    records: tuple[ArchivedBackup, ...]
    bases: tuple[ArchivedBackup, ...] = ()

    @property
    def all(self) -> tuple[ArchivedBackup, ...]:
        """Everything that must be sound."""
        return (*self.bases, *self.records)

    @property
    def end(self) -> Position:
        """Where the last backup of the chain ends."""
        return self.records[-1].record.log_end


@dataclass(frozen=True, slots=True)
class BrokenChain:
    """The backup cannot be traced back to a full without a gap."""

    reasons: tuple[Reason, ...]


def by_id(backups: Sequence[ArchivedBackup]) -> dict[str, ArchivedBackup]:
    """The backups by their ids."""
    return {backup.record.id: backup for backup in backups}


def follows(before: StoredLog, after: StoredLog) -> bool:
    """Whether ``after`` is the very next log file: next number, no gap, and the digests link where the log has them.

    It may begin the history that came out of the one before (``start`` is in that one then).
    """
    first, second = before.log, after.log
    return (
        second.start.history == first.history
        and second.number == first.number + 1
        and second.start == first.end
        and second.previous_digest in {first.digest, ""}
        and second.kind is not LogKind.SEED  # a seed's pages are not in the log, so nothing can be replayed across it
    )


def chain_of(backup_id: str, backups: Sequence[ArchivedBackup] | Mapping[str, ArchivedBackup]) -> Chain | BrokenChain:
    """The backups that ``backup_id`` needs, full first, each link checked.

    A link holds when the parent is listed, is the very record that the child
    names by its SHA-256, and the child's log begins where the parent ends and
    has no gap.
    """
    known = backups if isinstance(backups, Mapping) else by_id(backups)
    records: list[ArchivedBackup] = []
    wanted: str | None = backup_id
    while wanted is not None:
        found = known.get(wanted)
        if found is None:
            return _broken("parent-missing" if records else "backup-missing", f"backup {wanted} is not in the archive")
        if found in records:
            return _broken("chain-loop", f"backup {wanted} builds on itself")
        records.append(found)
        if found.record.type.takes_pages:
            break
        wanted = found.record.parent
        if wanted is None:
            return _broken("parent-missing", f"backup {found.record.id} names no backup that it builds on")
    records.reverse()
    for parent, child in pairwise(records):
        problem = _link_problem(parent, child.record)
        if problem is not None:
            return BrokenChain((problem,))
    line = page_line(records[0], known)
    return BrokenChain((line,)) if isinstance(line, Reason) else Chain(tuple(records), line[:-1])


def page_line(
    backup: ArchivedBackup, backups: Sequence[ArchivedBackup] | Mapping[str, ArchivedBackup]
) -> tuple[ArchivedBackup, ...] | Reason:
    """The backups that hold the pages of ``backup``, the plain full or copy first and itself last; or what is wrong.

    A backup that holds no pages, and one that holds all of them, is alone.
    """
    known = backups if isinstance(backups, Mapping) else by_id(backups)
    line = [backup]
    while (record := line[-1].record).type is BackupType.EXPRESS:
        parent = known.get(record.parent or "")
        if parent is None:
            return Reason("parent-missing", f"backup {record.parent}, which {record.id} builds on, is not listed")
        if parent.sha256 != record.parent_sha256:
            return Reason("parent-differs", f"{record.id} builds on another record of {record.parent} than listed")
        if not parent.record.type.takes_pages or parent in line:
            return Reason("chain-loop", f"{record.id} builds on {record.parent}, which holds no pages before it")
        line.append(parent)
    return tuple(reversed(line))


def unfit_by_pages(backups: Sequence[ArchivedBackup], unfit: Mapping[str, str]) -> dict[str, str]:
    """``unfit``, and each express full whose pages build on one that is unfit or not there, with a sentence."""
    known, found = by_id(backups), dict(unfit)
    for backup in backups:
        line = page_line(backup, known)
        if isinstance(line, Reason):
            found.setdefault(backup.record.id, line.sentence)
            continue
        for base in line[:-1]:
            if base.record.id in unfit:
                sentence = f"its pages build on {base.record.id}: {unfit[base.record.id]}"
                found.setdefault(backup.record.id, sentence)
    return found


def _broken(code: str, sentence: str) -> BrokenChain:
    return BrokenChain((Reason(code, sentence),))


def _link_problem(parent: ArchivedBackup, child: BackupRecord) -> Reason | None:
    if parent.sha256 != child.parent_sha256:
        return Reason("parent-differs", f"backup {child.id} builds on another record of {parent.record.id} than listed")
    if parent.record.log_end != child.log_start:
        return Reason(
            "log-gap",
            f"backup {child.id} begins at {child.log_start}, but {parent.record.id} ends at {parent.record.log_end}",
        )
    return _log_problem(child)


def _log_problem(record: BackupRecord) -> Reason | None:
    """Why the log files of an increment do not cover it without a gap; None when they do."""
    logs = record.logs
    if not logs:
        if record.log_start == record.log_end:
            return None
        return Reason("log-gap", f"backup {record.id} names no log files for its log")
    if logs[0].log.start != record.log_start or logs[-1].log.end != record.log_end:
        return Reason("log-gap", f"the log files of backup {record.id} do not cover it from start to end")
    if logs[0].log.kind is LogKind.SEED:
        return Reason("log-gap", f"log file {logs[0].log.number} of backup {record.id} is a seed; it holds no changes")
    for before, after in pairwise(logs):
        if not follows(before, after):
            return Reason(
                "log-gap",
                f"in backup {record.id}, log file {after.log.number} does not continue log file {before.log.number}",
            )
    return None


def archived_offsets(backups: Sequence[ArchivedBackup], unfit: Collection[str] = ()) -> dict[str, int]:
    """For each history that a listed backup ends in, the offset of its ``archived_end``; 0 when there is none."""
    ends = {history: archived_end(backups, history, unfit) for history in {b.record.log_end.history for b in backups}}
    return {history: end.offset if end is not None else 0 for history, end in ends.items()}


def archived_end(
    backups: Sequence[ArchivedBackup], history: str | None, unfit: Collection[str] = ()
) -> Position | None:
    """The newest position of ``history`` up to which backups go back to a full without a gap.

    A copy never counts, for it moves nothing; a backup of ``unfit`` (known to be
    damaged) breaks every chain that it is part of.
    """
    known = by_id(backups)
    candidates = [backup.record for backup in backups if backup.record.log_end.history == history]
    # Newest first: the first sound one is the answer, and older chains need not be walked.
    for record in sorted(candidates, key=lambda record: record.log_end.offset, reverse=True):
        chain = chain_of(record.id, known)
        if isinstance(chain, BrokenChain) or not chain.records[0].record.type.is_full:
            continue
        if not any(part.record.id in unfit for part in chain.all):
            return record.log_end
    return None
