"""Writing the pages of a log file into a database file: the last version of each page, sorted, in runs.

The file is opened by nobody else, so plain ``pwrite`` is enough.  Applying the
same log again, whole, always ends in the same bytes: that is what a crash at
any moment relies on (reference/sqlite.md, P8).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backupd.engines.sqlite.logfile import entries, read_header, read_marks
from backupd.engines.sqlite.logheader import LogHeader, LogKindCode, damaged, unwritable
from backupd.engines.sqlite.pagemap import Changes, Numbers, PageMap, last_version_indexes
from backupd.engines.sqlite.wal import frame_bytes, frame_headers, pages_view
from backupd.model.position import Position
from backupd.pages import lock_page_number, page_hashes
from backupd.steps import step

# A log up to this size is read once and kept; a longer one is read twice, in pieces.
_KEPT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class PartialEnd:
    """Where a partial replay stopped: after ``entries`` entries, with ``pages`` pages.

    ``unix_us`` is when the commit there was seen, None when nothing of the log was applied.
    """

    position: Position
    entries: int
    pages: int
    unix_us: int | None


def _pieces(fd: int, header: LogHeader, count: int) -> Callable[[], Iterable[memoryview]]:
    """The first ``count`` entries, to be gone through more than once."""
    if count * frame_bytes(header.page_bytes) > _KEPT_BYTES:
        return lambda: entries(fd, header, count)
    kept = [memoryview(bytes(piece)) for piece in entries(fd, header, count)]
    return lambda: kept


def write_log(db_fd: int, log_fd: int, header: LogHeader, count: int, pages_after: int) -> Changes:
    """Bring an open database file to the state after the first ``count`` entries of an open log.

    The file is made ``pages_after`` pages long, and is not synced.  Answers with
    what changed, for the map.  Raises OSError or DamageFound.
    """
    pieces = _pieces(log_fd, header, count)
    numbers = np.concatenate([frame_headers(p, header.page_bytes)["page"].astype(np.uint32) for p in pieces()])
    wanted = np.zeros(len(numbers), bool)
    wanted[last_version_indexes(numbers)] = True
    wanted &= (numbers <= pages_after) & (numbers != lock_page_number(header.page_bytes))
    changes, done = Changes(header.page_bytes), 0
    for piece in pieces():
        rows = pages_view(piece, header.page_bytes)
        chosen = np.flatnonzero(wanted[done : done + len(rows)])
        here = numbers[done : done + len(rows)][chosen]
        order = np.argsort(here)
        here, pages = here[order], rows[chosen[order]]
        done += len(rows)
        if len(here):
            block = pages.data.cast("B")
            _write_runs(db_fd, here, block, header.page_bytes)
            changes.add_pages(here, page_hashes(block, header.page_bytes))
    step("replay.truncate")
    if os.fstat(db_fd).st_size != pages_after * header.page_bytes:
        os.ftruncate(db_fd, pages_after * header.page_bytes)
    return changes


def _write_runs(fd: int, numbers: Numbers, block: memoryview, page_bytes: int) -> None:
    """Write pages, sorted by number, with one call for each run of neighbours."""
    edges = np.flatnonzero(np.diff(numbers) != 1) + 1
    starts = [0, *edges.tolist()]
    for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
        step("replay.write")
        offset = (int(numbers[start]) - 1) * page_bytes
        view = block[start * page_bytes : end * page_bytes]
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written


def _last_commit(fd: int, header: LogHeader, until: int) -> tuple[int, int]:
    """The last commit within the first ``until`` entries: (entries, pages); (0, pages before) when there is none."""
    done, found = 0, (0, header.pages_before)
    for piece in entries(fd, header, min(until, header.entries)):
        commits = frame_headers(piece, header.page_bytes)["commit"]
        ends = np.flatnonzero(commits)
        if len(ends):
            found = (done + int(ends[-1]) + 1, int(commits[ends[-1]]))
        done += len(commits)
    return found


def _stop(fd: int, header: LogHeader, until_offset: int | None, until_us: int | None) -> PartialEnd:
    """Where to stop so that nothing after the wishes is applied."""
    marks = read_marks(fd, header)
    count, pages = header.entries, header.pages_after
    if until_us is not None:
        fitting = 0
        while fitting < len(marks) and marks[fitting].unix_us <= until_us:
            fitting += 1
        count, pages = marks[fitting - 1][:2] if fitting else (0, header.pages_before)
    if until_offset is not None and header.start_offset + count > until_offset:
        wish = max(0, until_offset - header.start_offset)
        count, pages = _last_commit(fd, header, wish) if wish and header.kind.has_pages else (0, header.pages_before)
    seen = [mark.unix_us for mark in marks if mark.entries >= count]
    return PartialEnd(Position(header.history, header.start_offset + count), count, pages, seen[0] if count else None)


def apply_partially(
    db_path: Path,
    log_path: Path,
    *,
    until_offset: int | None = None,
    until_us: int | None = None,
    page_map: PageMap | None = None,
    durable: bool = True,
) -> PartialEnd:
    """Replay a verified log file onto a database file, whole or up to the last commit not after the wishes.

    Args:
        until_offset: apply no commit that ends after this offset of the log's history.
        until_us: apply no commit that was seen after this moment (unix microseconds).
        page_map: the map of ``db_path``; it is brought along, and after a whole log
            its checksum must be the one that the log promises.
        durable: fsync the file at the end.

    Raises:
        DamageFound: the result is not what the log promises.
        NotHealthy: the disk is full or refuses.
    """
    header = read_header(log_path)
    try:
        log_fd = os.open(log_path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise unwritable(log_path, error) from None
    try:
        end = _stop(log_fd, header, until_offset, until_us)
        if end.entries and header.kind.has_pages:
            _apply_open(db_path, log_fd, header, end, page_map=page_map, durable=durable)
    except OSError as error:
        raise unwritable(db_path, error) from None
    finally:
        os.close(log_fd)
    whole = end.entries == header.entries and header.kind is not LogKindCode.SEED
    if page_map is not None and whole and page_map.checksum != header.checksum_after:
        raise damaged(log_path, f"after it the checksum of {db_path} is not the one that the log promises")
    return end


def _apply_open(
    db_path: Path, log_fd: int, header: LogHeader, end: PartialEnd, *, page_map: PageMap | None, durable: bool
) -> None:
    db_fd = os.open(db_path, os.O_RDWR | os.O_CLOEXEC)
    try:
        changes = write_log(db_fd, log_fd, header, end.entries, end.pages)
        if page_map is not None:
            page_map.apply(changes, end.pages)
        if durable:
            step("replay.fsync")
            os.fsync(db_fd)
    finally:
        os.close(db_fd)
