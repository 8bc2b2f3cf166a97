"""The API's own description, written by hand as a value; a test finds every route in it."""

from __future__ import annotations

from typing import Any

from backupd import __version__
from backupd.model.kinds import BackupType
from backupd.service.web.api import RUNS_DEFAULT, RUNS_MAX, TEXT_LETTERS_MAX
from backupd.service.web.schemas import SCHEMAS, Schema, ref

_NAME = {"type": "string", "pattern": "^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"}
_ID = {"type": "string", "pattern": "^[0-9A-Za-z-]{1,80}$"}
_PARAMETERS: dict[str, Schema] = {
    "database": {"description": "The name that a policy gives it.", "schema": _NAME},
    "backup": {"description": "A backup's id.", "schema": _ID},
    "run": {"description": "A run's id.", "schema": _ID},
    "what": {"description": "Which decision.", "schema": {"enum": ["truncation", "retention", "schedule"]}},
}
_SHORT = {"type": "string", "maxLength": TEXT_LETTERS_MAX}
_DATABASE = "/api/databases/{database}"
_BACKUP = _DATABASE + "/backups/{backup}"

_FAILURES: dict[int, str] = {
    400: "The question is not one that can be asked.",
    401: "The token is missing or wrong.",
    403: "Nobody may do it here: the service has no token.",
    404: "There is no such database, backup or run.",
    409: "A rule refused it, or another run works on the database.",
    408: "The body did not come in time.",
    413: "The body is too big.",
    414: "The address is too long.",
    421: "The Host header names another host.",
    502: "What was read is damaged.",
    503: "The archive, a copy or the journal cannot be read now.",
}


def openapi() -> dict[str, Any]:
    """The description, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "backupd",
            "version": __version__,
            "description": "What backupctl says with --json, under the same names. Reading is free where the service "
            "listens on this host alone; whatever changes something needs the service's token.",
        },
        "paths": {path: {**_named(path), **what} for path, what in _paths().items()},
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> dict[str, Any]:
    limit = {
        "name": "limit",
        "in": "query",
        "description": "How many.",
        "schema": {"type": "integer", "minimum": 1, "maximum": RUNS_MAX, "default": RUNS_DEFAULT},
    }
    kinds = {"enum": [kind.value for kind in BackupType]}
    return {
        "/api/databases": _get("All databases, as status --json.", "Databases"),
        _DATABASE: _get("One database.", "Database"),
        _DATABASE + "/backups": _get("Its backups, oldest first, as list --json.", "Backups"),
        _BACKUP: _get("One backup, whole, as show --json.", "WholeBackup"),
        _DATABASE + "/runs": _get("Its last runs, newest first.", "Runs", [limit]),
        _DATABASE + "/runs/{run}": _get("One run with its diary.", "WholeRun"),
        _DATABASE + "/timeline": _get("What could be restored when.", "Timeline"),
        _DATABASE + "/holds": _get("What must stay, and why, as holds --json.", "Holds"),
        _DATABASE + "/explain/{what}": _get("The reasons, as explain --json.", "Explanation"),
        _DATABASE + "/run": _post("Begin a backup.", "RunBegun", {"type": kinds}, ["type"], 202),
        _DATABASE + "/suspend": _post("Stop copying and replay until resumed.", "Done", {"comment": _SHORT}),
        _DATABASE + "/resume": _post("Let copying and replay go on.", "Done", {}),
        _BACKUP + "/hold": _post("Keep a backup.", "HoldDone", {"reason": {**_SHORT, "minLength": 1}}, ["reason"]),
        _BACKUP + "/release": _post("Take a hold away.", "HoldDone", {"hold": _SHORT}),
        "/healthz": _health(),
        "/metrics": {"get": _plain("All numbers, for Prometheus.", "text/plain")},
        "/events": {"get": _plain("An event whenever something has changed, without end.", "text/event-stream")},
        "/openapi.json": {"get": _plain("This description.", "application/json")},
    }


def _named(path: str) -> dict[str, Any]:
    found = [
        {"name": name, "in": "path", "required": True, **what}
        for name, what in _PARAMETERS.items()
        if f"{{{name}}}" in path
    ]
    return {"parameters": found} if found else {}


def _get(summary: str, answer: str, parameters: list[Schema] | None = None) -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            **({"parameters": parameters} if parameters else {}),
            "responses": {"200": _json(summary, answer), **_failures(400, 401, 403, 404, 409, 414, 421, 502, 503)},
        }
    }


def _post(
    summary: str, answer: str, properties: Schema, required: list[str] | None = None, status: int = 200
) -> dict[str, Any]:
    body = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        body["required"] = required
    return {
        "post": {
            "summary": summary,
            "security": [{"token": []}],
            "requestBody": {"required": bool(required), "content": {"application/json": {"schema": body}}},
            "responses": {str(status): _json(summary, answer), **_failures(*_FAILURES)},
        }
    }


def _health() -> dict[str, Any]:
    says = "Whether the service still looks at its databases; whether they are well is for the alarms to say."
    answers = {"200": _json("It does.", "Health"), "503": _json("It does not.", "Health")}
    return {"get": {"summary": says, "responses": {**answers, **_failures(414, 421)}}}


def _plain(summary: str, media: str) -> dict[str, Any]:
    schema = {"type": "object"} if media == "application/json" else {"type": "string"}
    answer = {"description": summary, "content": {media: {"schema": schema}}}
    return {"summary": summary, "responses": {"200": answer, **_failures(401, 403, 414, 421, 503)}}


def _json(description: str, name: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": ref(name)}}}


def _failures(*statuses: int) -> dict[str, Any]:
    return {str(status): _json(_FAILURES[status], "Error") for status in statuses}
