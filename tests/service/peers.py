"""Real peers on loopback: a web server that takes, drops, stalls or answers 500, and a mail server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class WebPeer:
    """What a web server heard; ``mood`` is ``take``, ``drop``, ``stall`` or ``500``."""

    port: int = 0
    mood: str = "take"
    heard: list[tuple[str, str, str]] = field(default_factory=list)
    woken: threading.Event = field(default_factory=threading.Event)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.heard if body]


@contextmanager
def web_peer() -> Iterator[WebPeer]:
    peer = WebPeer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            peer.heard.append((self.command, self.path, body))
            if peer.mood == "drop":
                self.close_connection = True
                return
            if peer.mood == "stall":
                peer.woken.wait(30)
                self.close_connection = True
                return
            self.send_response(500 if peer.mood == "500" else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the name that http.server wants

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    peer.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield peer
    finally:
        peer.woken.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class MailPeer:
    """A mail server and what it took."""

    port: int = 0
    mails: list[str] = field(default_factory=list)


@contextmanager
def mail_peer() -> Iterator[MailPeer]:
    from aiosmtpd.controller import Controller

    peer = MailPeer()

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            peer.mails.append(envelope.content.decode())
            return "250 taken"

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        peer.port = free.getsockname()[1]
    controller = Controller(Handler(), hostname="127.0.0.1", port=peer.port, ready_timeout=30)
    controller.start()
    try:
        yield peer
    finally:
        controller.stop()
