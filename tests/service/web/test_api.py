"""The API and its own description: every route is in it, and every answer is as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install '.[service,test]'")
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.routing import Route
from starlette.testclient import TestClient

from backupd.service.web.app import make_app
from backupd.service.web.openapi import openapi
from tests.service.web.showroom import ShowDesk, history, showroom
from tests.service.web.test_guard import TOKEN, client_of

DESCRIPTION = openapi()
BACKUP = history("orders", broken=True)[0]["id"]
SIGNED = {"authorization": f"Bearer {TOKEN}"}
ONE = "/api/databases/{database}"
# Pages are for people; these are not part of the API.
_PAGES = ("/databases", "/login", "/logout")


@pytest.fixture(name="desk")
def a_desk() -> ShowDesk:
    return showroom(5, broken=True)


@pytest.fixture(name="client")
def a_client(desk: ShowDesk, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr("backupd.service.web.session.WRONG_TOKEN_SECONDS", 0.0)
    with client_of(desk) as client:
        yield client


def assert_described(path: str, method: str, answer: Any) -> None:
    """Status and shape are those of the description."""
    described = DESCRIPTION["paths"][path][method]["responses"]
    assert str(answer.status_code) in described, answer.text
    (media,) = described[str(answer.status_code)]["content"].items()
    assert answer.headers["content-type"].startswith(media[0])
    schema = {**media[1]["schema"], "components": DESCRIPTION["components"]}
    if media[0] == "application/json":
        Draft202012Validator(schema).validate(answer.json())


def test_the_description_is_openapi() -> None:
    validate(DESCRIPTION)


def test_every_route_is_described_and_nothing_else_is(desk: ShowDesk) -> None:
    routes = {
        (route.path, method.lower())
        for route in make_app(desk, None).routes
        if isinstance(route, Route) and route.path != "/" and not route.path.startswith(_PAGES)
        for method in route.methods or ()
        if method != "HEAD"
    }
    described = {
        (path, method) for path, what in DESCRIPTION["paths"].items() for method in what if method != "parameters"
    }
    assert routes == described


def test_what_changes_something_is_described_as_behind_the_token() -> None:
    for path, what in DESCRIPTION["paths"].items():
        assert "security" in what.get("post", {"security": 1}), path
        assert "security" not in what.get("get", {}), path


READS = [
    *("/healthz", "/metrics", "/openapi.json", "/api/databases", ONE, ONE + "/backups", ONE + "/backups/{backup}"),
    *(ONE + "/runs", ONE + "/runs/{run}", ONE + "/timeline", ONE + "/holds", ONE + "/explain/{what}"),
]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("database", ["orders", "ledger", "nobody"])
def test_answers_are_as_described(client: TestClient, desk: ShowDesk, path: str, database: str) -> None:
    run = desk.runs("orders", 1)[0]["run"]
    places = {"database": database, "backup": BACKUP, "run": run, "what": "truncation"}
    answer = client.get(path.format(**places))
    assert_described(path, "get", answer)
    assert answer.status_code == (404 if database == "nobody" and "{database}" in path else answer.status_code)


ORDERS: list[tuple[str, Any, tuple[str, ...]]] = [
    (ONE + "/run", {"type": "express"}, ("run", "orders", "express")),
    (ONE + "/suspend", {"comment": "why"}, ("suspend", "orders", "why")),
    (ONE + "/resume", {}, ("resume", "orders")),
    (ONE + "/backups/{backup}/hold", {"reason": "the auditor"}, ("hold", "orders", BACKUP, "the auditor")),
    (ONE + "/backups/{backup}/release", {"hold": "0a1b2c3d"}, ("release", "orders", BACKUP, "0a1b2c3d")),
]


@pytest.mark.parametrize(("path", "body", "order"), ORDERS)
def test_orders_are_carried_out_and_answered_as_described(
    client: TestClient, desk: ShowDesk, path: str, body: Any, order: tuple[str, ...]
) -> None:
    answer = client.post(path.format(database="orders", backup=BACKUP), json=body, headers=SIGNED)
    assert answer.status_code in {200, 202}
    assert_described(path, "post", answer)
    assert desk.orders == [order]


@pytest.mark.parametrize("path", [order[0] for order in ORDERS])
@pytest.mark.parametrize(
    ("body", "media"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'{"other": 1}', "application/json"),
        (b"{}", "text/plain"),
        (b"[" * 9000, "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"type": 7, "comment": 7, "reason": 7, "hold": 7}', "application/json"),
    ],
)
def test_orders_that_are_none_are_refused_as_described(
    client: TestClient, desk: ShowDesk, path: str, body: bytes, media: str
) -> None:
    answer = client.post(
        path.format(database="orders", backup=BACKUP), content=body, headers={**SIGNED, "content-type": media}
    )
    assert answer.status_code == 400
    assert_described(path, "post", answer)
    assert not desk.orders


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "limit=-1", "limit=", "limt=5"])
def test_a_slip_of_the_pen_is_told(client: TestClient, query: str) -> None:
    answer = client.get(f"/api/databases/orders/runs?{query}")
    assert answer.status_code == 400
    assert_described(ONE + "/runs", "get", answer)


def test_a_method_that_an_address_has_not_is_told_with_those_that_it_has(client: TestClient) -> None:
    answer = client.put("/api/databases")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert answer.json()["error"]["next"]


def test_an_archive_that_is_away_is_503_with_the_three_lines(client: TestClient, desk: ShowDesk) -> None:
    desk.archive_away = True
    answer = client.get("/api/databases/orders/backups")
    assert answer.status_code == 503
    assert answer.json()["error"] == {
        "problem": "the archive cannot be read",
        "because": "connection refused",
        "next": "start it",
        "exit_status": 8,
    }
