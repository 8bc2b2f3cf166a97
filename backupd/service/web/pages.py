"""The pages: all databases, one database, a run, the reasons; and the forms behind the token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from backupd.errors import BackupdError, UsageProblem
from backupd.service.web.answers import named, status_of_error
from backupd.service.web.api import TEXT_LETTERS_MAX, backup_type
from backupd.service.web.glance import Mood, glance_of, overview
from backupd.service.web.look import environment
from backupd.service.web.pictures import draw_timeline
from backupd.service.web.session import NotSignedIn, Sessions

if TYPE_CHECKING:
    from starlette.requests import Request

    from backupd.service.desk import Desk

RUNS_SHOWN = 12
BACKUPS_SHOWN = 15
_HERE = Path(__file__).parent


class Pages:
    """The HTML; every page is whole without JavaScript."""

    def __init__(self, desk: Desk, sessions: Sessions) -> None:
        self._desk, self._sessions = desk, sessions
        self._templates = environment(_HERE / "templates")

    def routes(self) -> list[Route]:
        """All of them."""
        one = "/databases/{database}"
        return [
            Route("/", self.all, methods=["GET"]),
            Route("/login", self.login_form, methods=["GET"]),
            Route("/login", self.login, methods=["POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route(one, self.database, methods=["GET"]),
            Route(one + "/backups/{backup}", self.backup, methods=["GET"]),
            Route(one + "/runs/{run}", self.run, methods=["GET"]),
            Route(one + "/explain/{what}", self.explain, methods=["GET"]),
            Route(one + "/{action}", self.act, methods=["POST"]),
        ]

    # --- pages ---

    def all(self, request: Request) -> Response:
        """All databases at a glance, the worst first."""
        asked = request.query_params
        page = asked.get("page", "1")
        mood = asked.get("mood", "")
        now = self._desk.now()
        seen = {one.database: one for one in self._desk.all_seen()}
        shown = overview(
            [glance_of(name, seen.get(name), now) for name in self._desk.databases()],
            find=asked.get("find", "")[:63],
            mood=mood if mood in set(Mood) else "",
            page=int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1,
        )
        return self._page(request, "all.html", shown=shown, asked=asked, moods=list(Mood))

    def database(self, request: Request) -> Response:
        """One database."""
        name = request.path_params["database"]
        now, seen = self._desk.now(), self._desk.seen(name)
        days = {"1": 1, "7": 7, "35": 35, "400": 400, "all": 0}.get(request.query_params.get("days", ""))
        trouble: list[BackupdError] = []

        def asked(question: Callable[[], Any], otherwise: Any) -> Any:
            try:
                return question()
            except BackupdError as error:  # one part of the page that cannot be had does not take the others along
                if str(error) not in map(str, trouble):
                    trouble.append(named(error, request))
                return otherwise

        timeline = asked(lambda: self._desk.timeline(name), None)
        backups = asked(lambda: self._desk.backups(name), [])
        return self._page(
            request,
            "database.html",
            glance=glance_of(name, seen, now),
            facts=seen.status if seen else {},
            timeline=timeline,
            picture=draw_timeline(timeline, days) if timeline else None,
            backups=backups[::-1][:BACKUPS_SHOWN],
            backups_total=len(backups),
            runs=asked(lambda: self._desk.runs(name, RUNS_SHOWN), []),
            coming=asked(lambda: self._desk.next_runs(name), []),
            holds=asked(lambda: self._desk.holds(name), {"holds": [], "backup_holds": []}),
            trouble=trouble,
            said=self._sessions.said(request.query_params.get("said", "")),
        )

    def backup(self, request: Request) -> Response:
        """One backup, whole."""
        names = request.path_params
        found = self._desk.backup(names["database"], names["backup"])
        return self._page(request, "backup.html", one=found)

    def run(self, request: Request) -> Response:
        """One run with its diary."""
        names = request.path_params
        return self._page(request, "run.html", run=self._desk.run(names["database"], names["run"]))

    def explain(self, request: Request) -> Response:
        """The reasons behind a decision."""
        names = request.path_params
        found = self._desk.explain(names["database"], names["what"])
        return self._page(request, "explain.html", database=names["database"], what=names["what"], found=found)

    # --- signing in ---

    def login_form(self, request: Request) -> Response:
        """Where the token is given."""
        return self._page(request, "login.html", wrong="")

    async def login(self, request: Request) -> Response:
        """Open a session for whoever knows the token."""
        form = await _form(request)
        try:
            await self._sessions.check_token(form.get("token", ""))
        except BackupdError as error:
            return self._page(request, "login.html", status_of_error(error), wrong=error.because)
        answer = RedirectResponse("/", 303)
        self._sessions.open(answer)
        return answer

    async def logout(self, request: Request) -> Response:
        """Close the session."""
        self._sessions.check_form(request, (await _form(request)).get("mark", ""))
        answer = RedirectResponse("/", 303)
        self._sessions.close(answer)
        return answer

    # --- acting ---

    async def act(self, request: Request) -> Response:
        """One of the forms of a database; answers with its page and a sentence."""
        form = await _form(request)
        self._sessions.check_form(request, form.get("mark", ""))
        name, action = request.path_params["database"], request.path_params["action"]
        done = await run_in_threadpool(self._acted, name, action, form)
        return RedirectResponse(f"/databases/{quote(name)}?said={quote(self._sessions.saying(done))}", 303)

    def _acted(self, name: str, action: str, form: Mapping[str, str]) -> str:
        backup = form.get("backup", "")
        if action == "run":
            return self._desk.run_now(name, backup_type(form.get("type")))
        if action == "suspend":
            return self._desk.suspend(name, form.get("comment", ""))
        if action == "resume":
            return self._desk.resume(name)
        if action == "hold":
            self._desk.hold(name, backup, form.get("reason", ""))
            return f"{backup} is held"
        if action == "release":
            self._desk.release(name, backup, form.get("hold", ""))
            return f"{backup} is not held by {form.get('hold') or 'its hold'} any more"
        raise UsageProblem(
            "there is no such action", because="a form asked for another one", next_step=f"go back to {name}"
        )

    # --- all pages ---

    def failure(self, request: Request, error: BackupdError, status: int = 0) -> Response:
        """The three lines as a page."""
        shown = named(error, request)
        wants_sign_in = isinstance(error, NotSignedIn)
        return self._page(
            request, "failure.html", status or status_of_error(error), error=shown, wants_sign_in=wants_sign_in
        )

    def _page(self, request: Request, template: str, status: int = 200, **facts: Any) -> Response:
        now: datetime = self._desk.now()
        html = self._templates.get_template(template).render(
            **facts,
            now=now,
            version=self._desk.version(),
            mark=self._sessions.form_mark_or_none(request),
            can_sign_in=self._sessions.can_sign_in,
        )
        return HTMLResponse(html, status)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form as browsers send it; the last one of a name counts. Raises UsageProblem."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        text = (await request.body()).decode("ascii") if kind == "application/x-www-form-urlencoded" else ""
        found = parse_qs(text, max_num_fields=20, errors="strict")
    except ValueError:
        found = {}
    fields = {name: " ".join(values[-1].split()) for name, values in found.items()}
    if any(len(value) > TEXT_LETTERS_MAX for value in fields.values()):
        raise UsageProblem("a field is too long", because=f"at most {TEXT_LETTERS_MAX} letters", next_step="shorten it")
    return fields
