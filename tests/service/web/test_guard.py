"""The door of the page: who is let in, what is refused, what every answer says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install '.[service,test]'")
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from backupd.service.web.app import make_app
from backupd.service.web.guard import BODY_BYTES_MAX, HEADERS, Guard
from backupd.service.web.session import COOKIE
from tests.service.web.showroom import ShowDesk, showroom

TOKEN = "a-token-of-the-tests-only"
HOME = "http://127.0.0.1:8630"
RUN = "/api/databases/orders/run"
CHANGES = [
    *(f"/api/databases/orders/{action}" for action in ("run", "suspend", "resume")),
    *(f"/api/databases/orders/backups/x/{action}" for action in ("hold", "release")),
    *(f"/databases/orders/{action}" for action in ("run", "suspend", "resume", "hold", "release", "other")),
    "/logout",
]


def client_of(desk: ShowDesk, token: str | None = TOKEN, **more: Any) -> TestClient:
    read: Callable[[], str] | None = None if token is None else (lambda: token)
    return TestClient(make_app(desk, read, **more), base_url=HOME, follow_redirects=False)


@pytest.fixture(name="desk")
def a_desk() -> ShowDesk:
    return showroom(2, broken=True)


@pytest.fixture(name="client")
def a_client(desk: ShowDesk, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr("backupd.service.web.session.WRONG_TOKEN_SECONDS", 0.0)
    with client_of(desk) as client:
        yield client


def sign_in(client: TestClient) -> str:
    answer = client.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303
    page = client.get("/databases/orders").text
    return page.split('name="mark" value="')[1].split('"')[0]


@pytest.mark.parametrize(
    "path", ["/", "/databases/orders", "/api/databases", "/nothing", "/static/page.css", "/metrics"]
)
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    answer = client.get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "server" not in answer.headers


def test_an_answer_to_a_bug_has_them_too_and_says_nothing_of_it(
    desk: ShowDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down() -> Any:
        raise ZeroDivisionError("a secret word")

    monkeypatch.setattr(desk, "all_seen", break_down)
    client = TestClient(make_app(desk, None), base_url=HOME, raise_server_exceptions=False)
    answer = client.get("/")
    assert answer.status_code == 500
    assert answer.headers["content-security-policy"] == HEADERS["content-security-policy"]
    assert "secret" not in answer.text
    assert "Zero" not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8630", "127.0.0.1.evil.example", "", "[", "::1"])
def test_a_name_that_is_not_ours_is_not_answered(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "orders" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8630", "localhost:9", "[::1]:8630", "LOCALHOST"])
def test_this_host_is_answered_by_its_names(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


def test_a_name_of_the_config_is_ours(desk: ShowDesk) -> None:
    assert client_of(desk, names=("db1.example",)).get("/", headers={"host": "db1.example"}).status_code == 200


@pytest.mark.parametrize("path", CHANGES)
def test_without_a_token_in_the_config_nothing_can_be_changed(desk: ShowDesk, path: str) -> None:
    answer = client_of(desk, token=None).post(path, headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 403
    assert not desk.orders


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN])
@pytest.mark.parametrize("path", CHANGES)
def test_without_the_right_token_nothing_is_changed(client: TestClient, desk: ShowDesk, path: str, given: str) -> None:
    answer = client.post(path, headers={"authorization": given} if given else {})
    assert answer.status_code == 401
    assert TOKEN not in answer.text
    assert not desk.orders


def test_with_the_token_a_program_may_act(client: TestClient, desk: ShowDesk) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert client.post(RUN, json={"type": "full"}, headers=headers).status_code == 202
    assert desk.orders == [("run", "orders", "full")]


def test_browsers_are_let_say_where_our_own_forms_come_from() -> None:
    # With no-referrer they send "Origin: null" with a form, which nobody can tell from another site's.
    assert HEADERS["referrer-policy"] == "same-origin"


def test_a_token_that_could_be_guessed_is_none(desk: ShowDesk) -> None:
    answer = client_of(desk, token="short").post(RUN, headers={"authorization": "Bearer short"})
    assert answer.status_code == 403


def test_a_session_is_kept_where_no_script_and_no_other_site_finds_it(client: TestClient) -> None:
    cookie = client.post("/login", data={"token": TOKEN}).headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert TOKEN not in cookie


def test_over_tls_the_session_stays_on_tls(desk: ShowDesk) -> None:
    client = client_of(desk, tls=True)
    answer = client.post("/login", data={"token": TOKEN})
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "strict-transport-security" in answer.headers


def test_a_wrong_token_opens_nothing(client: TestClient) -> None:
    answer = client.post("/login", data={"token": "wrong"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_a_form_needs_the_mark_of_its_own_session(client: TestClient, desk: ShowDesk) -> None:
    mark = sign_in(client)
    # Not its last character: not all of the bits of that one say something.
    turned = mark[:-2] + ("A" if mark[-2] != "A" else "B") + mark[-1]
    for wrong in ("", "x", turned, mark[:-2], client.cookies[COOKIE]):
        assert client.post("/databases/orders/resume", data={"mark": wrong}).status_code == 401
    other = client_of(desk)
    other_mark = sign_in(other)
    assert client.post("/databases/orders/resume", data={"mark": other_mark}).status_code == 401
    assert not desk.orders
    assert client.post("/databases/orders/resume", data={"mark": mark}).status_code == 303
    assert desk.orders == [("resume", "orders")]


def test_a_session_ends_with_the_token_and_with_a_sign_out(desk: ShowDesk) -> None:
    tokens = [TOKEN]
    client = TestClient(make_app(desk, lambda: tokens[0]), base_url=HOME, follow_redirects=False)
    mark = sign_in(client)
    tokens[0] = "another-token-of-the-tests"
    assert client.post("/databases/orders/resume", data={"mark": mark}).status_code == 401
    tokens[0] = TOKEN
    assert client.post("/logout", data={"mark": mark}).status_code == 303
    assert COOKIE not in client.cookies


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_form_is_refused_though_all_else_is_right(
    client: TestClient, desk: ShowDesk, headers: dict[str, str]
) -> None:
    mark = sign_in(client)
    assert client.post("/databases/orders/resume", data={"mark": mark}, headers=headers).status_code == 403
    assert client.post("/login", data={"token": TOKEN}, headers=headers).status_code == 403
    assert not desk.orders


def test_the_own_pages_form_is_let_in(client: TestClient, desk: ShowDesk) -> None:
    headers = {"origin": HOME, "sec-fetch-site": "same-origin"}
    mark = sign_in(client)
    assert client.post("/databases/orders/resume", data={"mark": mark}, headers=headers).status_code == 303
    assert desk.orders


def test_what_is_too_big_is_refused(client: TestClient) -> None:
    big = "x" * (BODY_BYTES_MAX + 1)
    assert client.post("/login", data={"token": big}).status_code == 413
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/login", content=iter([big.encode()[:9000], big.encode()]), headers=form).status_code == 413
    assert client.get("/?find=" + "x" * 5000).status_code == 414


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def sleep(request: object) -> None:
        await asyncio.sleep(60)

    guarded = Guard(Starlette(routes=[Route("/", sleep)]), names=(), tls=False, request_seconds_max=0.01)
    assert TestClient(guarded, base_url=HOME).get("/").status_code == 503


def test_a_page_for_all_hosts_is_read_with_the_token_only(desk: ShowDesk) -> None:
    client = client_of(desk, open_to_all=False)
    for path in ("/databases/orders", "/api/databases", "/metrics", "/events", "/openapi.json"):
        assert client.get(path).status_code == 401
    assert client.get("/", headers={"accept": "text/html"}).headers["location"] == "/login"
    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    sign_in(client)
    assert client.get("/").status_code == 200


def test_what_others_write_is_shown_and_never_run(desk: ShowDesk) -> None:
    script = "<script>alert(1)</script>"
    seen = desk.board.seen("orders")
    assert seen is not None
    status: dict[str, Any] = {**seen.status}
    status["alarm_details"] = [{"severity": "critical", "sentence": script, "next_step": f'"{script}'}]
    desk.board.put(type(seen)("orders", seen.at, status))
    client = client_of(desk)
    for path in ("/", "/databases/orders", f"/?find={script}", "/databases/orders?said=" + script):
        text = client.get(path).text
        assert script not in text
        assert not [one for one in ("<style", " style=", " onclick") if one in text]
