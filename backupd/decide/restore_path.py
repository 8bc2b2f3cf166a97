"""Finds what a restore needs: the best full, the log files after it in order, and where to stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from backupd.decide.chains import page_line, unfit_by_pages
from backupd.decide.lineage import Lineage, lineage_of, seen_from
from backupd.decide.log_walk import Goal, Walk, walk_log
from backupd.decide.reasons import Reason
from backupd.decide.restore_wish import RestoreWish
from backupd.errors import NotFound
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup, StoredLog, own_logs

__all__ = [  # with the wish, so that whoever asks needs one address
    "RecoveryWindow", "RestorePath", "RestoreWish", "bases_of", "build_path", "find_restore_path", "recovery_windows",
]  # fmt: skip

_NONE_UNFIT: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class RestorePath:
    """What to fetch and replay, in order.

    ``full`` holds the pages (it may be a copy); ``logs`` are those that its pages need to be
    whole, if any, and then those that follow it without a gap.
    Replay stops at the last commit not after ``until`` or ``at``, of which exactly
    one is set.  ``end`` is where the last log file ends: the restore stops there or before.
    ``backups`` are the ids that all this is named by, the full first.  Where the full is an express one,
    ``bases`` are the backups that its pages build on, the plain full first.
    """

    full: ArchivedBackup
    logs: tuple[StoredLog, ...]
    end: Position
    until: Position | None
    at: datetime | None
    backups: tuple[str, ...]
    reasons: tuple[Reason, ...]
    bases: tuple[ArchivedBackup, ...] = ()

    @property
    def pages_from(self) -> tuple[ArchivedBackup, ...]:
        """Every backup whose pages are read, the plain full or copy first."""
        return (*self.bases, self.full)


@dataclass(frozen=True, slots=True)
class RecoveryWindow:
    """Any moment and any commit from here to there can be restored; ``full`` is the oldest full that serves it."""

    history: str
    from_time: datetime
    to_time: datetime
    from_position: Position
    to_position: Position
    full: str

    def __str__(self) -> str:
        return f"{_moment(self.from_time)} to {_moment(self.to_time)} ({self.from_position} to {self.to_position})"


def _moment(at: datetime) -> str:
    """To the microsecond only where there is one, so that a person can paste the end of a window back."""
    return at.isoformat(sep="T", timespec="seconds" if at.microsecond == 0 else "microseconds")


def find_restore_path(
    wish: RestoreWish, backups: Sequence[ArchivedBackup], *, unfit: Mapping[str, str] = _NONE_UNFIT
) -> RestorePath:
    """The path with the newest full before the wished point, and the fewest log files.

    A path stays inside one history and those that it came from, and its log has no
    gap.  Any listed backup may lend its log files, whether it is part of the full's own
    chain or not.

    Args:
        wish: the state wanted.
        backups: every committed backup of the database.
        unfit: ids whose pages are known to be damaged, with a sentence; they are not used as the full.

    Raises:
        NotFound: no path leads there; ``because`` names what can be restored.
    """
    if wish.at is not None:
        path = _path_to_time(wish.at, backups, unfit)
    elif wish.position is not None:
        path = _path_to_position(wish.position, backups, unfit)
    elif wish.backup is not None:
        path = _path_to_backup(wish.backup, backups, unfit)
    else:
        path = _path_to_latest(backups, unfit)
    if path is None:
        raise _not_found(wish, recovery_windows(backups, unfit=unfit), backups)
    return path


def recovery_windows(
    backups: Sequence[ArchivedBackup], *, unfit: Mapping[str, str] = _NONE_UNFIT
) -> tuple[RecoveryWindow, ...]:
    """What can be restored, oldest first; two windows have a hole between them or differ in history."""
    windows: list[RecoveryWindow] = []
    lineages = [lineage_of(history, backups) for history in sorted({one.record.log_end.history for one in backups})]
    for lineage in lineages:
        windows.extend(_windows_of(str(lineage.history), lineage.backups, unfit))
    told = [window for window in windows if not any(_goes_on(window, lineage, windows) for lineage in lineages)]
    return tuple(sorted(told, key=lambda window: (window.to_time, window.to_position.offset)))


def _goes_on(window: RecoveryWindow, lineage: Lineage, windows: Sequence[RecoveryWindow]) -> bool:
    """Whether a window of the history that came out of this one holds all of it."""
    if lineage.history is None or lineage.history == window.history:
        return False
    first = seen_from(window.from_position, lineage.history, lineage.ancestry)
    last = seen_from(window.to_position, lineage.history, lineage.ancestry)
    if {first.history, last.history} != {lineage.history}:
        return False
    return any(
        other.history == lineage.history and other.from_position <= first and last <= other.to_position
        for other in windows
    )


def _windows_of(history: str, backups: Sequence[ArchivedBackup], unfit: Mapping[str, str]) -> Iterator[RecoveryWindow]:
    merged: RecoveryWindow | None = None
    ends = [backup.record for backup in backups if backup.record.log_end.history == history]
    for base in reversed(bases_of(history, backups, unfit)):
        start = base.record.log_end
        reach = walk_log(start, Goal(None), backups).place
        covered = max(record.covers_until for record in ends if start <= record.log_end <= reach)
        if merged is not None and start <= merged.to_position:
            first, to_time = merged.from_time, max(merged.to_time, covered)
            to_position = max(merged.to_position, reach)
            merged = RecoveryWindow(history, first, to_time, merged.from_position, to_position, merged.full)
            continue
        if merged is not None:
            yield merged
        merged = RecoveryWindow(history, base.record.covers_until, covered, start, reach, base.record.id)
    if merged is not None:
        yield merged


def bases_of(history: str, backups: Sequence[ArchivedBackup], unfit: Mapping[str, str]) -> list[ArchivedBackup]:
    """The fulls and copies of a history that can be a base, newest position first."""
    harmed = unfit_by_pages(backups, unfit)
    bases = [
        backup
        for backup in backups
        if backup.record.type.takes_pages
        and backup.record.log_end.history == history
        and backup.record.id not in harmed
    ]
    return sorted(bases, key=lambda base: (base.record.log_end.offset, base.record.id), reverse=True)


def _path_to_position(
    wanted: Position, backups: Sequence[ArchivedBackup], unfit: Mapping[str, str], prefer: str | None = None
) -> RestorePath | None:
    lineage = lineage_of(wanted.history, backups)
    bases = [base for base in bases_of(wanted.history, lineage.backups, unfit) if base.record.log_end <= wanted]
    bases.sort(key=lambda base: (base.record.log_end.offset, base.record.id == prefer), reverse=True)
    for base in bases:
        walk = walk_log(base.record.log_end, Goal(wanted), lineage.backups)
        if walk.done:
            return build_path(base, walk, bases[0], unfit, lineage)
    return None


def _path_to_backup(backup_id: str, backups: Sequence[ArchivedBackup], unfit: Mapping[str, str]) -> RestorePath | None:
    for backup in backups:
        if backup.record.id == backup_id:
            return _path_to_position(backup.record.log_end, backups, unfit, prefer=backup_id)
    return None


def _path_to_latest(backups: Sequence[ArchivedBackup], unfit: Mapping[str, str]) -> RestorePath | None:
    newest_first = sorted(
        (backup.record for backup in backups),
        key=lambda record: (record.covers_until, record.log_end.offset, record.started_at, record.id),
        reverse=True,
    )
    skipped: list[Reason] = []
    for record in newest_first:
        path = _path_to_position(record.log_end, backups, unfit)
        if path is not None:
            return replace(path, reasons=(*skipped, *path.reasons))
        skipped.append(Reason("newer-unreachable", f"backup {record.id} is newer, but no full and log lead to its end"))
    return None


def _path_to_time(at: datetime, backups: Sequence[ArchivedBackup], unfit: Mapping[str, str]) -> RestorePath | None:
    for history in _histories_newest_first(backups):
        lineage = lineage_of(history, backups)
        bases = [base for base in bases_of(history, lineage.backups, unfit) if base.record.covers_until <= at]
        # Past this position there is no commit before ``at``: the record that ends there saw none.
        ends = [
            backup.record.log_end
            for backup in lineage.backups
            if backup.record.log_end.history == history and backup.record.covers_until >= at
        ]
        for base in bases:
            start = base.record.log_end
            goal = min((end for end in ends if end >= start), key=lambda end: end.offset, default=None)
            walk = walk_log(start, Goal(goal, at), lineage.backups) if goal is not None else None
            if walk is not None and walk.done:
                return build_path(base, walk, bases[0], unfit, lineage)
    return None


def _histories_newest_first(backups: Sequence[ArchivedBackup]) -> list[str]:
    """After a restore with a clock that went back two histories may cover one moment; the newer one is meant."""
    newest: dict[str, datetime] = {}
    for backup in backups:
        history = backup.record.log_end.history
        newest[history] = max(newest.get(history, backup.record.started_at), backup.record.started_at)
    return sorted(newest, key=lambda history: (newest[history], history), reverse=True)


def build_path(
    base: ArchivedBackup,
    walk: Walk,
    nearest: ArchivedBackup,
    unfit: Mapping[str, str],
    lineage: Lineage,
) -> RestorePath:
    """The path that ``walk`` found from ``base``; ``nearest`` would have been taken if its log had no gap."""
    record, goal = base.record, walk.goal
    reasons = [
        Reason("nearest-full", f"{record.type} {record.id} is the newest before the point; it ends at {record.log_end}")
    ]
    if base is not nearest:
        sentence = f"the log has a gap after {nearest.record.id}, so the older {record.type} {record.id} is used"
        reasons = [Reason("older-full", sentence)]
    reasons.extend(
        Reason("unfit-full", f"{backup.record.id} is not used: {unfit[backup.record.id]}")
        for backup in lineage.backups
        if backup.record.id in unfit
        and backup.record.type.takes_pages
        and backup.record.log_end.history == record.log_end.history
        and record.log_end <= backup.record.log_end <= walk.place
    )
    if walk.logs:
        first, last = walk.logs[0].log.number, walk.logs[-1].log.number
        which = f"{len(walk.logs)} log files, {first} to {last}" if first != last else f"one log file, {first}"
        sentence = f"{which}, named by {', '.join(walk.names)}"
        reasons.append(Reason("log", sentence))
    else:
        reasons.append(Reason("no-log", f"no log is needed after the {record.type}"))
    until = goal.position if goal.at is None else None
    line = page_line(base, lineage.backups)
    below = () if isinstance(line, Reason) else line[:-1]
    if below:
        reasons.insert(1, Reason("express", f"its pages build on {', '.join(one.record.id for one in below)}"))
    named = (*walk.names, *(one.record.id for one in below))
    names = (record.id, *(name for name in dict.fromkeys(named) if name != record.id))
    logs = lineage.logs_as_stored((*own_logs(record), *walk.logs))
    stored = tuple(map(lineage.as_stored, below))
    return RestorePath(lineage.as_stored(base), logs, walk.place, until, goal.at, names, tuple(reasons), stored)


def _not_found(wish: RestoreWish, windows: Sequence[RecoveryWindow], backups: Sequence[ArchivedBackup]) -> NotFound:
    facts = [str(window) for window in windows]
    if not backups:
        because, next_step = "the archive has no backup of this database", "backupctl backup DATABASE --type full"
    elif wish.backup is not None and all(backup.record.id != wish.backup for backup in backups):
        because, next_step = f"no backup has the id {wish.backup}", "backupctl list, and choose an id that it shows"
    elif not windows:
        because, next_step = "the archive has no full that can be used", "backupctl backup DATABASE --type full"
    else:
        because = f"what can be restored is {'; '.join(facts)}"
        next_step = f"backupctl restore DATABASE --at {_moment(windows[-1].to_time)}"
    return NotFound(f"nothing in the archive leads to {wish}", because=because, next_step=next_step, windows=facts)
