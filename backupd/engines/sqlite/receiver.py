"""The receiving half of the passive: pulls closed logs from the active, inspects them, says that they are safe."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backupd.engines.sqlite.control import ControlClient
from backupd.engines.sqlite.inspect import ChainEnd, Inspector
from backupd.engines.sqlite.log_source import LogSource
from backupd.errors import BackupdError, DamageFound, NotFound, NotHealthy

LOG = logging.getLogger("replay.receiver")
POLL_SECONDS = 0.5
ASK_SEED_SECONDS = 5.0


class Receiver:
    """Runs in a thread of its own; ``run`` ends after ``stop``.

    Args:
        on_log: called after each inspected log.
        may_copy: whether to go on now (not suspended).
        needs_seed: why a seed is needed, or an empty string.
    """

    def __init__(
        self,
        inspector: Inspector,
        source: LogSource,
        capture_socket: Path,
        *,
        on_log: Callable[[], None],
        may_copy: Callable[[], bool],
        needs_seed: Callable[[], str],
    ) -> None:
        self.inspector = inspector
        self.lock = threading.Lock()  # held while the inspector works; adopting a seed takes it too
        self.trouble = ""
        self.queue = 0
        self._source = source
        self._socket = capture_socket
        self._on_log, self._may_copy, self._needs_seed = on_log, may_copy, needs_seed
        self._client: ControlClient | None = None
        self._connect_after = 0.0
        self._active_history = ""
        self._asked_at = -ASK_SEED_SECONDS
        self._final = False
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End ``run`` after the log in hand."""
        self._stopping.set()

    def run(self) -> None:
        """Pull until stopped; events only make it quicker, a look every half second finds every log."""
        while not self._stopping.is_set():
            if not self._may_copy():
                self._stopping.wait(POLL_SECONDS)
                continue
            try:
                if self._receive_next():
                    self.trouble, self._final = "", False
                    continue
                self._judge_idle()
            except BackupdError as error:
                self._note(error)
            if self._final or self._needs_seed():
                self._ask_for_seed()
            self._wait()
        if self._client is not None:
            self._client.close()

    def adopted(self) -> None:
        """A seed was put in place: what was wrong before is over."""
        self.trouble, self._final = "", False

    # --- logs ----------------------------------------------------------------

    def _receive_next(self) -> bool:
        """Take the next log in, if the active has closed it; True when one was taken."""
        with self.lock:
            end = self.inspector.end
            if end is None:
                return False
            if self._source.holds(end.history, end.number + 1):
                wanted = (end.history, end.number + 1)
            else:
                following = self._source.successor(end.history, end.offset)
                if following is None:
                    return False
                wanted = (following, 1)
            self.queue = max(1, (self._source.newest(wanted[0]) or 0) - wanted[1] + 1)
            verified = self.inspector.receive(*wanted, self._source.fetch)
            self.queue -= 1
        if verified is not None:
            LOG.debug("inspected history=%s number=%d", *wanted)
        self._on_log()
        self._acknowledge()
        return True

    def _judge_idle(self) -> None:
        """Nothing to take: is that because we have all, or because the log does not reach us any more?"""
        end = self.inspector.end
        if end is None:
            return
        newest = self._source.newest(end.history)
        self.queue = max(0, (newest or 0) - end.number)
        if self.queue and not self._source.holds(end.history, end.number + 1):
            raise NotFound(
                f"log {end.number + 1} of history {end.history} is missing on the active",
                because=f"it holds log {newest} but not the one that comes next here",
                next_step="backupctl copy seed DATABASE",
            )
        if self._active_history not in ("", end.history) and self._source.successor(end.history, end.offset) is None:
            raise NotFound(
                f"the active writes history {self._active_history}",
                because=f"it does not go on from where the passive stands ({end.history}/{end.offset})",
                next_step="backupctl copy seed DATABASE",
            )
        self.trouble, self._final = "", False

    def _note(self, error: BackupdError) -> None:
        """Keep the trouble for ``status``; only what a seed alone can heal asks for one."""
        text = f"{error.problem}: {error.because}"
        if text != self.trouble:
            LOG.warning("%s", error)
        self.trouble = text
        self._final = isinstance(error, DamageFound | NotFound)

    # --- the connection to the capture process --------------------------------

    def _connected(self) -> ControlClient | None:
        if self._client is None and time.monotonic() >= self._connect_after:
            self._connect_after = time.monotonic() + POLL_SECONDS
            try:
                self._client = ControlClient(self._socket, who="the capture process")
                facts = self._client.call("subscribe")
                self._active_history = str(facts.get("history") or "")
                self._acknowledge()
            except BackupdError:
                self._drop()
        return self._client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _call(self, op: str, **arguments: Any) -> bool:
        """Tell the capture process; False when it cannot be told now."""
        client = self._client or self._connected()
        if client is None:
            return False
        try:
            client.call(op, **arguments)
        except BackupdError:
            self._drop()
            return False
        return True

    def _acknowledge(self) -> None:
        """Say which log is inspected and durable; sent again after each new connection."""
        end: ChainEnd | None = self.inspector.end
        if end is not None and self._client is not None:
            self._call("ack", history=end.history, number=end.number)

    def _ask_for_seed(self) -> None:
        now = time.monotonic()
        because = self._needs_seed() or self.trouble
        if now - self._asked_at >= ASK_SEED_SECONDS and self._call("need_seed", because=because):
            self._asked_at = now

    def _wait(self) -> None:
        """Until the capture tells of a new log, at most half a second."""
        client = self._connected()
        if client is None:
            self._stopping.wait(POLL_SECONDS)
            return
        try:
            event = client.next_event(POLL_SECONDS)
            if event is not None and event.get("event") == "log":
                self._active_history = str(event.get("history", self._active_history))
        except NotHealthy:
            self._drop()
