"""The guard at the door: whose name was asked for, from which page, how big, how long; and what every answer says."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 16 * 1024
TARGET_BYTES_MAX = 4 * 1024
REQUEST_SECONDS_MAX = 60.0
BODY_SECONDS_MAX = 10.0
READING = frozenset({"GET", "HEAD"})
# Answers that last: they end with the service, or with their listener.
LASTING = frozenset({"/events"})

HEADERS: dict[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with no-referrer, browsers say of our own forms that they come from nowhere
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class Guard:
    """Wraps the app: refuses what no honest browser or program sends, and sets the headers of every answer.

    Args:
        app: what is behind.
        names: host names, besides localhost and addresses, that the page may be asked for by. A name that
            somebody else's DNS lets point at this host is none of them: so no foreign page can read this one.
        tls: whether browsers come by HTTPS.
        request_seconds_max: how long an answer may take.
    """

    def __init__(
        self, app: ASGIApp, *, names: Iterable[str], tls: bool, request_seconds_max: float = REQUEST_SECONDS_MAX
    ) -> None:
        self._app, self._seconds = app, request_seconds_max
        self._names = {"localhost", *(name.lower() for name in names)}
        headers = dict(HEADERS)
        if tls:
            headers["strict-transport-security"] = "max-age=31536000"
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = False

        async def guarded(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in self._headers if one[0] not in own)]
            await send(message)

        if refusal := self._refusal(scope):
            await _answer(guarded, *refusal)
            return
        try:
            seconds = None if scope["path"] in LASTING else self._seconds
            async with asyncio.timeout(seconds):
                await self._app(scope, _limited(receive), guarded)
        except TimeoutError:
            if not began:
                await _answer(guarded, 503, "the answer took too long", f"over {self._seconds:.0f} s")

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        """Status, problem and fact of a request that is not let in; None for the others."""
        headers = _headers_of(scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, "this is not the host that was asked for", "the Host header names another one; see names"
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > TARGET_BYTES_MAX:
            return 414, "the address is too long", f"at most {TARGET_BYTES_MAX} bytes are read"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > BODY_BYTES_MAX:
            return 413, "the request is too big", f"at most {BODY_BYTES_MAX} bytes are read"
        if scope["method"] not in READING and not _is_own_page(headers, host):
            return 403, "the request comes from another site's page", "its Origin or Sec-Fetch-Site says so"
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True  # an address is nobody's to let point elsewhere


def _headers_of(scope: Scope) -> MutableMapping[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _is_own_page(headers: MutableMapping[str, str], host: str) -> bool:
    """Programs send neither header; browsers send at least one of them with all that changes something."""
    if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}:
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _limited(receive: Receive) -> Receive:
    """A body that comes in time, and is not too big whatever its length said."""
    read = 0

    async def limited() -> Message:
        nonlocal read
        whole = read < 0
        if whole:  # what comes now is the end of the connection, and may be long in coming
            return await receive()
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408) from None
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            if read > BODY_BYTES_MAX:
                raise HTTPException(413)
            if not message.get("more_body"):
                read = -1
        return message

    return limited


async def _answer(send: Any, status: int, problem: str, because: str) -> None:
    error = {"problem": problem, "because": because, "next": "look at the address and the form of the request"}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
