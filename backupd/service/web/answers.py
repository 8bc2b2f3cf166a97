"""Answers of the web: which failure is which HTTP status, and its three lines as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from backupd import errors
from backupd.errors import BackupdError
from backupd.service.web.session import MayNot, NotSignedIn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

# The first that fits; none is 500, which a bug alone is.
_STATUSES: tuple[tuple[type[BackupdError], int], ...] = (
    (NotSignedIn, 401),
    (MayNot, 403),
    (errors.UsageProblem, 400),
    (errors.NotFound, 404),
    (errors.Refused, 409),
    (errors.Busy, 409),
    (errors.DamageFound, 502),
    (BackupdError, 503),
)


def status_of_error(error: BackupdError) -> int:
    """The HTTP status that tells a program how to go on."""
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def named(error: BackupdError, request: Request) -> BackupdError:
    """The rooms below say DATABASE, for they do not know its name."""
    if database := request.path_params.get("database"):
        error.because = error.because.replace("DATABASE", database)
        error.next_step = error.next_step.replace("DATABASE", database)
    return error


def error_json(error: BackupdError) -> dict[str, Any]:
    """As the command line says it with ``--json``."""
    facts = {
        "problem": error.problem,
        "because": error.because,
        "next": error.next_step,
        "exit_status": error.exit_status,
    }
    return {"error": facts}


def json_answer(
    content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A JSON answer."""
    return JSONResponse(content, status, headers=dict(headers or {}))


def json_failure(error: BackupdError, request: Request) -> JSONResponse:
    """The three lines as JSON."""
    status = status_of_error(error)
    headers = {"www-authenticate": 'Bearer realm="backupd"'} if status == 401 else {}
    return json_answer(error_json(named(error, request)), status, headers)
