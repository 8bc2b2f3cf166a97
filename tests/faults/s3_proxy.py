"""An HTTP proxy on loopback between a store and an S3 server; it does to requests what networks and servers do."""

from __future__ import annotations

import base64
import hashlib
import http.client
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.s3_memory import MemoryS3

_XML = '<?xml version="1.0" encoding="UTF-8"?>'
_ERRORS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "429": (429, "TooManyRequests", "Too many requests."),
    "skew": (403, "RequestTimeTooSkewed", "The difference between the request time and the server's is too large."),
    "denied": (403, "AccessDenied", "Access Denied"),
    "keys": (403, "InvalidAccessKeyId", "The access key does not exist."),
    "signature": (403, "SignatureDoesNotMatch", "The signature does not match."),
    "unknown": (501, "NotImplemented", "A header you provided implies functionality that is not implemented."),
}
# What a seeded proxy chooses from; stalls are rarer, for they cost a client's whole patience with one request.
KINDS = ("lost", "lost", "dropped", "500", "503", "503", "429", "cut", "cut", "wrong", "skew", "lie", "stall", "half")


@dataclass(frozen=True, slots=True)
class Request:
    """What a fault is chosen by; ``number`` counts from 0, ``key`` is without the bucket."""

    number: int
    method: str
    key: str
    query: str


Choose = Callable[[Request], str]


def seeded(seed: int, share: float = 0.08) -> Choose:
    """About this share of all requests goes wrong; the n-th request of a seed always in the same way.

    A clock that is wrong, and a storm of 503, last for some requests.
    """
    storm: dict[str, Any] = {"left": 0, "kind": ""}

    def choose(request: Request) -> str:
        dice = random.Random(f"{seed}:{request.number}")
        if storm["left"]:
            storm["left"] -= 1
            return str(storm["kind"])
        if dice.random() >= share:
            return ""
        kind = dice.choice(KINDS)
        if kind in ("503", "skew"):
            storm.update(left=dice.randrange(6), kind=kind)
        return kind

    return choose


def nothing(_: Request) -> str:
    """All goes well."""
    return ""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is what these tests are about."""


class S3Proxy:
    """Listens at ``url`` and passes on to ``target``; ``faults`` counts what it did.

    ``target`` is an address, or a server in memory.  ``choose`` names a fault for each request, or
    nothing; what is "held" goes on when ``gate`` is set.  ``strict`` compares the sums of what
    arrives, as Amazon does and moto does not.
    ``overwrites`` ignores If-None-Match.
    """

    def __init__(
        self, target: str | MemoryS3, choose: Choose = nothing, *, strict: bool = True, overwrites: bool = False
    ) -> None:
        self.memory = target if isinstance(target, MemoryS3) else None
        self.target = "" if isinstance(target, MemoryS3) else urlsplit(target).netloc
        self.choose = choose
        self.strict = strict
        self.overwrites = overwrites
        self.faults: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.under_way = 0
        self.gate = threading.Event()
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self._server = _Listener(("127.0.0.1", 0), _handler_of(self))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """End; stalled requests end too."""
        self.ended.set()
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def begin(self, *, strict: bool) -> None:
        """Count anew; all goes well until ``choose`` is set."""
        with self.lock:
            self.choose = nothing
            self.strict = strict
            self.faults = Counter()
            self.requests = []

    @contextmanager
    def one(self) -> Iterator[None]:
        """A request that is under way."""
        with self.lock:
            self.under_way += 1
        try:
            yield
        finally:
            with self.lock:
                self.under_way -= 1

    def fault_of(self, method: str, path: str) -> tuple[Request, str]:
        """Count the request and choose."""
        parts = urlsplit(path)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        with self.lock:
            request = Request(len(self.requests), method, key, parts.query)
            self.requests.append(request)
            fault = self.choose(request)
            if fault:
                self.faults[fault] += 1
        return request, fault


@contextmanager
def proxied(target: str | MemoryS3, choose: Choose = nothing, **words: bool) -> Iterator[S3Proxy]:
    """A proxy for a while."""
    proxy = S3Proxy(target, choose, **words)
    try:
        yield proxy
    finally:
        proxy.close()


def _handler_of(proxy: S3Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.proxy = proxy
    return Handler


class _Handler(BaseHTTPRequestHandler):
    proxy: S3Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_any(self) -> None:
        with self.proxy.one():
            self._do()

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request, fault = self.proxy.fault_of(self.command, self.path)
        if fault == "held":
            self.proxy.gate.wait()
        if fault in ("dropped", "stall"):
            self._end(stalled=fault == "stall")
        elif fault in _ERRORS:
            self._error(*_ERRORS[fault])
        elif fault == "lie" and self._is_delete(request):
            self._answer(200 if self.command == "POST" else 204, {}, f"{_XML}<DeleteResult/>".encode(), bare=204)
        elif fault.startswith("keep:") and self.command == "POST" and "delete" in request.query:
            self._keep(body, fault.removeprefix("keep:"))
        elif fault == "empty" and "list-type" in request.query:
            told = "<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
            self._answer(200, {"Content-Type": "application/xml"}, f"{_XML}{told}".encode())
        else:
            self._pass_on(request, fault, body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_any  # noqa: N815

    def _is_delete(self, request: Request) -> bool:
        return self.command == "DELETE" or (self.command == "POST" and "delete" in request.query)

    def _pass_on(self, request: Request, fault: str, body: bytes) -> None:
        if fault == "wrong" and self.command == "PUT" and body:
            body = _flipped(body, request.number)
        if self.command == "PUT" and self.proxy.strict and not self._sums_fit(body):
            self._error(400, "BadDigest", "The sum that you sent is not that of what arrived.")
            return
        status, headers, answer = self._ask(body)
        if fault == "lost":
            self._end()
        elif fault in ("cut", "half") and self.command != "HEAD" and len(answer) > 1:
            self._answer(status, headers, answer[: len(answer) // 2], length=len(answer))
            self._end(stalled=fault == "half")
        elif fault == "wrong" and self.command == "GET" and request.key and answer:
            self._answer(status, headers, _flipped(answer, request.number))
        else:
            self._answer(status, headers, answer)

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        hop = {"connection", "transfer-encoding", "expect"}
        if self.proxy.overwrites:
            hop.add("if-none-match")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in hop}
        if self.proxy.memory is not None:
            if not self.proxy.strict:
                hop |= {"content-md5", "x-amz-checksum-sha256"}
            lower = {name.lower(): value for name, value in headers.items() if name.lower() not in hop}
            return self.proxy.memory.ask(self.command, self.path, lower, body)
        connection = http.client.HTTPConnection(self.proxy.target, timeout=60)
        try:
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            found = {name: value for name, value in answer.getheaders() if name.lower() not in hop}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def _sums_fit(self, body: bytes) -> bool:
        sums = {"x-amz-checksum-sha256": hashlib.sha256(body).digest(), "content-md5": hashlib.md5(body).digest()}
        told = {name: self.headers.get(name) for name in sums}
        return all(text is None or text == base64.b64encode(sums[name]).decode() for name, text in told.items())

    def _keep(self, body: bytes, part: str) -> None:
        """Delete all but the keys with ``part`` in them, whose results say that they are locked."""
        keys = re.findall(r"<Key>([^<]*)</Key>", body.decode())
        errors = []
        for key in keys:
            if part in key:
                errors.append(f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>locked</Message></Error>")
                continue
            connection = http.client.HTTPConnection(self.proxy.target, timeout=60)
            signed = {"Authorization": self.headers["Authorization"]}  # moto looks only whether there is one
            connection.request("DELETE", f"{self.path.partition('?')[0].rstrip('/')}/{key}", headers=signed)
            connection.getresponse().read()
            connection.close()
        self._answer(
            200, {"Content-Type": "application/xml"}, f"{_XML}<DeleteResult>{''.join(errors)}</DeleteResult>".encode()
        )

    def _error(self, status: int, code: str, message: str) -> None:
        told = f"{_XML}<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self._answer(status, {"Content-Type": "application/xml"}, told.encode())

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes, *, length: int | None = None, bare: int = 0
    ) -> None:
        try:
            self.send_response_only(status)
            body = b"" if status in (bare, 204, 304) else body
            told = headers.get("Content-Length") if self.command == "HEAD" else None
            for name, value in headers.items():
                if name.lower() != "content-length":
                    self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", told or str(len(body) if length is None else length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client went away first

    def _end(self, *, stalled: bool = False) -> None:
        """Hang up, at once or after more than a client's patience."""
        self.close_connection = True
        if stalled:
            self.proxy.ended.wait(3)


def _flipped(body: bytes, number: int) -> bytes:
    at = random.Random(number).randrange(len(body))
    return body[:at] + bytes([body[at] ^ 0x40]) + body[at + 1 :]
