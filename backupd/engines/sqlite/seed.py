"""Makes the passive anew from the active: a full seed file, or a log of only the pages that differ."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backupd.engines.sqlite import wal
from backupd.engines.sqlite.cutter import CHUNK_BYTES, READ_TRIES, Cutter, damaged_frame
from backupd.engines.sqlite.logfile import ClosedFile, LogHeader, LogKindCode, delta_frames
from backupd.engines.sqlite.marks import Stand
from backupd.engines.sqlite.pagemap import Changes, PageMap
from backupd.engines.sqlite.source import ActiveFile
from backupd.errors import NotHealthy
from backupd.pages import lock_page_number, page_hashes
from backupd.steps import step

Pulse = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Overlay:
    """The newest frame of each page in the log: ``pages`` sorted, ``frames`` beside them."""

    pages: NDArray[np.int64]
    frames: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WalState:
    """The ``-wal`` at a stand: the sums at its last frame, their byte order, and the overlay to read through."""

    sums: tuple[int, int]
    big_endian: bool
    overlay: Overlay


def read_wal_state(source: ActiveFile, stand: Stand) -> WalState:
    """Read and verify the whole log up to the stand.

    Raises:
        NotHealthy: a frame is damaged on disk (the mark is held, so nobody can have changed it).
    """
    index = stand.index
    nothing = np.empty(0, dtype=np.int64)
    if index.max_frame == 0:
        return WalState((0, 0), False, Overlay(nothing, nothing))
    if stand.on_slot_zero:
        # The main file holds all of it, and a writer may restart the log under us: do not read it.
        return WalState(index.frame_sums, index.big_endian_sums, Overlay(nothing, nothing))
    header = wal.parse_header(source.read_wal(0, wal.WAL_HEADER_BYTES))
    if header is None or (header.salt1, header.salt2) != (index.salt1, index.salt2):
        raise damaged_frame(source, 1)
    numbers, sums, frame = [], header.sums, 0
    frame_bytes = wal.frame_bytes(index.page_bytes)
    while frame < index.max_frame:
        count = min(max(1, CHUNK_BYTES // frame_bytes), index.max_frame - frame)
        for _ in range(READ_TRIES):
            data = source.read_wal(wal.frame_offset(frame + 1, index.page_bytes), count * frame_bytes)
            good, sums_out = wal.verify_frames(data, index.page_bytes, sums, header.big_endian)
            if good == count:
                break
        else:
            raise damaged_frame(source, frame + good + 1)
        sums = sums_out
        numbers.append(wal.frame_headers(data, index.page_bytes)["page"].astype(np.int64))
        frame += count
    every = np.concatenate(numbers)
    pages, from_end = np.unique(every[::-1], return_index=True)
    return WalState(sums, header.big_endian, Overlay(pages, len(every) - from_end))


def scan_pages(source: ActiveFile, stand: Stand, overlay: Overlay, pulse: Pulse) -> Iterator[tuple[int, memoryview]]:
    """The database as of the stand, in blocks: (number of the first page from 1, bytes).

    Torn reads of the main file can only touch pages that a checkpoint is writing,
    and those are in the overlay (sqlite.md P1).
    """
    page_bytes, pages = stand.index.page_bytes, stand.index.page_count
    at_once = CHUNK_BYTES // page_bytes
    for first in range(1, pages + 1, at_once):
        pulse()
        count = min(at_once, pages - first + 1)
        block = bytearray(count * page_bytes)
        view = memoryview(block)
        found = source.read_main((first - 1) * page_bytes, len(block))
        view[: len(found)] = found
        low, high = np.searchsorted(overlay.pages, [first, first + count])
        for page, frame in zip(overlay.pages[low:high].tolist(), overlay.frames[low:high].tolist(), strict=True):
            offset = wal.frame_offset(frame, page_bytes) + wal.FRAME_HEADER_BYTES
            at = (page - first) * page_bytes
            view[at : at + page_bytes] = source.read_wal(offset, page_bytes)
        _check_covered(
            source,
            first=first,
            count=count,
            in_main=len(found) // page_bytes,
            in_log=overlay.pages[low:high],
            page_bytes=page_bytes,
        )
        yield first, view


def _check_covered(
    source: ActiveFile, *, first: int, count: int, in_main: int, in_log: NDArray[np.int64], page_bytes: int
) -> None:
    missing = set(range(first + in_main, first + count)) - set(in_log.tolist()) - {lock_page_number(page_bytes)}
    if missing:
        raise NotHealthy(
            f"cannot read page {min(missing)} of {source.path}",
            because="it is neither in the file nor in its log",
            next_step=f"sqlite3 {source.path} 'PRAGMA integrity_check'",
        )


def _stand_header(cutter: Cutter, kind: LogKindCode, stand: Stand, state: WalState) -> LogHeader:
    """A header that says: at this log the state is the one of ``stand``."""
    index = stand.index
    return replace(
        cutter.header(kind),
        page_bytes=index.page_bytes,
        salt1=index.salt1,
        salt2=index.salt2,
        wal_magic=wal.MAGIC_BIG if state.big_endian else wal.MAGIC_LITTLE,
        frame_first=index.max_frame,
        frame_last=index.max_frame,
        sums_in=state.sums,
        sums_out=state.sums,
        pages_after=index.page_count,
    )


def unfinished(seed_path: Path) -> Path:
    """Where a seed is while it is written; only a capture touches it, so what a dead one left may be removed."""
    return seed_path.with_name(seed_path.name + "-unfinished")


def remove_unfinished(seed_path: Path) -> None:
    """Remove what a capture left that died while it wrote a seed; a directory that cannot be reached is left."""
    with contextlib.suppress(OSError):
        unfinished(seed_path).unlink()


def seed_full(cutter: Cutter, stand: Stand, seed_path: Path, pulse: Pulse) -> ClosedFile:
    """Write the whole database as of ``stand`` to ``seed_path`` (0600, durable) and close a SEED log for it.

    The seed has its name only once its log is closed: one that was killed on the
    way is under the name of an unfinished one, and nobody can take it.

    Raises:
        NotHealthy: the passive's disk refuses; no seed is left there.
    """
    state = read_wal_state(cutter.source, stand)
    with contextlib.ExitStack() as afterwards:
        afterwards.callback(remove_unfinished, seed_path)  # nothing is there once it has its name
        try:
            seed_path.unlink(missing_ok=True)  # one that nobody took: the room is for the new one
            cutter.map = _write_seed(cutter.source, stand, state, unfinished(seed_path), pulse)
        except OSError as error:
            raise _no_room(seed_path, error) from None
        now = cutter.now_us()
        header = replace(
            _stand_header(cutter, LogKindCode.SEED, stand, state),
            checksum_after=cutter.map.checksum,
            first_commit_us=now,
            last_commit_us=now,
        )
        writer = cutter.writer()
        writer.mark(1, stand.index.page_count, now)
        cutter.seen = []
        closed = cutter.close(writer, header)
        step("seed.rename")
        try:
            unfinished(seed_path).rename(seed_path)
        except OSError as error:
            raise _no_room(seed_path, error) from None
        return closed


def _write_seed(source: ActiveFile, stand: Stand, state: WalState, path: Path, pulse: Pulse) -> PageMap:
    """The database as of the stand, durable at ``path``; answers its map. Raises OSError."""
    hashes: list[NDArray[np.uint64]] = []
    page_bytes = stand.index.page_bytes
    step("seed.open")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for first, block in scan_pages(source, stand, state.overlay, pulse):
            hashes.append(page_hashes(block, page_bytes, first))
            step("seed.write")
            os.pwrite(fd, block, (first - 1) * page_bytes)
        step("seed.fsync")
        os.fsync(fd)
    finally:
        os.close(fd)
    return PageMap(page_bytes, np.concatenate(hashes) if hashes else np.empty(0, dtype=np.uint64))


def _no_room(path: Path, error: OSError) -> NotHealthy:
    return NotHealthy(
        f"cannot write the seed {path}",
        because=error.strerror or str(error),
        next_step=f"make room for the whole database on {path.parent}; seeding starts again by itself",
    )


def seed_delta(cutter: Cutter, stand: Stand, pulse: Pulse) -> ClosedFile:
    """Close a DELTA log with every page that differs from what was shipped; page 1 is always in it.

    The chain of logs stays whole across a gap: the state before and after are
    both known by their checksums, only the moments between are lost.
    """
    state = read_wal_state(cutter.source, stand)
    page_bytes, pages = stand.index.page_bytes, stand.index.page_count
    changes, entries = Changes(page_bytes), 0
    writer = cutter.writer()
    try:
        waiting = b""
        for first, block in scan_pages(cutter.source, stand, state.overlay, pulse):
            numbers, data = _differing(cutter.map, first, block, page_bytes)
            if not len(numbers):
                continue
            if waiting:
                writer.append(waiting)
            waiting = delta_frames(numbers.tolist(), data, 0)
            changes.add(waiting)
            entries += len(numbers)
        writer.append(_with_commit(waiting, page_bytes, pages))
        now = cutter.now_us()
        header = replace(
            _stand_header(cutter, LogKindCode.DELTA, stand, state),
            end_offset=cutter.cursor.offset + entries,
            checksum_after=cutter.map.plan(changes, pages),
            first_commit_us=now,
            last_commit_us=now,
        )
        writer.mark(entries, pages, now)
        closed = cutter.close(writer, header)
    except BaseException:
        writer.abandon()
        raise
    cutter.map.apply(changes, pages)
    cutter.seen = []
    return closed


def _differing(known: PageMap, first: int, block: memoryview, page_bytes: int) -> tuple[NDArray[np.int64], bytes]:
    now = page_hashes(block, page_bytes, first)
    before = known.hashes[first - 1 : first - 1 + len(now)]
    differs = np.ones(len(now), dtype=bool)
    differs[: len(before)] = now[: len(before)] != before
    lock = lock_page_number(page_bytes)
    if first <= lock < first + len(now):
        differs[lock - first] = False
    if first == 1:
        differs[0] = True
    where = np.flatnonzero(differs)
    rows = np.frombuffer(block, dtype=np.uint8).reshape(-1, page_bytes)
    return where + first, rows[where].tobytes()


def _with_commit(frames: bytes, page_bytes: int, pages: int) -> bytes:
    """The same entries, the last of them a commit of ``pages`` pages."""
    changed = bytearray(frames)
    at = len(frames) - wal.frame_bytes(page_bytes) + 4
    changed[at : at + 4] = pages.to_bytes(4, "big")
    return bytes(changed)
