"""Cuts closed log files out of the active's ``-wal``: whole transactions, verified, fsynced before they are shipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from backupd.engines.sqlite import wal
from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.logfile import ClosedFile, LogHeader, LogKindCode, LogWriter, control_body
from backupd.engines.sqlite.pagemap import Changes, PageMap
from backupd.engines.sqlite.source import ActiveFile
from backupd.engines.sqlite.walindex import WalIndex
from backupd.errors import NotHealthy

CHUNK_BYTES = 4 << 20
NO_DIGEST = bytes(32)
READ_TRIES = 3


class LogGapError(Exception):
    """Frames may have been lost to us; only a comparison of every page can tell (never reaches a person)."""


def damaged_frame(source: ActiveFile, frame: int) -> NotHealthy:
    """A committed frame that cannot be read as it was written."""
    return NotHealthy(
        f"cannot ship the log of {source.path}",
        because=f"frame {frame} of its -wal does not match its checksum (read {READ_TRIES} times)",
        next_step=f"sqlite3 {source.path} 'PRAGMA integrity_check', and check the disk; "
        "the archive holds all up to the frame before",
    )


@dataclass(frozen=True, slots=True)
class Cursor:
    """What has been cut so far: the end of the newest closed log, in the log's terms and in the ``-wal``'s.

    ``frame`` is the last cut frame of the generation ``salts`` (0: none yet),
    ``sums`` the cumulative WAL sums stored in it.
    """

    history: str
    epoch: int
    number: int
    offset: int
    salts: tuple[int, int]
    frame: int
    sums: tuple[int, int]
    big_endian: bool
    digest: bytes
    checksum: int
    pages: int
    page_bytes: int

    @classmethod
    def after(cls, header: LogHeader, digest: bytes) -> Cursor:
        """Where a closed log ends."""
        return cls(
            history=header.history,
            epoch=header.epoch,
            number=header.number,
            offset=header.end_offset,
            salts=(header.salt1, header.salt2),
            frame=header.frame_last,
            sums=header.sums_out,
            big_endian=header.wal_magic == wal.MAGIC_BIG,
            digest=digest,
            checksum=header.checksum_after,
            pages=header.pages_after,
            page_bytes=header.page_bytes,
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """A commit boundary as the poll saw it."""

    frame: int
    pages: int
    unix_us: int


class Cutter:
    """Knows what was cut, and cuts more; the only writer of the active's log directory."""

    def __init__(
        self, source: ActiveFile, logs: LogDir, cursor: Cursor, page_map: PageMap, now_us: Callable[[], int]
    ) -> None:
        self.source = source
        self.logs = logs
        self.cursor = cursor
        self.map = page_map
        self.now_us = now_us
        self.seen: list[Seen] = []
        self.parent: tuple[str, int] | None = None

    def see(self, index: WalIndex) -> None:
        """Remember the newest commit boundary and when it was seen."""
        last = self.seen[-1].frame if self.seen else self.cursor.frame
        if index.max_frame > last:
            self.seen.append(Seen(index.max_frame, index.page_count, self.now_us()))

    @property
    def unshipped_frames(self) -> int:
        """Frames that were seen but not cut."""
        return self.seen[-1].frame - self.cursor.frame if self.seen else 0

    @property
    def oldest_unshipped_us(self) -> int | None:
        """When the oldest commit that is not cut yet was seen."""
        return self.seen[0].unix_us if self.seen else None

    def enter_generation(self, salts: tuple[int, int]) -> None:
        """The ``-wal`` was restarted after exactly what was cut; go on at its first frame."""
        self.cursor = replace(self.cursor, salts=salts, frame=0, sums=(0, 0))
        self.seen = []

    def cut(self, index: WalIndex, bytes_max: int) -> ClosedFile | None:
        """Cut one log: all that ``index`` shows, or less at a commit boundary to stay near ``bytes_max``.

        Answers None when there is nothing to cut.  The caller holds a read mark
        (or the write lock), so that the frames cannot be overwritten.

        Raises:
            LogGapError: the log was restarted in between.
            NotHealthy: the frames are damaged on disk, or the disk refuses.
        """
        cursor = self.cursor
        if (index.salt1, index.salt2) != cursor.salts:
            raise LogGapError("the log was restarted before its frames were cut")
        self.see(index)
        if index.max_frame <= cursor.frame:
            return None
        cursor = self._with_generation_start(cursor)
        target = self._target(bytes_max)
        writer = LogWriter(self.logs.history(cursor.history).directory, cursor.number + 1)
        try:
            changes = Changes(cursor.page_bytes)
            sums, pages_after = self._copy_frames(writer, changes, cursor, target)
            if target == index.max_frame and sums != index.frame_sums:
                raise damaged_frame(self.source, target)
            self.source.sync_wal()
            after = self.source.index()
            if (after.salt1, after.salt2) != cursor.salts:
                raise LogGapError("the log was restarted while its frames were cut")
            return self._finish(writer, changes, cursor=cursor, target=target, sums=sums, pages_after=pages_after)
        except BaseException:
            writer.abandon()
            raise

    def _with_generation_start(self, cursor: Cursor) -> Cursor:
        if cursor.frame:
            return cursor
        header = wal.parse_header(self.source.read_wal(0, wal.WAL_HEADER_BYTES))
        if header is None or (header.salt1, header.salt2) != cursor.salts:
            raise LogGapError("the header of the log is not the one of this generation")
        return replace(cursor, sums=header.sums, big_endian=header.big_endian)

    def _target(self, bytes_max: int) -> int:
        limit = self.cursor.frame + max(1, bytes_max // wal.frame_bytes(self.cursor.page_bytes))
        fitting = [mark.frame for mark in self.seen if mark.frame <= limit]
        return fitting[-1] if fitting else self.seen[0].frame

    def _copy_frames(
        self, writer: LogWriter, changes: Changes, cursor: Cursor, target: int
    ) -> tuple[tuple[int, int], int]:
        frame_bytes = wal.frame_bytes(cursor.page_bytes)
        at_once = max(1, CHUNK_BYTES // frame_bytes)
        frame, sums, commit = cursor.frame, cursor.sums, 0
        while frame < target:
            count = min(at_once, target - frame)
            data, sums = self._read_verified(cursor, frame, count, sums)
            writer.append(data)
            changes.add(data)
            commit = int(wal.frame_headers(data, cursor.page_bytes)["commit"][-1])
            frame += count
        if commit == 0:
            raise damaged_frame(self.source, target)
        return sums, commit

    def _read_verified(
        self, cursor: Cursor, frame: int, count: int, sums_in: tuple[int, int]
    ) -> tuple[bytes, tuple[int, int]]:
        wanted = count * wal.frame_bytes(cursor.page_bytes)
        good = 0
        for _ in range(READ_TRIES):
            data = self.source.read_wal(wal.frame_offset(frame + 1, cursor.page_bytes), wanted)
            if len(data) == wanted and wal.salts_count(data, cursor.page_bytes, *cursor.salts) == count:
                good, sums = wal.verify_frames(data, cursor.page_bytes, sums_in, cursor.big_endian)
                if good == count:
                    return data, sums
        raise damaged_frame(self.source, frame + good + 1)

    def _finish(
        self,
        writer: LogWriter,
        changes: Changes,
        *,
        cursor: Cursor,
        target: int,
        sums: tuple[int, int],
        pages_after: int,
    ) -> ClosedFile:
        marks = [mark for mark in self.seen if mark.frame <= target]
        for mark in marks:
            writer.mark(mark.frame - cursor.frame, mark.pages, mark.unix_us)
        header = replace(
            self._header(LogKindCode.FRAMES, cursor),
            end_offset=cursor.offset + target - cursor.frame,
            frame_first=cursor.frame + 1,
            frame_last=target,
            sums_in=cursor.sums,
            sums_out=sums,
            pages_after=pages_after,
            checksum_after=self.map.plan(changes, pages_after),
            first_commit_us=marks[0].unix_us,
            last_commit_us=marks[-1].unix_us,
        )
        closed = self.close(writer, header)
        self.map.apply(changes, pages_after)
        self.seen = [mark for mark in self.seen if mark.frame > target]
        return closed

    def _header(self, kind: LogKindCode, cursor: Cursor) -> LogHeader:
        return LogHeader(
            kind=kind,
            page_bytes=cursor.page_bytes,
            history=cursor.history,
            number=cursor.number + 1,
            epoch=cursor.epoch,
            start_offset=cursor.offset,
            end_offset=cursor.offset + 1,
            salt1=cursor.salts[0],
            salt2=cursor.salts[1],
            wal_magic=wal.MAGIC_BIG if cursor.big_endian else wal.MAGIC_LITTLE,
            frame_first=cursor.frame,
            frame_last=cursor.frame,
            sums_in=cursor.sums,
            sums_out=cursor.sums,
            pages_before=cursor.pages,
            pages_after=cursor.pages,
            checksum_before=cursor.checksum,
            checksum_after=cursor.checksum,
            previous_digest=cursor.digest,
            first_commit_us=0,
            last_commit_us=0,
            body_bytes=0,
            marks_count=0,
            parent_history=self.parent[0] if self.parent else "",
            parent_offset=self.parent[1] if self.parent else 0,
        )

    def header(self, kind: LogKindCode) -> LogHeader:
        """A header for the next log that changes nothing yet: same state, one entry."""
        return self._header(kind, self.cursor)

    def writer(self) -> LogWriter:
        """A writer for the next log."""
        return LogWriter(self.logs.history(self.cursor.history).directory, self.cursor.number + 1)

    def close(self, writer: LogWriter, header: LogHeader) -> ClosedFile:
        """Make the log durable under its name; from here on the cursor stands at its end."""
        closed = writer.finish(header)
        self.cursor = Cursor.after(closed.header, closed.digest)
        self.parent = None
        return closed

    def control(self, payload: dict[str, Any]) -> ClosedFile:
        """Close a control record that carries ``payload`` (JSON); it changes no page."""
        writer = self.writer()
        try:
            writer.append(control_body(payload))
            now = self.now_us()
            writer.mark(1, self.cursor.pages, now)
            return self.close(
                writer, replace(self.header(LogKindCode.CONTROL), first_commit_us=now, last_commit_us=now)
            )
        except BaseException:
            writer.abandon()
            raise
