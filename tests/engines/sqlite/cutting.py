"""Cuts real log files out of a live ``-wal``, as the capture process does, for tests of what comes after it."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from backupd.engines.sqlite import wal
from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.logfile import (
    ClosedFile,
    LogHeader,
    LogKindCode,
    LogWriter,
    control_body,
    delta_frames,
)
from backupd.engines.sqlite.pagemap import Changes, PageMap
from backupd.engines.sqlite.walindex import read_index

HISTORY = "00112233445566ff"


class Active:
    """A database in WAL mode that one connection writes to, and the log that was cut from it so far."""

    def __init__(self, directory: Path, *, page_bytes: int = 4096, history: str = HISTORY, epoch: int = 1) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "app.db"
        self.history, self.epoch = history, epoch
        self.page_bytes = page_bytes
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.execute(f"PRAGMA page_size={page_bytes}")
        self.db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA wal_autocheckpoint=0")
        self.db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
        self.logs = LogDir(directory / "log")
        self.now_us = 1_000_000
        self.marks: list[tuple[int, int, int]] = []
        self.last: ClosedFile | None = None
        self.map = PageMap(page_bytes)
        self.frame, self.sums, self.salts = 0, (0, 0), (0, 0)

    def content(self) -> bytes:
        """The database as of the last commit."""
        return self.db.serialize()

    def write(self, rows: int = 50, size: int = 500) -> None:
        """One transaction, and a mark for it."""
        self.db.execute("BEGIN")
        self.db.executemany("INSERT INTO t(body) VALUES (randomblob(?))", [(size,)] * rows)
        self.db.execute("COMMIT")
        self.see()

    def see(self) -> None:
        """What a poll of the wal-index does: note the commit boundary and the time."""
        index = read_index(self.path.with_name("app.db-shm").read_bytes())
        assert index is not None
        self.now_us += 1_000_000
        self.marks.append((index.max_frame, index.page_count, self.now_us))

    @property
    def logs_here(self) -> Path:
        """The directory of the history."""
        return self.logs.history(self.history).directory

    def header(self, kind: LogKindCode) -> LogHeader:
        """A header that goes on from the last log and changes nothing."""
        before = self.last.header if self.last else None
        return LogHeader(
            kind=kind,
            page_bytes=self.page_bytes,
            history=self.history,
            number=before.number + 1 if before else 1,
            epoch=self.epoch,
            start_offset=before.end_offset if before else 0,
            end_offset=(before.end_offset if before else 0) + 1,
            pages_before=before.pages_after if before else 0,
            pages_after=self.map.pages,
            checksum_before=before.checksum_after if before else 0,
            checksum_after=self.map.checksum,
            previous_digest=self.last.digest if self.last else bytes(32),
        )

    def close(self, body: bytes, header: LogHeader, marks: list[tuple[int, int, int]]) -> ClosedFile:
        """Write one log file."""
        writer = LogWriter(self.logs_here, header.number)
        if body:
            writer.append(body)
        for mark in marks:
            writer.mark(*mark)
        self.last = writer.finish(header)
        return self.last

    def seed(self) -> tuple[ClosedFile, Path]:
        """The SEED log of a history, and the seed file."""
        path = self.directory / "seed"
        path.write_bytes(self.content())
        self.map = PageMap.of_file(path, self.page_bytes)
        index = read_index(self.path.with_name("app.db-shm").read_bytes())
        assert index is not None
        self._stand_at(index.max_frame)
        self.now_us += 1
        return self.close(b"", self.header(LogKindCode.SEED), [(1, self.map.pages, self.now_us)]), path

    def _stand_at(self, frame: int) -> None:
        header = wal.parse_header(self.path.with_name("app.db-wal").read_bytes()[:32])
        assert header is not None
        self.frame, self.salts, self.marks = frame, (header.salt1, header.salt2), []
        self.sums = header.sums
        if frame:
            data = self.path.with_name("app.db-wal").read_bytes()[wal.frame_offset(frame, self.page_bytes) :]
            self.sums = wal.stored_sums(data[:24])

    def cut(self) -> ClosedFile:
        """Everything committed since the last cut as a FRAMES log."""
        data = self.path.with_name("app.db-wal").read_bytes()
        index = read_index(self.path.with_name("app.db-shm").read_bytes())
        top = wal.parse_header(data)
        assert index is not None
        assert top is not None
        if (index.salt1, index.salt2) != self.salts:
            self.frame, self.sums, self.salts = 0, top.sums, (index.salt1, index.salt2)
        body = data[wal.frame_offset(self.frame + 1, self.page_bytes) :][
            : (index.max_frame - self.frame) * wal.frame_bytes(self.page_bytes)
        ]
        good, sums = wal.verify_frames(body, self.page_bytes, self.sums, top.big_endian)
        assert good == index.max_frame - self.frame
        assert sums == index.frame_sums
        changes = Changes(self.page_bytes)
        changes.add(body)
        before = self.map.copy()
        self.map.apply(changes, index.page_count)
        start = self.last.header.end_offset if self.last else 0
        header = replace(
            self.header(LogKindCode.FRAMES),
            end_offset=start + good,
            salt1=index.salt1,
            salt2=index.salt2,
            wal_magic=top.magic,
            frame_first=self.frame + 1,
            frame_last=index.max_frame,
            sums_in=self.sums,
            sums_out=sums,
            pages_before=before.pages,
            pages_after=index.page_count,
            checksum_before=before.checksum,
            checksum_after=self.map.checksum,
        )
        marks = [(frame - self.frame, pages, at) for frame, pages, at in self.marks if frame > self.frame]
        if not marks or marks[-1][0] != good:
            self.now_us += 1_000_000
            marks.append((good, index.page_count, self.now_us))
        self.frame, self.sums, self.marks = index.max_frame, sums, []
        return self.close(body, header, marks)

    def control(self, content: dict[str, object]) -> ClosedFile:
        """A CONTROL log."""
        self.now_us += 1
        return self.close(control_body(content), self.header(LogKindCode.CONTROL), [(1, self.map.pages, self.now_us)])

    def fork(self, history: str, epoch: int | None = None) -> ClosedFile:
        """Begin a new history with a DELTA of all pages that differ from what was cut."""
        assert self.last is not None
        parent, before = self.last.header, self.map.copy()
        content = self.content()
        pages = [content[at : at + self.page_bytes] for at in range(0, len(content), self.page_bytes)]
        (self.directory / "now").write_bytes(content)
        self.map = PageMap.of_file(self.directory / "now", self.page_bytes)
        numbers = [
            number
            for number in range(1, len(pages) + 1)
            if number == 1 or number > before.pages or before.hashes[number - 1] != self.map.hashes[number - 1]
        ]
        body = delta_frames(numbers, b"".join(pages[number - 1] for number in numbers), len(pages))
        self.history, self.epoch, self.last = history, epoch or self.epoch, None
        header = replace(
            self.header(LogKindCode.DELTA),
            end_offset=len(numbers),
            pages_before=before.pages,
            checksum_before=before.checksum,
            parent_history=parent.history,
            parent_offset=parent.end_offset,
        )
        index = read_index(self.path.with_name("app.db-shm").read_bytes())
        assert index is not None
        self._stand_at(index.max_frame)
        self.now_us += 1
        return self.close(body, header, [(len(numbers), len(pages), self.now_us)])

    def close_all(self) -> None:
        """Close the connection."""
        self.db.close()
