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
from collections.abc import Callable
from pathlib import Path

from backupd.engines.sqlite.control_client import ControlClient
from backupd.engines.sqlite.control_wire import (
    LINE_BYTES_MAX,
    Message,
    error_from_message,
    error_to_message,
    short_path,
)
from backupd.errors import BackupdError
from backupd.lines.bound import bind, unbind

__all__ = [
    "Connection",
    "ControlClient",
    "ControlServer",
    "Handler",
    "Message",
    "error_from_message",
    "error_to_message",
]


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
                # A line may have gone out in part, so nothing may follow it: ``poll`` sees the end and drops this.
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
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
            with short_path(path) as name:
                self._listener.bind(name)
        finally:
            os.umask(before)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._connections: set[Connection] = set()
        self._runs: dict[Connection, str] = {}

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
            if isinstance(run := message.get("run"), str):
                self._runs[connection] = run
                bind(run=run)  # a database has one run at a time: while it speaks to us, what we log is about it
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
        if self._runs.pop(connection, None) is not None and not self._runs:
            unbind("run")
        connection.close()

    def close(self) -> None:
        """Close every connection and remove the socket."""
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.close()
        self._listener.close()
        with contextlib.suppress(OSError):
            self._path.unlink()
