"""What a run may ask of the capture process, and the answers."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from backupd.engines.sqlite.control import Connection, Handler, Message, error_to_message
from backupd.engines.sqlite.cutter import LogGapError
from backupd.errors import BackupdError, NotHealthy

if TYPE_CHECKING:
    from backupd.engines.sqlite.capture import Capture

SEAL_TRIES = 10


def _in_a_gap(because: str) -> NotHealthy:
    return NotHealthy("the active's log has a gap", because=because, next_step="try again when every page was compared")


class Requests:
    """Short requests are answered at once; long ones wait until the loop has nothing half done."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._waiting: deque[tuple[Handler, Message, Connection]] = deque()

    def handlers(self) -> dict[str, Handler]:
        """The table of operations for the control server."""
        return {
            "status": lambda _message, _connection: self._capture.facts(),
            "subscribe": self._subscribe,
            "ack": self._ack,
            "need_seed": self._need_seed,
            "prepare": self._later(self._prepare),
            "stamp": self._later(self._stamp),
            "truncate": self._later(self._truncate),
            "stop": self._stop,
        }

    def _later(self, handler: Handler) -> Handler:
        def note(message: Message, connection: Connection) -> Message | None:
            self._waiting.append((handler, message, connection))
            return None

        return note

    def serve_waiting(self) -> None:
        """Carry out the noted requests, and answer each."""
        while self._waiting:
            handler, message, connection = self._waiting.popleft()
            try:
                answer = handler(message, connection)
                connection.send({"ok": True, **(answer or {})})
            except BackupdError as error:
                connection.send(error_to_message(error))
            except LogGapError as gap:
                connection.send(error_to_message(_in_a_gap(str(gap))))
                raise

    def _subscribe(self, _message: Message, connection: Connection) -> Message:
        self._capture.subscribers.append(connection)
        return self._capture.facts()

    def _ack(self, message: Message, _connection: Connection) -> Message:
        self._capture.acks.acknowledge(str(message["history"]), int(message["number"]))
        return {}

    def _need_seed(self, message: Message, _connection: Connection) -> Message:
        seeding = self._capture.state == "seeding" or self._capture.adopting
        if not self._capture.wanted and not seeding:
            self._capture.wanted.append(str(message.get("because", "the passive asked for it")))
        return {}

    def _stop(self, _message: Message, _connection: Connection) -> Message:
        self._capture.stop()
        return {}

    def _prepare(self, message: Message, _connection: Connection) -> Message:
        """Close the log; with ``checkpoint``: until the main file holds it too, within a few tries."""
        capture = self._capture
        before_us = time.time_ns() // 1000
        capture.ship()
        full = False
        if message.get("checkpoint"):
            for _ in range(SEAL_TRIES):
                full = capture.seal(capture.options.drain_seconds)
                if full:
                    break
                capture.pump(0.05)
                capture.keep_up()
        capture.write_state()
        cursor = capture.hands.cutter.cursor
        return {
            "history": cursor.history,
            "number": cursor.number,
            "offset": cursor.offset,
            "covers_until_us": before_us,
            "checkpointed": full,
        }

    def _stamp(self, message: Message, _connection: Connection) -> Message:
        capture = self._capture
        capture.ship()
        payload: dict[str, Any] = {"stamp": message["stamp"]}
        closed = capture.hands.cutter.control(payload)
        capture.closed(closed)
        return {"history": closed.header.history, "number": closed.header.number}

    def _truncate(self, message: Message, _connection: Connection) -> Message:
        """Remove logs that end at or before the offset; the map is saved first, so that no restart needs them."""
        capture = self._capture
        if capture.hands.cutter.cursor.history != message["history"]:
            raise NotHealthy(
                "cannot truncate the active's log",
                because="it is in another history now",
                next_step="nothing: the next backup truncates",
            )
        capture.save_map()
        logs, size = capture.logs.history(str(message["history"])).remove_through(int(message["offset"]))
        return {"removed_logs": logs, "removed_bytes": size}
