"""The JSON API: what the command line says with ``--json``, under the same names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from backupd.errors import UsageProblem
from backupd.journal.records import JsonValue
from backupd.model.kinds import BackupType
from backupd.service.web.answers import json_answer
from backupd.service.web.session import Sessions

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    from backupd.service.board import Seen
    from backupd.service.desk import Desk

RUNS_MAX = 500
RUNS_DEFAULT = 50
TEXT_LETTERS_MAX = 500


def status_json(name: str, seen: Seen | None) -> dict[str, JsonValue]:
    """One database as ``status --json`` says it, with ``seen_at``; nothing but its name before the first look."""
    if seen is None:
        return {"name": name, "seen_at": None}
    return {**seen.status, "seen_at": seen.at.isoformat()}


class Api:
    """The endpoints; each asks the desk once."""

    def __init__(self, desk: Desk, sessions: Sessions) -> None:
        self._desk, self._sessions = desk, sessions

    def routes(self) -> list[Route]:
        """All of them, below ``/api``."""
        one = "/api/databases/{database}"
        backup = one + "/backups/{backup}"
        reads: dict[str, Callable[[Request], JSONResponse]] = {
            "/api/databases": self.databases,
            one: self.database,
            one + "/backups": self.backups,
            backup: self.backup,
            one + "/runs": self.runs,
            one + "/runs/{run}": self.run,
            one + "/timeline": self.timeline,
            one + "/holds": self.holds,
            one + "/explain/{what}": self.explain,
        }
        orders: dict[str, Callable[[Request], Any]] = {
            one + "/run": self.run_now,
            one + "/suspend": self.suspend,
            one + "/resume": self.resume,
            backup + "/hold": self.hold,
            backup + "/release": self.release,
        }
        return [Route(path, endpoint, methods=["GET"]) for path, endpoint in reads.items()] + [
            Route(path, endpoint, methods=["POST"]) for path, endpoint in orders.items()
        ]

    # --- reading ---

    def databases(self, request: Request) -> JSONResponse:
        """As ``status --json``."""
        no_questions(request)
        seen = {one.database: one for one in self._desk.all_seen()}
        return json_answer({"databases": [status_json(name, seen.get(name)) for name in self._desk.databases()]})

    def database(self, request: Request) -> JSONResponse:
        """One of them."""
        no_questions(request)
        name = request.path_params["database"]
        return json_answer(status_json(name, self._desk.seen(name)))

    def backups(self, request: Request) -> JSONResponse:
        """As ``list --json``."""
        no_questions(request)
        return json_answer({"backups": self._desk.backups(request.path_params["database"])})

    def backup(self, request: Request) -> JSONResponse:
        """As ``show --json``."""
        no_questions(request)
        return json_answer(self._desk.backup(request.path_params["database"], request.path_params["backup"]))

    def runs(self, request: Request) -> JSONResponse:
        """The last runs, newest first; ``limit`` of them."""
        no_questions(request, but="limit")
        limit = whole_number(request.query_params.get("limit", str(RUNS_DEFAULT)), RUNS_MAX)
        return json_answer({"runs": self._desk.runs(request.path_params["database"], limit)})

    def run(self, request: Request) -> JSONResponse:
        """One run with its diary."""
        no_questions(request)
        return json_answer(self._desk.run(request.path_params["database"], request.path_params["run"]))

    def timeline(self, request: Request) -> JSONResponse:
        """What could be restored when."""
        no_questions(request)
        return json_answer(self._desk.timeline(request.path_params["database"]))

    def holds(self, request: Request) -> JSONResponse:
        """As ``holds --json``."""
        no_questions(request)
        return json_answer(self._desk.holds(request.path_params["database"]))

    def explain(self, request: Request) -> JSONResponse:
        """As ``explain --json``."""
        no_questions(request)
        return json_answer(self._desk.explain(request.path_params["database"], request.path_params["what"]))

    # --- changing ---

    async def run_now(self, request: Request) -> JSONResponse:
        """Begin a backup; 202, for it is not over when this answers."""
        order = await self._order(request, {"type"})
        kind, name = backup_type(order.get("type")), request.path_params["database"]
        says = await run_in_threadpool(self._desk.run_now, name, kind)
        return json_answer({"database": name, "type": kind.value, "done": [says]}, 202)

    async def suspend(self, request: Request) -> JSONResponse:
        """As ``copy suspend --json``."""
        order = await self._order(request, {"comment"})
        name = request.path_params["database"]
        says = await run_in_threadpool(self._desk.suspend, name, text_of(order, "comment"))
        return json_answer({"database": name, "dry_run": False, "done": [says]})

    async def resume(self, request: Request) -> JSONResponse:
        """As ``copy resume --json``."""
        await self._order(request, set())
        name = request.path_params["database"]
        says = await run_in_threadpool(self._desk.resume, name)
        return json_answer({"database": name, "dry_run": False, "done": [says]})

    async def hold(self, request: Request) -> JSONResponse:
        """As ``hold --json``."""
        order = await self._order(request, {"reason"})
        names, reason = request.path_params, text_of(order, "reason")
        if not reason:
            raise _usage("a hold needs a reason", "whoever finds it in years must know why", "send it as reason")
        found = await run_in_threadpool(self._desk.hold, names["database"], names["backup"], reason)
        return json_answer({"dry_run": False, **found})

    async def release(self, request: Request) -> JSONResponse:
        """As ``release --json``."""
        order = await self._order(request, {"hold"})
        names = request.path_params
        found = await run_in_threadpool(self._desk.release, names["database"], names["backup"], text_of(order, "hold"))
        return json_answer({"dry_run": False, **found})

    async def _order(self, request: Request, known: set[str]) -> Mapping[str, Any]:
        """Who asks is looked at before what is asked. Raises NotSignedIn, Refused, UsageProblem."""
        await self._sessions.check_bearer(request)
        no_questions(request)
        body = await request.body()
        try:
            found = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            raise _usage("the body is not JSON", "it must be an object", "send a JSON object") from None
        if not isinstance(found, dict):
            raise _usage("the body is not an object", "it must be an object", "send a JSON object")
        if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _usage("the body is not JSON", "its Content-Type says so", "send Content-Type: application/json")
        if unknown := sorted(set(found) - known):
            keys = ", ".join(sorted(known)) or "none"
            raise _usage(f"there is no key {unknown[0][:50]!r} here", f"known are: {keys}", "see /openapi.json")
        return found


def _usage(problem: str, because: str, next_step: str) -> UsageProblem:
    return UsageProblem(problem, because=because, next_step=next_step)


def no_questions(request: Request, but: str = "") -> None:
    """Refuse what would be ignored: a slip of the pen must not look like an answer. Raises UsageProblem."""
    if unknown := sorted(set(request.query_params) - {but}):
        known = but or "none"
        raise _usage(f"there is no parameter {unknown[0][:50]!r} here", f"known are: {known}", "see /openapi.json")


def backup_type(given: object) -> BackupType:
    """The type of that name. Raises UsageProblem."""
    try:
        return BackupType(str(given) if isinstance(given, str) else "")
    except ValueError:
        kinds = ", ".join(kind.value for kind in BackupType)
        raise _usage("there is no such type of backup", f"there are: {kinds}", "send one of them as type") from None


def whole_number(given: str, most: int) -> int:
    """A number from 1 to ``most``. Raises UsageProblem."""
    number = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    if not 1 <= number <= most:
        raise _usage("limit is not a number that can be used", f"it is from 1 to {most}", "leave it out, or change it")
    return number


def text_of(order: Mapping[str, Any], key: str) -> str:
    """A short text, or nothing. Raises UsageProblem."""
    given = order.get(key, "")
    if not isinstance(given, str) or len(given) > TEXT_LETTERS_MAX:
        raise _usage(f"{key} is not a short text", f"at most {TEXT_LETTERS_MAX} letters", "shorten it")
    return " ".join(given.split())
