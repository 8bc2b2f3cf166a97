"""How a capture begins, begins again after a gap, and seeds the passive."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.durable import read_json
from backupd.engines.sqlite import begin
from backupd.engines.sqlite.control import ControlClient
from backupd.engines.sqlite.logfile import LogHeader, LogKindCode
from backupd.engines.sqlite.marks import ReadMarks, Stand
from backupd.engines.sqlite.pairfile import change_pair, load_pair
from backupd.engines.sqlite.resume import ResumeKind
from backupd.engines.sqlite.scan_watch import ScanWatch
from backupd.engines.sqlite.seal import Sealed
from backupd.engines.sqlite.seed import remove_unfinished, seed_delta, seed_full
from backupd.engines.sqlite.source import ActiveFile
from backupd.errors import BackupdError, NotHealthy

if TYPE_CHECKING:
    from backupd.engines.sqlite.capture import Capture

LOG = logging.getLogger("capture")
ADOPT_SECONDS = 3600.0
ADOPT_TRIES, ADOPT_AGAIN_SECONDS = 3, 1.0
CONNECT_SECONDS = 15.0


def begin_capture(capture: Capture, because_gap: str = "") -> None:
    """Open the file if need be, judge what was missed, and stand at the log again."""
    pair = load_pair(capture.config.pair_path)
    new_history_because = pair.new_history_because if pair else ""
    earlier = read_json(capture.state_path) or {}
    history = capture.cutter.cursor.history if capture.cutter else str(earlier.get("history", ""))
    remembered = begin.remember(capture.logs, history, capture.map_path)
    if capture.source is None:
        remove_unfinished(capture.config.seed_path)
        begin.refuse_lost_files(capture.config.db_path)
        begin.refuse_log_of_another(capture.config.db_path, remembered.cursor, earlier.get("identity"))
    source = capture.source or ActiveFile(capture.config.db_path)
    marks = capture.hands.marks if capture.source else ReadMarks(source)
    same_file = earlier.get("identity") in (None, asdict(source.identity))
    if capture.source is not None:
        marks.release_all()  # the gap is there; nobody shall wait for a mark of ours while we wait for a lock
    begin.lock_patiently(source, lambda: capture.pump(0.05))
    try:
        stand = marks.stand()
        resume = begin.judge(
            source, remembered, stand.index, same_file=same_file, new_history_because=new_history_because
        )
        epoch = pair.epoch if pair else 1
        cutter = begin.make_cutter(source, capture.logs, remembered, resume, stand, epoch=epoch, now_us=capture.now_us)
        capture.take_over(source, marks, cutter)
        if resume.kind in (ResumeKind.GO_ON, ResumeKind.GO_ON_AFTER_RESTART) and stand.on_slot_zero:
            capture.ship()  # on slot 0 the tail may be overwritten as soon as writers go on
    finally:
        source.unlock_write()
    LOG.info(
        "begin database=%s how=%r because=%r %s",
        capture.config.database,
        resume.kind.value,
        resume.because,
        because_gap,
    )
    if resume.kind is ResumeKind.FULL_SEED:
        _seed_full(capture, stand)
    elif resume.kind in (ResumeKind.DELTA, ResumeKind.NEW_HISTORY):
        capture.state = "seeding"
        watch = ScanWatch(capture, stand)
        closed = seed_delta(cutter, stand, watch.pulse)
        watch.hand_over()
        capture.closed(closed)
    _settle(capture, stand)
    if resume.kind is not ResumeKind.FULL_SEED:
        _offer_left_seed(capture)
    if pair and pair.seed_because and resume.kind is not ResumeKind.FULL_SEED:
        capture.wanted.append(pair.seed_because)
    if new_history_because:
        capture.save_map()
        change_pair(capture.config.pair_path, new_history_because="")


def _settle(capture: Capture, stand: Stand) -> None:
    """All is shipped up to the stand: say so, and whether the log may be restarted."""
    cursor = capture.hands.cutter.cursor
    capture.sealed = None
    if stand.on_slot_zero:
        capture.sealed = Sealed(cursor.salts, cursor.frame, full=True)
        capture.checkpointed = (cursor.history, cursor.offset)
    capture.state, capture.because = "healthy", ""
    capture.write_state()


def seed_again(capture: Capture, because: str) -> None:
    """A full seed inside the current history: everything shipped up to a new stand, then the file as of it."""
    source, marks = capture.hands.source, capture.hands.marks
    LOG.info("seed database=%s because=%r", capture.config.database, because)
    capture.ship()

    def wait() -> None:
        capture.pump(0.05)
        capture.keep_up()

    begin.lock_patiently(source, wait)
    try:
        capture.ship()
        stand = marks.stand()
    finally:
        source.unlock_write()
    _seed_full(capture, stand)
    _settle(capture, stand)
    pair = load_pair(capture.config.pair_path)
    if pair is not None and pair.seed_because:
        change_pair(capture.config.pair_path, seed_because="")


def _seed_full(capture: Capture, stand: Stand) -> None:
    capture.state = "seeding"
    capture.write_state()
    watch = ScanWatch(capture, stand)
    closed = seed_full(capture.hands.cutter, stand, capture.config.seed_path, watch.pulse)
    watch.hand_over()
    capture.save_map()
    capture.closed(closed)
    capture.adopting = True
    threading.Thread(target=_adopt, args=(capture, closed.header, closed.path), daemon=True).start()


def _offer_left_seed(capture: Capture) -> None:
    """A seed that was finished and not taken before a process died: the passive takes it, or removes it."""
    if not capture.config.seed_path.exists():
        return
    logs = capture.logs.history(capture.hands.cutter.cursor.history)
    seeds = [header for number in logs.numbers() if (header := logs.header(number)).kind is LogKindCode.SEED]
    if seeds:
        capture.adopting = True
        threading.Thread(target=_adopt, args=(capture, seeds[-1], logs.path_of(seeds[-1].number)), daemon=True).start()


def _connect_patiently(socket: Path) -> ControlClient:
    """Both processes start at the same time; the other one may need a moment."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return ControlClient(socket, who="the replay process")
        except BackupdError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _adopt(capture: Capture, header: LogHeader, log_path: Path) -> None:
    """Tell the passive to take the seed; if it cannot now, it asks for another when it is up.

    In a thread of its own, because the passive reads the whole seed first and the
    log must be captured meanwhile.
    """
    try:
        for again in range(ADOPT_TRIES):
            try:
                with _connect_patiently(capture.config.replay_socket) as client:
                    client.call(
                        "adopt_seed",
                        seed_path=str(capture.config.seed_path),
                        log_path=str(log_path),
                        timeout_seconds=ADOPT_SECONDS,
                    )
                capture.acks.acknowledge(header.history, header.number)
                return
            except BackupdError as error:
                LOG.warning("seed not adopted yet: %s", error)
                if not isinstance(error, NotHealthy) or again == ADOPT_TRIES - 1:
                    return
                time.sleep(ADOPT_AGAIN_SECONDS)  # the replay process may have died, and is started again
    finally:
        capture.adopting = False
