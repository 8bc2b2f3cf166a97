"""The app: pages, API, metrics and health under one guard."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from backupd.errors import BackupdError, NotFound, UsageProblem
from backupd.service.web.answers import json_answer, json_failure
from backupd.service.web.api import Api
from backupd.service.web.events import Announcer
from backupd.service.web.guard import Guard
from backupd.service.web.openapi import openapi
from backupd.service.web.pages import Pages
from backupd.service.web.session import NotSignedIn, ReadToken, Sessions

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from backupd.service.desk import Desk

LOG = logging.getLogger("service")
HERE = Path(__file__).parent
FRESH_SECONDS = 300.0
# Without a token these may be asked for wherever the page listens.
_FOR_ALL = ("/healthz", "/login", "/static/")


def make_app(
    desk: Desk,
    read_token: ReadToken | None,
    *,
    names: Iterable[str] = (),
    tls: bool = False,
    open_to_all: bool = True,
) -> Starlette:
    """The app over a desk.

    Args:
        desk: what is asked, and told to act.
        read_token: reads the service's token; None: nobody may change anything.
        names: host names that it may be asked for by.
        tls: whether it is served over TLS.
        open_to_all: whether whoever reaches it may read; if not, reading needs the token, too.
    """
    sessions = Sessions(read_token, tls=tls)
    pages = Pages(desk, sessions)
    announcer = Announcer(desk.wait_newer, desk.version())

    async def failed(request: Request, error: Exception) -> Response:
        told = _as_ours(error)
        if request.url.path.startswith(("/api", "/openapi", "/metrics", "/events", "/healthz")):
            return json_failure(told, request) if not isinstance(error, HTTPException) else _plain(error, told)
        return pages.failure(request, told, error.status_code if isinstance(error, HTTPException) else 0)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        await announcer.begin()
        yield
        announcer.end()

    app = _Guarded(
        routes=[
            *pages.routes(),
            *Api(desk, sessions).routes(),
            *_plain_routes(desk, announcer),
            Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
        ],
        middleware=[] if open_to_all else [Middleware(_ReadersOnly, sessions=sessions)],
        exception_handlers={BackupdError: failed, HTTPException: failed, Exception: _bug},
        lifespan=lifespan,
    )
    app.state.announcer, app.state.guard = announcer, {"names": tuple(names), "tls": tls}
    return app


class _Guarded(Starlette):
    """With the guard outside of all, so that what it promises holds for the answer to a bug, too."""

    def build_middleware_stack(self) -> ASGIApp:
        """As Starlette does, and around it the guard."""
        return Guard(super().build_middleware_stack(), **self.state.guard)


def _plain_routes(desk: Desk, announcer: Announcer) -> list[Route]:
    def metrics(request: Request) -> Response:
        del request
        from backupd.service.metrics import CONTENT_TYPE, metrics_text

        rows = [(seen.status, seen.at) for seen in desk.all_seen()]
        return Response(metrics_text(rows, desk.now()), headers={"content-type": CONTENT_TYPE})

    def healthz(request: Request) -> JSONResponse:
        del request
        return _health(desk)

    def description(request: Request) -> JSONResponse:
        del request
        return json_answer(openapi())

    async def events(request: Request) -> Response:
        del request
        if announcer.is_full:
            return PlainTextResponse("too many pages listen; this one is told nothing\n", 503)
        return StreamingResponse(announcer.listen(), media_type="text/event-stream")

    return [
        Route("/metrics", metrics),
        Route("/healthz", healthz),
        Route("/openapi.json", description),
        Route("/events", events),
    ]


def _health(desk: Desk) -> JSONResponse:
    """Whether the service still looks at its databases: not whether they are well, which alarms say."""
    seen, known = desk.all_seen(), desk.databases()
    newest = max((one.at for one in seen), default=None)
    if newest is None and known:
        return json_answer({"state": "not fresh", "because": "no database was looked at yet"}, 503)
    age = 0.0 if newest is None else max(0.0, (desk.now() - newest).total_seconds())
    if age > FRESH_SECONDS:
        because = f"the service looked at a database last {age:.0f} s ago (limit {FRESH_SECONDS:.0f} s)"
        return json_answer({"state": "not fresh", "because": because}, 503)
    return json_answer({"state": "fresh", "because": f"{len(seen)} of {len(known)} databases were looked at"})


def _as_ours(error: Exception) -> BackupdError:
    if isinstance(error, BackupdError):
        return error
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return NotFound("there is no such page", because="no address here is like this", next_step="begin at /")
    return UsageProblem("this is not how to ask", because=f"HTTP status {status}", next_step="see /openapi.json")


def _plain(error: HTTPException, told: BackupdError) -> JSONResponse:
    """What the router itself refuses, like a wrong method, keeps its status and its headers."""
    from backupd.service.web.answers import error_json

    return json_answer(error_json(told), error.status_code, error.headers)


async def _bug(request: Request, error: Exception) -> Response:
    """What the failure was is for the log alone."""
    LOG.error("a bug in the page: %s", type(error).__name__, extra={"facts": {"path": request.url.path}})
    facts = {
        "problem": "a bug in backupd",
        "because": "the service's log has it",
        "next": "report it",
        "exit_status": 1,
    }
    return json_answer({"error": facts}, 500)


class _ReadersOnly:
    """Where the page can be reached from elsewhere, reading needs the token or a session."""

    def __init__(self, app: ASGIApp, *, sessions: Sessions) -> None:
        self._app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or str(scope["path"]).startswith(_FOR_ALL):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer: Any = None
        if not self._sessions.session_of(request):
            try:
                await self._sessions.check_bearer(request)
            except NotSignedIn as error:
                answer = json_failure(error, request)
                if "text/html" in request.headers.get("accept", ""):
                    answer = Response(status_code=303, headers={"location": "/login"})
            except BackupdError as error:
                answer = json_failure(error, request)
        await (answer or self._app)(scope, receive, send)
