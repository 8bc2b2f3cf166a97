"""Finds one commit in the archived log: by its transaction's number, or a restore point by its name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from backupd.decide.log_near import LogStretch, log_near
from backupd.decide.restore_points import all_noted
from backupd.errors import NotFound, UsageProblem
from backupd.model.records import RestorePoint, StoredLog
from backupd.ports import ClosedLog, CommitFinder, FoundCommit
from backupd.runs.commits import fetched, refuse_too_much, same
from backupd.runs.context import RunContext
from backupd.runs.looking import looking

_AT_ONCE = 8


def find_xid(context: RunContext, xid: int) -> FoundCommit:
    """The commit of a transaction: log files are cut in halves by their numbers, then read on to the commit.

    Raises:
        UsageProblem: the engine gives transactions no numbers, or two histories have one of this number:
            after a restore the server counts on from there.
        NotFound: the archived log has no commit of it, or it was rolled back.
    """
    finder = context.commit_finder()
    found: list[FoundCommit] = []
    undone: NotFound | None = None
    for stretch in _stretches_newest_first(context):
        try:
            one = _in_stretch(context, finder, stretch, xid)
        except NotFound as rolled_back:
            undone = rolled_back
            continue
        if one is not None and not any(same(one, other) for other in found):
            found.append(one)
    if len(found) > 1:
        ways = " or ".join(f"--before-position {finder.text(one.position)}" for one in found)
        times = "; ".join(f"{one.at.isoformat()} in history {one.position.history}" for one in found if one.at)
        raise UsageProblem(
            f"transaction {xid} of {context.database} is not one",
            because=f"after a restore numbers come again: it was committed {times}",
            next_step=f"say which, with {ways}",
        )
    if found:
        return found[0]
    raise undone or NotFound(
        f"the archived log of {context.database} has no commit of transaction {xid}",
        because="no archived log file holds it; it is newer than the last backup, or its log is gone",
        next_step=f"backupctl backup {context.database} --type incremental, then the same again; "
        f"or look: backupctl timeline {context.database} --commits --near TIME",
    )


def _in_stretch(context: RunContext, finder: CommitFinder, stretch: LogStretch, xid: int) -> FoundCommit | None:
    with looking(context) as place:
        first = _first_with(context, finder, stretch.logs, xid, place)
        for logs in _in_parts(context, finder, stretch.logs[first:], place):
            found = finder.ended(logs, xid)
            if found is not None:
                return found
    return None


def _first_with(context: RunContext, finder: CommitFinder, logs: Sequence[StoredLog], xid: int, place: Path) -> int:
    """The first log file whose greatest number is not before ``xid``; numbers grow along the log."""
    low, high = 0, len(logs)
    while low < high:
        middle = (low + high) // 2
        numbers, at = None, middle
        while numbers is None and at < high:
            [one] = fetched(context, finder, [logs[at]], place / "half", told="looking for the transaction")
            numbers, at = finder.numbers([one]), at + 1
            one.path.unlink()
        if numbers is None:
            high = middle  # nothing of any transaction from here on
        elif numbers[1] >= xid:
            high = middle
        else:
            low = at
    return max(0, low - 1)  # a record may begin in the file before


def find_point(context: RunContext, name: str) -> RestorePoint:
    """The newest restore point of that name in the archived log; log is read only where no backup has noted them.

    Raises:
        NotFound: there is none.
    """
    finder = context.commit_finder()
    known: list[str] = []
    for stretch in _stretches_newest_first(context):
        for part in _parts_from_the_end(stretch.logs):
            for point in reversed(_points_in(context, finder, part)):
                if point.name == name:
                    return point
                if not point.is_own:
                    known.append(point.name)
    names = ", ".join(repr(each) for each in dict.fromkeys(known[:20]))
    raise NotFound(
        f"the archived log of {context.database} has no restore point {name!r}",
        because=f"it has {names}" if names else "it has none at all",
        next_step=f"backupctl timeline {context.database} --points",
    )


def _points_in(context: RunContext, finder: CommitFinder, part: Sequence[StoredLog]) -> Sequence[RestorePoint]:
    """The restore points of neighbouring files, oldest first."""
    if all_noted(part):
        return [point for stored in part for point in stored.log.restore_points or ()]
    with looking(context) as place:
        found = finder.points(fetched(context, finder, part, place / "log", told="looking for restore points"))
        return [RestorePoint(one.name, one.position, one.after, one.at) for one in found]


def find_points(context: RunContext, since: datetime, until: datetime) -> list[RestorePoint]:
    """Every restore point of that time that no backup has noted: the log is read for them.

    Raises as ``find_commits``, but no log of that time is no error.
    """
    finder = context.commit_finder()
    found: dict[tuple[str, int], RestorePoint] = {}
    stretches = log_near(context.archive().list().backups, since, until)
    parts = [LogStretch(one.history, tuple(logs)) for one in stretches for logs in _split(one.logs)]
    parts = [one for one in parts if not all_noted(one.logs)]
    refuse_too_much(context, parts, "name a shorter time with --from and --to")
    for part in parts:
        points = _points_in(context, finder, part.logs)
        found |= {one.key: one for one in points if one.at is not None and since <= one.at <= until}
    return list(found.values())


def _stretches_newest_first(context: RunContext) -> list[LogStretch]:
    """By their last commit: the first file of a history may begin with much that is older."""
    backups = context.archive().list().backups
    if not backups:
        return []
    newest = max(backup.record.finished_at for backup in backups)
    oldest = datetime.min.replace(tzinfo=newest.tzinfo)

    def last(stretch: LogStretch) -> datetime:
        return max((one.log.last_commit_at for one in stretch.logs if one.log.last_commit_at), default=oldest)

    return sorted(log_near(backups, oldest, newest), key=last, reverse=True)


def _split(logs: Sequence[StoredLog]) -> list[Sequence[StoredLog]]:
    """In parts; each begins with the last file of the one before, for records that go over its end."""
    return [logs[max(0, at - 1) : at + _AT_ONCE] for at in range(0, len(logs), _AT_ONCE)]


def _parts_from_the_end(logs: Sequence[StoredLog]) -> Iterator[Sequence[StoredLog]]:
    return reversed(_split(logs))


def _in_parts(
    context: RunContext, finder: CommitFinder, logs: Sequence[StoredLog], place: Path
) -> Iterator[list[ClosedLog]]:
    for part in _split(logs):
        yield fetched(context, finder, part, place / "log", told="looking for the commit")
        with suppress(OSError):
            shutil.rmtree(place / "log")
