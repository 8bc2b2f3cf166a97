"""Capture: takes every commit from an unmodified application's ``-wal``, and never lets go of one too early."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from backupd.durable import write_json
from backupd.engines.sqlite import wal
from backupd.engines.sqlite.acks import Acks
from backupd.engines.sqlite.beginning import begin_capture, seed_again
from backupd.engines.sqlite.capture_config import CaptureConfig
from backupd.engines.sqlite.capture_requests import Requests
from backupd.engines.sqlite.capture_state import facts_of, leave_failure, now_us
from backupd.engines.sqlite.control import Connection, ControlServer
from backupd.engines.sqlite.cutter import Cutter, LogGapError
from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.logfile import ClosedFile
from backupd.engines.sqlite.marks import ReadMarks
from backupd.engines.sqlite.seal import Sealed, Sealer
from backupd.engines.sqlite.source import ActiveFile, FileLostError
from backupd.engines.sqlite.walindex import WalIndex
from backupd.errors import BackupdError, NotHealthy

LOG = logging.getLogger("capture")
SEAL_RETRY_SECONDS = 1.0
HOLD_ON_SECONDS = 0.5
LONG_DRAIN_TIMES = 8
MAP_SAVE_BYTES = 256 << 20


@dataclass(slots=True)
class Hands:
    """What a capture works with once it stands at the log."""

    source: ActiveFile
    marks: ReadMarks
    cutter: Cutter
    sealer: Sealer


class Capture:
    """The capture of one database; ``run`` returns when asked to stop."""

    def __init__(self, config: CaptureConfig) -> None:
        self.config = config
        self.options = config.options
        self.logs = LogDir(config.directory / "log")
        self.state_path = config.directory / "capture.json"
        self.map_path = config.directory / "shipped.map"
        self.stopping = False
        self.state, self.because = "initializing", ""
        self.sealed: Sealed | None = None
        self.checkpointed: tuple[str, int] | None = None
        self.acks = Acks(config.options.exposed_after_seconds)
        self.subscribers: list[Connection] = []
        self.wanted: deque[str] = deque()
        self.adopting = False
        self._hands: Hands | None = None
        self._seal_tried = self._sealed_at = 0.0
        self._names_checked = self._state_written = 0.0
        self._unsaved_map_bytes = 0
        self.now_us = now_us
        self.requests = Requests(self)
        self.server = ControlServer(config.directory / "capture.sock", self.requests.handlers())

    @property
    def begun(self) -> bool:
        """Whether the capture stands at the log."""
        return self._hands is not None

    @property
    def hands(self) -> Hands:
        """The hands. Raises NotHealthy before the capture has begun."""
        if self._hands is None:
            raise NotHealthy(
                f"cannot capture {self.config.db_path} yet",
                because="it has just started",
                next_step="try again in a moment; backupctl status shows how far it is",
            )
        return self._hands

    @property
    def source(self) -> ActiveFile | None:
        """The open file, if it is open."""
        return self._hands.source if self._hands else None

    @property
    def cutter(self) -> Cutter | None:
        """The cutter, once it stands at the log."""
        return self._hands.cutter if self._hands else None

    def take_over(self, source: ActiveFile, marks: ReadMarks, cutter: Cutter) -> None:
        """From now on work with these."""
        self.acks.enter(cutter.cursor.history)
        sealer = Sealer(source, cutter, marks, self.acks, ship=self.ship, pump=self.pump)
        if self._hands is not None:
            sealer.stats = self._hands.sealer.stats
        self._hands = Hands(source, marks, cutter, sealer)

    # --- the loop -----------------------------------------------------------

    def run(self) -> None:
        """Capture until told to stop; a gap is answered with a comparison of every page."""
        self.server.watch(0, self.stop)
        begin_capture(self)
        while not self.stopping:
            self.pump(self.options.poll_seconds)
            try:
                self.requests.serve_waiting()
                self.tick()
                self._recovered()
            except LogGapError as gap:
                begin_capture(self, f"after a gap: {gap}")
            except FileLostError:
                raise  # only a new process can open the new file: descriptors of the old one must not be closed
            except BackupdError as error:
                self._hold_on(error)
        self.finish()

    def _hold_on(self, error: BackupdError) -> None:
        """A disk that refuses, or a damaged frame: keep the read marks, so that nothing is lost, and try again.

        Raises:
            BackupdError: the application's log has grown past the limit; it is let
                go, and every page is compared when the trouble is over.
        """
        if self.state != "failed":
            LOG.error("cannot capture: %s", error)
        self.state, self.because = "failed", f"{error.problem}: {error.because}"
        with contextlib.suppress(BackupdError):
            leave_failure(self.state_path, error)
        if self.hands.source.wal_bytes() > self.options.wal_bytes_max:
            raise error
        self.pump(HOLD_ON_SECONDS)

    def _recovered(self) -> None:
        if self.state == "failed":
            LOG.info("capture goes on")
            self.state, self.because = "healthy", ""
            self.write_state()

    def tick(self) -> None:
        """Look at the log once, and do what is due."""
        now = time.monotonic()
        if now - self._names_checked > 1.0:
            self._names_checked = now
            self.hands.source.check_names()
        if self.wanted:
            seed_again(self, self.wanted.popleft())
        index = self.keep_up()
        if self._due_to_seal(index, now):
            self.seal(self._drain_seconds(index))
        if now - self._state_written > 5.0:
            self.write_state()

    def keep_up(self) -> WalIndex:
        """Cut what is due, move the marks on, and out of the way of an application's checkpoint.

        Whatever waits for the application's lock calls this meanwhile: the application
        may be waiting for our mark, with that lock in hand.
        """
        index = self.hands.source.index()
        self.follow(index)
        self.hands.cutter.see(index)
        somebody_waits = self.hands.source.blocking_checkpoint()
        if self._due_to_cut() or (somebody_waits and self.hands.cutter.unshipped_frames):
            self.ship()
        now = time.monotonic()
        acknowledged = self.acks.let_go(self.hands.cutter.cursor, now, somebody_waits=somebody_waits)
        self.hands.marks.advance(index, acknowledged)
        if somebody_waits:
            self.hands.marks.renew(acknowledged)
        if self.hands.marks.step_aside(acknowledged):
            self._fully_sealed(Sealed(*acknowledged, full=True))
        return index

    def follow(self, index: WalIndex) -> None:
        """Notice a restart of the log; only one that our own seal has allowed is no gap (sqlite.md P2)."""
        cursor = self.hands.cutter.cursor
        salts = (index.salt1, index.salt2)
        if salts == cursor.salts:
            return
        sealed = self.sealed is not None and (self.sealed.salts, self.sealed.frame) == (cursor.salts, cursor.frame)
        nothing_open = self.hands.cutter.unshipped_frames == 0
        if not (self.hands.marks.held and nothing_open and (sealed or cursor.frame == 0)):
            raise LogGapError("the log was restarted although frames were not shipped")
        self.hands.cutter.enter_generation(salts)
        if self.sealed is not None:
            self.sealed = Sealed(salts, 0, self.sealed.full)

    def _due_to_cut(self) -> bool:
        oldest = self.hands.cutter.oldest_unshipped_us
        if oldest is None:
            return False
        unshipped = self.hands.cutter.unshipped_frames * wal.frame_bytes(self.hands.cutter.cursor.page_bytes)
        aged = now_us() - oldest >= self.options.log_file_seconds_max * 1e6
        return aged or unshipped >= self.options.log_file_bytes_max

    def ship(self) -> None:
        """Cut everything that is committed now into closed logs, and tell who listens."""
        index = self.hands.source.index()  # once: writers who never pause must not keep us here
        self.follow(index)
        while (closed := self.hands.cutter.cut(index, self.options.log_file_bytes_max)) is not None:
            self.closed(closed)

    def closed(self, closed: ClosedFile) -> None:
        """A log is durable under its name."""
        self.acks.closed(self.hands.cutter.cursor, time.monotonic())
        self._unsaved_map_bytes += closed.size_bytes
        if self._unsaved_map_bytes > MAP_SAVE_BYTES:
            self.save_map()
        event = {"event": "log", "history": closed.header.history, "number": closed.header.number}
        self.subscribers = [one for one in self.subscribers if one.send(event)]
        if closed.header.number == 1:
            self.write_state(durable=True)  # the name of the history must survive: everything hangs on it

    def _drain_seconds(self, index: WalIndex) -> float:
        """How long a seal may wait for readers to leave the log; writers wait too, so longer only when it is long."""
        wal_bytes = index.max_frame * wal.frame_bytes(index.page_bytes)
        far = wal_bytes > LONG_DRAIN_TIMES * self.options.seal_wal_bytes
        return self.options.long_drain_seconds if far else self.options.drain_seconds

    def _due_to_seal(self, index: WalIndex, now: float) -> bool:
        if now - self._seal_tried < SEAL_RETRY_SECONDS or index.max_frame == 0:
            return False
        if self.sealed is not None and self.sealed.full and self.sealed.frame == index.max_frame:
            return False
        wal_bytes = index.max_frame * wal.frame_bytes(index.page_bytes)
        return wal_bytes >= self.options.seal_wal_bytes or now - self._sealed_at >= self.options.seal_seconds

    def seal(self, drain_seconds: float) -> bool:
        """Try to seal once; True when the main file now holds everything that was committed."""
        self._seal_tried = time.monotonic()
        sealed = self.hands.sealer.seal(drain_seconds=drain_seconds)
        if sealed is None:
            return False
        self._sealed_at = time.monotonic()
        self.sealed = sealed
        if sealed.full:
            self._fully_sealed(sealed)
        return sealed.full

    def _fully_sealed(self, sealed: Sealed) -> None:
        """The main file holds all that was cut, and the log may be restarted."""
        self.sealed = sealed
        self.checkpointed = (self.hands.cutter.cursor.history, self.hands.cutter.cursor.offset)

    # --- small hands --------------------------------------------------------

    def pump(self, seconds: float) -> None:
        """Serve the control socket; long requests are only noted."""
        self.server.poll(seconds)

    def pulse(self) -> None:
        """Called often during long work."""
        self.pump(0)

    def stop(self) -> None:
        """Asked to stop: by a signal, a request, or the death of the parent."""
        self.stopping = True
        self.server.unwatch(0)

    def save_map(self) -> None:
        """Make the page map of what was shipped durable, so that a restart need not roll far."""
        cursor = self.hands.cutter.cursor
        self.hands.cutter.map.save(self.map_path, cursor.history, cursor.number)
        self._unsaved_map_bytes = 0

    def facts(self) -> dict[str, Any]:
        """What ``status`` and ``capture.json`` say."""
        return facts_of(self)

    def write_state(self, *, durable: bool = False) -> None:
        """Leave the facts for who comes when this process is gone."""
        self._state_written = time.monotonic()
        write_json(self.state_path, self.facts(), durable=durable, step_name="capture.state")

    def finish(self) -> None:
        """Ship the tail, give the passive a moment, remember."""
        try:
            self.ship()
        except LogGapError as gap:
            LOG.warning("stopped inside a gap (%s); the next start compares every page", gap)
        deadline = time.monotonic() + 1.0
        while not self.acks.all_answered() and time.monotonic() < deadline:
            self.pump(0.02)
        self.save_map()
        self.state = "stopped"
        self.write_state()
