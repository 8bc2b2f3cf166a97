"""How capture begins: take the write lock, judge what was missed, take the first read mark (sqlite.md P0, P1)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from backupd.engines.sqlite import wal
from backupd.engines.sqlite.cutter import NO_DIGEST, Cursor, Cutter
from backupd.engines.sqlite.holders import processes_holding_removed
from backupd.engines.sqlite.logdir import HistoryLogs, LogDir
from backupd.engines.sqlite.logfile import read_digest, read_header
from backupd.engines.sqlite.marks import Stand
from backupd.engines.sqlite.pagemap import PageMap, load_map, roll_forward
from backupd.engines.sqlite.pairfile import new_history
from backupd.engines.sqlite.resume import FrameTrace, Resume, ResumeFacts, ResumeKind, judge_resume
from backupd.engines.sqlite.source import ActiveFile, FileIdentity, not_fit
from backupd.engines.sqlite.walindex import WalIndex
from backupd.errors import BackupdError, NotHealthy


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the disk remembers of earlier captures: the end of the newest log, and the page map at that place."""

    cursor: Cursor | None
    map: PageMap | None


def remember(logs: LogDir, history: str, map_path: Path) -> Remembered:
    """Read the newest log's header, and roll the saved map forward to it.

    The newest closed log *is* the state: there is no second file that a crash
    could leave behind it (sqlite.md pitfall 26).  That holds for a history too
    whose first log was closed just before a crash, so ``history`` is only where
    the search begins: two histories must never go on from one place.
    """
    chain = _chain(logs, history)
    if not chain:
        return Remembered(None, None)
    found, newest = chain[-1]
    found.sweep_tmp()
    path = found.path_of(newest)
    cursor = Cursor.after(read_header(path), read_digest(path))
    try:
        page_map = _map_after(chain, map_path)
    except (BackupdError, OSError):
        return Remembered(cursor, None)
    if page_map is None or page_map.checksum != cursor.checksum or page_map.pages != cursor.pages:
        return Remembered(cursor, None)
    return Remembered(cursor, page_map)


def _chain(logs: LogDir, history: str) -> list[tuple[HistoryLogs, int]]:
    """The logs of ``history`` and of those that go on from its end, each with its newest number."""
    chain: list[tuple[HistoryLogs, int]] = []
    following: str | None = history
    while following:
        found = logs.history(following)
        newest = found.newest()
        if newest is None:
            break
        chain.append((found, newest))
        following = logs.successor(following, found.header(newest).end_offset)
    return chain


def _map_after(chain: list[tuple[HistoryLogs, int]], map_path: Path) -> PageMap | None:
    """The saved map, rolled forward to the end of the chain; None when it is of another history."""
    saved = load_map(map_path)
    names = [logs.history for logs, _ in chain]
    if saved.history not in names:
        return None
    done = saved.number
    for logs, newest in chain[names.index(saved.history) :]:
        for number in range(done + 1, newest + 1):
            roll_forward(saved.map, logs.path_of(number), logs.header(number))
        done = 0
    return saved.map


def _trace(source: ActiveFile, cursor: Cursor) -> tuple[FrameTrace | None, bool | None]:
    """What lies at the last cut frame now, and whether the next frame continues it."""
    if cursor.frame == 0:
        return None, None
    at = source.read_wal(wal.frame_offset(cursor.frame, cursor.page_bytes), wal.FRAME_HEADER_BYTES)
    if len(at) < wal.FRAME_HEADER_BYTES:
        return None, None
    salts = (int.from_bytes(at[8:12], "big"), int.from_bytes(at[12:16], "big"))
    trace = FrameTrace(salts, wal.stored_sums(at))
    frame = source.read_wal(wal.frame_offset(cursor.frame + 1, cursor.page_bytes), wal.frame_bytes(cursor.page_bytes))
    if len(frame) < wal.frame_bytes(cursor.page_bytes):
        return trace, None
    same_salts = wal.salts_count(frame, cursor.page_bytes, *cursor.salts) == 1
    good, _ = wal.verify_frames(frame, cursor.page_bytes, cursor.sums, cursor.big_endian)
    return trace, same_salts and good == 1


def judge(
    source: ActiveFile, remembered: Remembered, index: WalIndex, *, same_file: bool, new_history_because: str
) -> Resume:
    """Gather the facts (the write lock is held) and decide."""
    cursor = remembered.cursor
    trace, chains = _trace(source, cursor) if cursor else (None, None)
    return judge_resume(
        ResumeFacts(
            has_log=cursor is not None,
            has_map=remembered.map is not None,
            same_file=same_file,
            same_page_size=cursor is None or cursor.page_bytes == index.page_bytes,
            new_history_because=new_history_because,
            last_salts=cursor.salts if cursor else (0, 0),
            last_frame=cursor.frame if cursor else 0,
            last_sums=cursor.sums if cursor else (0, 0),
            index_salts=(index.salt1, index.salt2),
            index_max_frame=index.max_frame,
            trace=trace,
            next_chains=chains,
        )
    )


def refuse_lost_files(path: Path, seconds: float = 1.0) -> None:
    """Keep away while a program works on a removed database, ``-wal`` or ``-shm``.

    It does not see what others write to the file of that name, nor they what it
    writes: whoever opens the database beside it makes two of one.  A program
    that is just closing may show the same for a moment.

    Raises:
        NotHealthy: somebody does; the sentence names the programs.
    """
    names = [path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")]
    deadline = time.monotonic() + seconds
    while users := processes_holding_removed(names):
        if time.monotonic() > deadline:
            pids = sorted({user.pid for user in users})
            named = ", ".join(f"{user.command} (pid {user.pid})" for user in users if user.pid in pids[:5])
            raise not_fit(
                path,
                f"{Path(users[0].path).name} was removed or replaced while a program uses it: {named}",
                "stop these programs and start them again, and never remove -wal or -shm: kill "
                + " ".join(map(str, pids)),
            )
        time.sleep(0.05)


def refuse_log_of_another(path: Path, cursor: Cursor | None, identity: object) -> None:
    """Keep away from a new file beside which the log of the old one lies.

    SQLite would read that log into the new file, and our first seal would write it
    there for good.  An application that closes a database which was replaced under
    it leaves its ``-wal`` behind (sqlite pager.c, databaseIsUnmoved).

    Args:
        cursor: where the newest log of the old file ended.
        identity: which file that was, as ``capture.json`` has it.

    Raises:
        NotHealthy: so it is; the sentence says what to remove.
    """
    beside = path.with_name(path.name + "-wal")
    try:
        same_file = identity in (None, asdict(FileIdentity.of(path)))
        with open(beside, "rb") as file:
            header = wal.parse_header(file.read(wal.WAL_HEADER_BYTES))
    except OSError:
        return  # no file or no log: whoever opens them next says so
    if same_file or cursor is None or header is None:
        return
    if header.salt1 in (cursor.salts[0], (cursor.salts[0] + 1) & 0xFFFFFFFF):
        raise not_fit(
            path,
            f"the file was replaced by another one, but {beside.name} beside it is still the log of the old file; "
            "SQLite would write its pages into the new file",
            f"stop every program that uses it, then: rm -f {beside} {path.with_name(path.name + '-shm')}",
        )


def lock_patiently(source: ActiveFile, pulse: Callable[[], None], seconds: float = 60.0) -> None:
    """Take the write lock, waiting for a long transaction of the application to end.

    Raises:
        NotHealthy: it did not end in time.
    """
    deadline = time.monotonic() + seconds
    while not source.lock_write(0.0):
        if time.monotonic() > deadline:
            raise NotHealthy(
                f"cannot begin to capture {source.path}",
                because=f"another program has held its write lock for over {seconds:g} s",
                next_step="nothing to do if that transaction is meant; backupd tries again by itself",
            )
        pulse()


def first_cursor(source: ActiveFile, index: WalIndex, epoch: int) -> Cursor:
    """A cursor before the first log of a new history."""
    return Cursor(
        history=new_history(),
        epoch=epoch,
        number=0,
        offset=0,
        salts=(index.salt1, index.salt2),
        frame=0,
        sums=(0, 0),
        big_endian=index.big_endian_sums,
        digest=NO_DIGEST,
        checksum=0,
        pages=0,
        page_bytes=source.page_bytes,
    )


def make_cutter(
    source: ActiveFile,
    logs: LogDir,
    remembered: Remembered,
    resume: Resume,
    stand: Stand,
    *,
    epoch: int,
    now_us: Callable[[], int],
) -> Cutter:
    """A cutter that stands where ``resume`` says; seeds and deltas are cut by the caller afterwards."""
    index, old = stand.index, remembered.cursor
    salts = (index.salt1, index.salt2)
    empty = PageMap(source.page_bytes, np.empty(0, dtype=np.uint64))
    page_map = remembered.map or empty
    if old is None:
        return Cutter(source, logs, first_cursor(source, index, epoch), empty, now_us)
    fresh = resume.kind in (ResumeKind.NEW_HISTORY, ResumeKind.FULL_SEED)
    if fresh:
        cursor = first_cursor(source, index, epoch)
        if resume.kind is ResumeKind.NEW_HISTORY:
            cursor = replace(cursor, checksum=old.checksum, pages=old.pages)
        cutter = Cutter(source, logs, cursor, page_map, now_us)
        cutter.parent = (old.history, old.offset)
        return cutter
    cutter = Cutter(source, logs, old, page_map, now_us)
    if resume.kind is ResumeKind.GO_ON_AFTER_RESTART:
        cutter.enter_generation(salts)
    return cutter
