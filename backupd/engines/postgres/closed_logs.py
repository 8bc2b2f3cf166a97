"""The closed WAL segments of the passive that a backup takes: in order, without a gap, each checked whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.engines.postgres.timelines import (
    TimelineStory,
    history_at,
    older_than,
    segment_history,
    story_told_by,
    timeline_story,
)
from backupd.engines.postgres.wal_lines import TAKES_SEVERAL_RMGRS
from backupd.engines.postgres.wal_names import lsn_text, parse_lsn, segment_name
from backupd.engines.postgres.wal_restore_point import RESTORE_POINT_BYTES, begins_with_rest
from backupd.engines.postgres.wal_segment import SegmentExpected, check_bytes, read_segment, segment_digest
from backupd.engines.postgres.waldump import Parsed, parse_records
from backupd.errors import DamageFound, NotHealthy
from backupd.model.kinds import LogKind
from backupd.model.position import Position, rebase
from backupd.model.records import RESTORE_POINTS_MAX, LogFile, RestorePoint
from backupd.ports import ClosedLog

if TYPE_CHECKING:
    from backupd.engines.postgres.connect import Server

RECORDS_UNPARSED = "records unparsed: pg_waldump of the server's version is not on this host"

_Look = tuple[int, int, int]  # inode, size and time of change: whether a file is still the one that was read


@dataclass(frozen=True, slots=True)
class _Seen:
    """A segment that was read: as what file, its digest, and what is wrong with it."""

    look: _Look
    digest: str
    damage: DamageFound | None


class CopyLog:
    """The log of one copy on this host's disk.

    One object serves one run: what was read and parsed for the list is not read
    again by ``check`` as long as the file is the same.

    Args:
        data_directory: of the passive.
        system_identifier: of the cluster.
        major: the server's major version.
        segment_bytes: the cluster's segment size.
        waldump: pg_waldump of the server's version (``waldump.find_waldump``), or None.
        server: of the same copy: says how far it has received, and has the history files that are not on the disk.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        system_identifier: int,
        major: int,
        segment_bytes: int,
        waldump: Path | None = None,
        server: Server | None = None,
    ) -> None:
        self._data_directory = data_directory
        self._wal = data_directory / "pg_wal"
        self._server = server
        self._system_identifier = system_identifier
        self._major = major
        self._segment_bytes = segment_bytes
        self._waldump = waldump
        self._seen: dict[Path, _Seen] = {}
        self._stories: dict[int, TimelineStory] = {}
        self._cut_off: set[int] = set()  # segments of whose restore points nobody can be sure

    @property
    def notes(self) -> tuple[str, ...]:
        """What a backup's record should say about how its log was checked."""
        return () if self._waldump is not None else (RECORDS_UNPARSED,)

    def closed(self, after: Position, until: Position) -> list[ClosedLog]:
        """The segments that cover the log after ``after`` up to ``until``, oldest first; damaged ones are among them.

        Of a segment that two timelines wrote into it is the younger one's file: that holds
        what it took over from its parent.

        Args:
            after: the end of a segment, on the lineage of ``until``'s history.
            until: the end of a segment that the copy has received whole; without a server nobody else can know that.

        Raises:
            NotHealthy: there is a gap, with the missing file's name; the histories differ; or ``until`` is yet to come.
            DamageFound: the history file of ``until`` cannot be understood.
        """
        size, history = self._segment_bytes, until.history
        story = self._story(history)
        start = rebase(after, history, story.ancestry)
        if start is None:
            because = f"{lsn_text(after.offset)} of timeline {after.history} is not on the way to timeline {history}"
            raise _gap(after, until, because, [])
        if start.offset % size or until.offset % size:
            raise ValueError(f"{after} and {until} are not ends of segments of {size} bytes")
        self._refuse_what_is_to_come(until)
        segnos = range(start.offset // size, until.offset // size)
        owners = {n: segment_history(n, size, history, story.ancestry) for n in segnos}
        paths = {n: self._wal / segment_name(int(owners[n]), n, size) for n in segnos}
        missing = [path.name for path in paths.values() if not path.is_file()]
        if missing:
            more = f", nor are {len(missing) - 1} more" if len(missing) > 1 else ""
            raise _gap(after, until, f"{missing[0]} is not in {self._wal}{more}", missing)
        for n, path in paths.items():
            self._read(path, self._expected(owners[n], n, story))
        parsed = self._parse(paths, history, story)
        return [ClosedLog(self._log_file(n, owners[n], p, parsed, story), p) for n, p in paths.items()]

    def check(self, closed: ClosedLog) -> None:
        """Verify one segment whole: headers, records (where pg_waldump is), and that it is still what was listed.

        Raises:
            DamageFound: something does not match; file and page or LSN are named.
            NotHealthy: it is gone, or cannot be read.
        """
        log, path = closed.log, closed.path
        story = self._story(log.history)
        if path not in self._seen or self._seen[path].look != _look(path):
            self._read(path, self._expected(log.history, log.number, story))
            self._parse({log.number: path}, log.history, story)
        seen = self._seen[path]
        if seen.damage is not None:
            raise seen.damage
        if seen.digest != log.digest:
            raise DamageFound(
                f"the log segment {path.name} has changed since it was listed",
                because=f"its digest was {log.digest[:16]}… and is {seen.digest[:16]}… ({path})",
                next_step="look who writes into pg_wal of the passive; a closed segment never changes",
                path=str(path),
            )

    def _refuse_what_is_to_come(self, until: Position) -> None:
        """A file that waits to be used again has the name of a segment that is still to come: that is no damage."""
        if self._server is None:
            return
        there = self._server.value(
            "SELECT (CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) "
            "ELSE pg_current_wal_flush_lsn() END)::text"
        )
        if there is None or parse_lsn(there) < until.offset:
            raise NotHealthy(
                f"{self._server.words} has not received the log up to {lsn_text(until.offset)} yet",
                because=f"it is at {there or 'no place at all'}",
                next_step="look whether it streams (backupctl status), and try again",
            )

    def _story(self, history: str) -> TimelineStory:
        timeline = int(history)
        if timeline not in self._stories:
            later = (story_told_by(story, timeline) for number, story in self._stories.items() if number > timeline)
            told = next(filter(None, later), None)
            self._stories[timeline] = told or timeline_story(timeline, self._data_directory, self._server)
        return self._stories[timeline]

    def _expected(self, owner: str, segno: int, story: TimelineStory) -> SegmentExpected:
        ancestry = older_than(owner, story.ancestry)
        return SegmentExpected(self._system_identifier, self._major, int(owner), segno, self._segment_bytes, ancestry)

    def _read(self, path: Path, expected: SegmentExpected) -> _Seen:
        look = _look(path)
        data = read_segment(path)
        digest, damage = segment_digest(data), None
        try:
            check_bytes(path, data, digest, expected)
        except DamageFound as found:
            damage = found
        self._seen[path] = _Seen(look, digest, damage)
        return self._seen[path]

    def _parse(self, paths: Mapping[int, Path], newest_owner: str, story: TimelineStory) -> Parsed:
        """Parse the records of neighbouring segments and remember what is wrong."""
        if self._waldump is None or not paths:
            return Parsed()
        first, size = min(paths), self._segment_bytes
        files = dict(paths)
        if first > 0:
            # A record that begins in the segment before and ends in the first one can only be checked from there.
            owner = segment_history(first - 1, size, str(story.timeline), story.ancestry)
            before = self._wal / segment_name(int(owner), first - 1, size)
            if self._is_sound(before, self._expected(owner, first - 1, story)):
                files[first - 1] = before
            elif 0 < begins_with_rest(paths[first]) <= RESTORE_POINT_BYTES:
                self._cut_off.add(first)
        parsed = parse_records(
            self._waldump,
            files,
            timeline=int(newest_owner),
            segment_bytes=size,
            only_from=first,
            points=self._major >= TAKES_SEVERAL_RMGRS,
        )
        self._cut_off |= parsed.doubtful
        for segno, said in parsed.damage.items():
            self._remember(paths[segno], said)
        return parsed

    def _finds_points(self, segno: int) -> bool:
        """Version 14's program would have to run once more for it (see ``wal_lines``): then nobody looks here."""
        return self._waldump is not None and self._major >= TAKES_SEVERAL_RMGRS and segno not in self._cut_off

    def _is_sound(self, path: Path, expected: SegmentExpected) -> bool:
        """Whether a neighbour that no backup takes now is there and sound: it may be recycled at any moment."""
        try:
            return self._read(path, expected).damage is None
        except NotHealthy:
            return False

    def _remember(self, path: Path, said: str) -> None:
        seen = self._seen[path]
        if seen.damage is not None:
            return
        damage = DamageFound(
            f"the log segment {path.name} is damaged",
            because=f"{said} ({path})",
            next_step=f"compare {path.name} with the other copy's, and look at the disk",
            path=str(path),
        )
        self._seen[path] = _Seen(seen.look, seen.digest, damage)

    def _log_file(self, segno: int, owner: str, path: Path, parsed: Parsed, story: TimelineStory) -> LogFile:
        size = self._segment_bytes
        start = segno * size
        before = history_at(start - 1, owner, older_than(owner, story.ancestry)) if start else owner
        first, latest = parsed.commits.get(segno, (None, None))
        return LogFile(
            history=owner,
            number=segno,
            kind=LogKind.SEGMENT,
            start=Position(before, start),
            end=Position(owner, start + size),
            size_bytes=size,
            digest=self._seen[path].digest,
            previous_digest="",
            first_commit_at=first,
            last_commit_at=latest,
            ancestry=self._story(owner).text if before != owner else "",
            restore_points=_points(owner, parsed.points.get(segno, [])) if self._finds_points(segno) else None,
        )


def _points(owner: str, found: Sequence[tuple[int, str, datetime | None]]) -> tuple[RestorePoint, ...] | None:
    """As they are kept with the segment; None where there are too many, or one whose name is no plain text."""
    # Recovery stops before the first record that does not begin before where it shall stop.
    points = [RestorePoint(name, Position(owner, lsn), Position(owner, lsn + 1), at) for lsn, name, at in found]
    plain = len(points) <= RESTORE_POINTS_MAX and all(point.has_plain_name for point in points)
    return tuple(points) if plain else None


def _look(path: Path) -> _Look:
    try:
        found = os.stat(path)
    except OSError as error:
        raise NotHealthy(
            f"the log segment {path.name} is gone",
            because=f"{path}: {error.strerror or error}",
            next_step="look whether the slot backupd of this copy is lost (backupctl status)",
        ) from error
    return found.st_ino, found.st_size, found.st_mtime_ns


def _gap(after: Position, until: Position, because: str, missing: list[str]) -> NotHealthy:
    return NotHealthy(
        f"the passive's log from {lsn_text(after.offset)} to {lsn_text(until.offset)} has a gap",
        because=because,
        next_step="take a full (backupctl backup --type full)",
        missing=missing,
    )
