"""The asking side of a control socket."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any, Self

from backupd.engines.sqlite.control_wire import Message, error_from_message, short_path
from backupd.errors import NotHealthy
from backupd.lines.bound import bound
from backupd.steps import step


class ControlClient:
    """Speaks to a ``ControlServer``; usable as a context manager.

    Raises:
        NotHealthy: nobody serves the socket, or the answer does not come in time.
    """

    def __init__(self, path: Path, *, who: str, timeout_seconds: float = 5.0) -> None:
        self._who = who
        self._received = b""
        self._events: list[Message] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(timeout_seconds)
        step("control.connect")
        try:
            with short_path(path) as name:
                self._sock.connect(name)
        except OSError as error:
            self._sock.close()
            raise NotHealthy(
                f"cannot reach {who}",
                because=f"nobody serves its socket ({error.strerror or error})",
                next_step="start the service: backupd --config FILE (or look at its log)",
            ) from None

    def call(self, op: str, *, timeout_seconds: float = 10.0, **arguments: Any) -> Message:
        """Ask and wait for the answer; events that come between are kept for ``next_event``."""
        step(f"control.{op}")
        deadline = time.monotonic() + timeout_seconds
        about = {"run": run} if (run := bound().get("run")) else {}  # whose doing it is, for the other side's log
        line = json.dumps({"op": op, **about, **arguments}, separators=(",", ":")).encode() + b"\n"
        try:
            self._sock.settimeout(timeout_seconds)
            self._sock.sendall(line)
        except OSError as error:
            raise self._gone(error) from None
        while True:
            message = self._next(deadline)
            if message is None:
                raise NotHealthy(
                    f"{self._who} did not answer {op} within {timeout_seconds:g} s",
                    because="it is busy, stopped or dead",
                    next_step="look at backupctl status, then try again",
                )
            if "event" in message:
                self._events.append(message)
            elif "error" in message:
                raise error_from_message(message)
            else:
                return message

    def next_event(self, timeout_seconds: float) -> Message | None:
        """The next pushed event, or None when none comes in time. Raises NotHealthy when the other side is gone."""
        if self._events:
            return self._events.pop(0)
        return self._next(time.monotonic() + timeout_seconds)

    def _next(self, deadline: float) -> Message | None:
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._sock.settimeout(left)
            try:
                data = self._sock.recv(65536)
            except TimeoutError:
                return None
            except OSError as error:
                raise self._gone(error) from None
            if not data:
                raise self._gone(None)
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise self._gone(None)
        return message

    def _gone(self, error: OSError | None) -> NotHealthy:
        return NotHealthy(
            f"lost the connection to {self._who}",
            because=f"its process ended ({error})" if error else "its process ended",
            next_step="look at backupctl status; the service restarts it",
        )

    def fileno(self) -> int:
        """For a selector."""
        return self._sock.fileno()

    def close(self) -> None:
        """End the connection; whatever was bound to it (a freeze) ends too."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
