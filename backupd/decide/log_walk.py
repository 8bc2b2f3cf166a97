"""Follows the log through the archive from one position on, file by file, without a gap."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from backupd.decide.chains import follows
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup, BackupRecord, LogFile, LogKind, StoredLog


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a walk along the log may end: at a position, or at the first commit after a moment before that."""

    position: Position | None
    at: datetime | None = None

    def reached_at(self, place: Position) -> bool:
        """Whether nothing after ``place`` is wanted."""
        return self.position is not None and place >= self.position

    def begins_late(self, log: LogFile) -> bool:
        """Whether every commit of ``log`` is after the moment."""
        return self.at is not None and log.first_commit_at is not None and log.first_commit_at > self.at

    def ends_late(self, log: LogFile) -> bool:
        """Whether the last commit of ``log`` is after the moment."""
        return self.at is not None and log.last_commit_at is not None and log.last_commit_at > self.at


@dataclass(slots=True)
class Walk:
    """The log files found so far, the fewest backups that name them, and whether the goal is reached."""

    place: Position
    goal: Goal
    logs: list[StoredLog]
    names: list[str]
    done: bool

    def take_from(self, lender: BackupRecord) -> bool:
        """Go on along the log files of ``lender``; False when it has none that continues here."""
        moved = False
        index = bisect_left(lender.logs, self.place.offset, key=lambda stored: stored.log.start.offset)
        for stored in lender.logs[index:]:
            log = stored.log
            fits = follows(self.logs[-1], stored) if self.logs else log.kind is not LogKind.SEED
            if self.done or not fits or log.start != self.place or not _beyond(log.end, self.place):
                break
            if self.goal.begins_late(log):
                self.done = True
                break
            if not moved:
                self.names.append(lender.id)
            moved = True
            self.logs.append(stored)
            self.place = log.end
            self.done = self.goal.reached_at(self.place) or self.goal.ends_late(log)
        return moved


def walk_log(start: Position, goal: Goal, backups: Sequence[ArchivedBackup], *, parted: bool = False) -> Walk:
    """Follow the log from ``start`` without a gap until the goal is reached or nothing continues.

    At every turn the increment that reaches furthest lends its log files, so a
    differential is preferred to the incrementals that it spans.  With ``parted`` one that
    goes on in another history lends too, what lies before the parting of the ways.
    """
    walk = Walk(start, goal, [], [], done=goal.reached_at(start))
    lenders = [
        backup.record
        for backup in backups
        if backup.record.logs
        and (_beyond(backup.record.log_end, start) or (parted and not backup.record.log_end.same_history(start)))
    ]
    lenders.sort(key=lambda record: (record.log_end.offset, record.id), reverse=True)
    while not walk.done and any(walk.take_from(lender) for lender in lenders):
        pass
    return walk


def _beyond(end: Position, place: Position) -> bool:
    return end.same_history(place) and end > place
