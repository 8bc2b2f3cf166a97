"""The replaying half of the passive: one log after the other, and the pauses in between.

Only this thread touches the passive's file, its marker and its map.  Requests
that need the file quiet (freeze, seed, suspend, mark) are done here, between two logs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.engines.sqlite.replay import Replay
from backupd.errors import BackupdError, Busy, DamageFound, NotFound, NotHealthy
from backupd.model.pair import CopyState

LOG = logging.getLogger("replay")
IDLE_SECONDS = 0.5
RETRY_SECONDS = 2.0  # doubled up to RETRY_SECONDS_MAX: each try may hash the whole file
RETRY_SECONDS_MAX = 60.0


@dataclass(slots=True)
class Frozen:
    """One freeze; it ends once: by thaw, by the end of its connection, or by its limit."""

    since: float
    deadline: float
    ended: float | None = None
    held: bool = True

    def end(self, *, held: bool) -> None:
        """End it now, if it has not ended yet."""
        if self.ended is None:
            self.ended, self.held = time.monotonic(), held

    @property
    def seconds(self) -> float:
        """How long replay stood still."""
        return (time.monotonic() if self.ended is None else self.ended) - self.since


@dataclass(slots=True, eq=False)
class _Order:
    """Something to be done between two logs; ``done`` gets its answer or its failure.

    One that ``moves_file`` waits for the end of a freeze: a snapshot is being taken.
    """

    action: Callable[[], dict[str, Any]]
    done: Callable[[dict[str, Any] | BackupdError], None]
    moves_file: bool


class ReplayLoop:
    """Runs in a thread of its own; ``run`` ends after ``stop``, when the log in hand is done.

    Args:
        on_change: called (from this thread) whenever the marker or a freeze has changed.
    """

    def __init__(
        self, replay: Replay, frozen_map: Path, *, suspended: str | None, on_change: Callable[[], None]
    ) -> None:
        self.replay = replay
        self.suspended = suspended  # the comment, or None
        self.opened = False
        self.trouble = ""
        self._frozen_map = frozen_map
        self._on_change = on_change
        self._changed = threading.Condition()
        self._orders: deque[_Order] = deque()
        self._frozen: Frozen | None = None
        self._stopping = False
        self._retry_seconds = RETRY_SECONDS
        self._open_after = 0.0

    # --- called from other threads --------------------------------------------

    def stop(self) -> None:
        """End ``run``."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """There may be something to do."""
        with self._changed:
            self._changed.notify_all()

    def order(
        self,
        action: Callable[[], dict[str, Any]],
        done: Callable[[dict[str, Any] | BackupdError], None],
        *,
        moves_file: bool = False,
    ) -> None:
        """Do ``action`` between two logs, in this loop's thread; not while frozen if it ``moves_file``."""
        with self._changed:
            self._orders.append(_Order(action, done, moves_file))
            self._changed.notify_all()

    def thaw(self, frozen: Frozen, *, held: bool = True) -> None:
        """End this freeze; replay goes on at once."""
        with self._changed:
            frozen.end(held=held)
            self._changed.notify_all()

    @property
    def frozen(self) -> bool:
        """Whether replay is paused by a freeze."""
        return self._frozen is not None and self._frozen.ended is None

    def state(self, receiver_trouble: str) -> tuple[CopyState, str]:
        """What ``status`` shows, with the reason."""
        marker = self.replay.marker
        if self.trouble:
            return CopyState.FAILED, self.trouble
        if not self.opened and marker.state is CopyState.HEALTHY:
            return CopyState.INITIALIZING, "the process is starting"
        if marker.state is not CopyState.HEALTHY:
            return marker.state, marker.because
        if self.suspended is not None:
            return CopyState.SUSPENDED, self.suspended or "suspended by a person"
        if receiver_trouble:
            return CopyState.FAILED, receiver_trouble
        return CopyState.HEALTHY, ""

    # --- the loop ---------------------------------------------------------------

    def run(self) -> None:
        """Replay until stopped; a disk that refuses is tried again, everything else becomes a state."""
        while not self._stopping:
            try:
                if not self.opened and time.monotonic() >= self._open_after:
                    self.replay.open()
                    self.opened, self.trouble = True, ""
                    self._on_change()
                self._turn()
            except (DamageFound, NotFound) as error:
                self._log_is_bad(error)
            except BackupdError as error:
                self._retry_later(error)
        if self._frozen is not None:
            self._frozen.end(held=False)
        self._save_map()

    def _turn(self) -> None:
        path = None
        with self._changed:
            order = next((one for one in self._orders if not (one.moves_file and self.frozen)), None)
            if order is not None:
                self._orders.remove(order)
            if order is None:
                path = self._next_log()
                if path is None:
                    self._changed.wait(self._patience())
                    return
        if order is not None:
            self._carry_out(order)
        elif path is not None:
            self.replay.apply(path)
            self._retry_seconds = RETRY_SECONDS
            self._on_change()

    def _patience(self) -> float:
        """How long to sleep when nothing is to be done; a freeze's limit and a retry are met on time."""
        if not self.opened:
            return max(0.0, min(IDLE_SECONDS, self._open_after - time.monotonic()))
        if self._frozen is not None and self._frozen.ended is None:
            return max(0.0, min(IDLE_SECONDS, self._frozen.deadline - time.monotonic()))
        return IDLE_SECONDS

    def _next_log(self) -> Path | None:
        """The log to apply now, or None: nothing there, or replay is paused."""
        if self._frozen is not None:
            if self._frozen.ended is None and time.monotonic() >= self._frozen.deadline:
                self._frozen.end(held=False)
                LOG.warning("freeze ended by its limit after %.1f s", self._frozen.seconds)
            if self._frozen.ended is None:
                return None
            self._frozen = None
        if self.suspended is not None or not self.opened or not self.replay.ready:
            return None
        marker, logs = self.replay.marker, self.replay.logs
        path = logs.history(marker.history).path_of(marker.number + 1)
        if path.exists():
            return path
        following = logs.successor(marker.history, marker.offset)
        return logs.history(following).path_of(1) if following else None

    def _carry_out(self, order: _Order) -> None:
        try:
            answer: dict[str, Any] | BackupdError = order.action()
        except BackupdError as error:
            answer = error
        order.done(answer)
        self._on_change()

    def _log_is_bad(self, error: BackupdError) -> None:
        """An inspected log has rotted or vanished: this copy cannot go on from it."""
        try:
            self.replay.mark(CopyState.MUST_SEED, f"{error.problem}: {error.because}")
        except BackupdError as refused:
            self._retry_later(refused)
        self._on_change()

    def _retry_later(self, error: BackupdError) -> None:
        LOG.warning("%s", error)
        self.trouble, self.opened = f"{error.problem}: {error.because}", False
        self._on_change()
        self._open_after = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS_MAX)

    def _save_map(self) -> None:
        if self.replay.ready and self.opened:
            try:
                self.replay.save_map()
            except BackupdError as error:
                LOG.warning("%s", error)

    # --- orders -------------------------------------------------------------------

    def freeze(self, frozen: Frozen, limit_seconds: float) -> dict[str, Any]:
        """Pause between two logs; the map of this very state is left in a file for the page check."""
        state, because = self.state("")
        if state is not CopyState.HEALTHY:
            raise NotHealthy(
                "cannot freeze the passive",
                because=f"it is {state}: {because}",
                next_step="backupctl status DATABASE shows what it needs",
            )
        if self._frozen is not None and self._frozen.ended is None:
            raise Busy(
                "the passive is frozen already",
                because="another run holds a freeze",
                next_step="wait for that run to end (the freeze ends by itself)",
            )
        if not self.replay.check_untouched():
            raise NotHealthy(
                "cannot freeze the passive",
                because=self.replay.marker.because,
                next_step="backupctl copy seed DATABASE",
            )
        map_path = self.replay.save_map(self._frozen_map, durable=False)
        frozen.since = time.monotonic()
        frozen.deadline = frozen.since + limit_seconds
        if frozen.ended is None:  # the asker may have died while waiting
            self._frozen = frozen
        marker = self.replay.marker
        return {
            "position": f"{marker.history}/{marker.offset}",
            "history": marker.history,
            "offset": marker.offset,
            "number": marker.number,
            "last_commit_us": marker.last_commit_us,
            "pages": marker.pages,
            "page_bytes": marker.page_bytes,
            "checksum": f"{marker.checksum:016x}",
            "map_path": str(map_path),
        }
