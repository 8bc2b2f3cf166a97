"""Lines of JSON over a unix socket: how a run speaks with the capture and replay processes.

A request is ``{"op": NAME, ...}``; the answer is ``{"ok": true, ...}`` or
``{"error": {"kind", "problem", "because", "next_step"}}``.  A connection may
stay open: the server can push ``{"event": NAME, ...}`` lines to it, and learns
at once when the other process dies, because the kernel closes its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from backupd import errors
from backupd.errors import BackupdError, NotHealthy
from backupd.steps import step

LINE_BYTES_MAX = 1 << 20

Message = dict[str, Any]


@contextlib.contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """A name of the socket that always fits in sockaddr_un (108 bytes; unix(7))."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def error_to_message(error: BackupdError) -> Message:
    """The failure as it travels."""
    return {
        "error": {
            "kind": type(error).__name__,
            "problem": error.problem,
            "because": error.because,
            "next_step": error.next_step,
        }
    }


def error_from_message(message: Message) -> BackupdError:
    """The failure as it was raised on the other side."""
    facts = message["error"]
    kind = getattr(errors, str(facts.get("kind")), NotHealthy)
    if not (isinstance(kind, type) and issubclass(kind, BackupdError)):
        kind = NotHealthy
    return kind(str(facts.get("problem")), because=str(facts.get("because")), next_step=str(facts.get("next_step")))


class Connection:
    """One client of a server; ``send`` may be called from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._received = b""
        self.on_close: list[Callable[[], None]] = []
        self.closed = False

    def send(self, message: Message) -> bool:
        """Send one line; False when the other side is gone or does not read."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self.closed:
                return False
            try:
                self._sock.settimeout(1.0)
                self._sock.sendall(line)
            except OSError:
                return False
            finally:
                with contextlib.suppress(OSError):
                    self._sock.setblocking(False)
        return True

    def receive(self) -> list[Message] | None:
        """The whole lines that have arrived; None when the other side has closed."""
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        *lines, self._received = (self._received + data).split(b"\n")
        if len(self._received) > LINE_BYTES_MAX:
            return None
        messages: list[Message] = []
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                return None
            if not isinstance(message, dict):
                return None
            messages.append(message)
        return messages

    def fileno(self) -> int:
        """For a selector."""
        return self._sock.fileno()

    def close(self) -> None:
        """End the connection and tell who waits for that."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._sock.close()
        for callback in self.on_close:
            callback()


Handler = Callable[[Message, Connection], Message | None]


class ControlServer:
    """Serves requests from ``poll``; the caller owns the loop.

    Args:
        path: the socket; an old one is replaced (the caller holds the lock that
            says nobody else serves it).  Mode 0600.
        handlers: by ``op``.  A handler answers with a message, or with None when
            it will ``send`` the answer on the connection itself later.
    """

    def __init__(self, path: Path, handlers: dict[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        before = os.umask(0o177)
        try:
            with _short_path(path) as name:
                self._listener.bind(name)
        finally:
            os.umask(before)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._connections: set[Connection] = set()

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` from ``poll`` when ``fd`` becomes readable or closes."""
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def unwatch(self, fd: int) -> None:
        """Stop watching ``fd``."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def poll(self, timeout_seconds: float) -> int:
        """Serve what has arrived, waiting at most so long for the first; answers how many requests were served."""
        served = 0
        for key, _ in self._selector.select(timeout_seconds):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, Connection):
                served += self._serve(key.data)
            elif key.data is not None:
                key.data()
        return served

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        connection = Connection(sock)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _serve(self, connection: Connection) -> int:
        messages = connection.receive()
        if messages is None:
            self._drop(connection)
            return 0
        for message in messages:
            answer = self._answer(message, connection)
            if answer is not None and not connection.send(answer):
                self._drop(connection)
                break
        return len(messages)

    def _answer(self, message: Message, connection: Connection) -> Message | None:
        handler = self._handlers.get(str(message.get("op")))
        if handler is None:
            return {
                "error": {
                    "kind": "UsageProblem",
                    "problem": f"no such request: {message.get('op')}",
                    "because": "this process is of another version",
                    "next_step": "restart the backupd service",
                }
            }
        try:
            answer = handler(message, connection)
        except BackupdError as error:
            return error_to_message(error)
        return None if answer is None else {"ok": True, **answer}

    def _drop(self, connection: Connection) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection)
        self._connections.discard(connection)
        connection.close()

    def close(self) -> None:
        """Close every connection and remove the socket."""
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.close()
        self._listener.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


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
            with _short_path(path) as name:
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
        line = json.dumps({"op": op, **arguments}, separators=(",", ":")).encode() + b"\n"
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
