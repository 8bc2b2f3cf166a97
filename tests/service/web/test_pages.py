"""The pages as a person meets them: what is wrong comes first, with why and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install '.[service,test]'")
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from backupd.service.web.app import FRESH_SECONDS, make_app
from backupd.service.web.glance import Glance, Mood, glance_of, overview
from backupd.service.web.pictures import draw_timeline
from tests.service.web.showroom import NOW, ShowDesk, history, showroom, timeline
from tests.service.web.test_guard import HOME, TOKEN, client_of, sign_in


@pytest.fixture(name="broken")
def a_broken_desk() -> ShowDesk:
    return showroom(5, broken=True)


@pytest.fixture(name="client")
def a_client(broken: ShowDesk) -> Iterator[TestClient]:
    with client_of(broken) as client:
        yield client


def test_all_well_is_said_first() -> None:
    text = client_of(showroom(3, broken=False)).get("/").text
    assert re.search(r"<h1>.*All 3 databases are well</h1>", text, re.DOTALL)
    assert re.search(r"<h1>.*orders is well</h1>", client_of(showroom(1, broken=False)).get("/").text, re.DOTALL)


def test_what_is_wrong_comes_first_with_why_and_what_to_do(client: TestClient) -> None:
    text = client.get("/").text
    assert "2 of 5 databases need attention" in text
    assert text.index('href="/databases/orders"') < text.index('href="/databases/users"')
    assert text.index('href="/databases/users"') < text.index('href="/databases/ledger"')
    assert "the last backup ended 2 d 3 h ago" in text
    assert "backupctl copy resume orders" in text


def test_no_policy_says_how_to_begin() -> None:
    assert "backupctl init DIR" in client_of(ShowDesk([])).get("/").text


def test_sentences_alone_count_as_alarms(broken: ShowDesk) -> None:
    seen = broken.board.seen("orders")
    assert seen is not None
    plain = {key: value for key, value in seen.status.items() if key != "alarm_details"}
    found = glance_of("orders", type(seen)("orders", seen.at, plain), NOW)
    assert found.mood is Mood.CRITICAL
    assert len(found.troubles) == 2


def test_a_database_that_was_not_looked_at_is_not_called_well(broken: ShowDesk) -> None:
    assert glance_of("orders", None, NOW).mood is Mood.UNKNOWN
    seen = broken.board.seen("ledger")
    assert glance_of("ledger", seen, NOW).mood is Mood.WELL
    assert glance_of("ledger", seen, NOW + timedelta(hours=1)).mood is Mood.UNKNOWN


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=99999999", "page=x", "mood=x", "find=%00%ff", "days=x"])
def test_odd_questions_are_answered(client: TestClient, query: str) -> None:
    assert client.get(f"/?{query}").status_code == 200
    assert client.get(f"/databases/orders?{query}").status_code == 200


def test_a_thousand_databases_come_in_pages_that_are_small() -> None:
    client = client_of(showroom(1000, broken=True))
    first = client.get("/")
    assert "4 of 1000 databases need attention" in first.text
    assert first.text.count("<tr class=") == 100
    assert len(first.content) < 200_000
    assert client.get("/?page=10").text.count("<tr class=") == 100
    assert client.get("/?find=ledger-007").text.count("<tr class=") == 1
    assert client.get("/?mood=critical").text.count("<tr class=") == 1


@given(names=st.lists(st.text("abc", min_size=1, max_size=3), unique=True, max_size=30), page=st.integers(1, 9))
def test_pages_hold_every_database_once(names: list[str], page: int) -> None:
    glances = [glance_of(name, None, NOW) for name in names]
    every = [row.name for number in range(1, 10) for row in _rows(glances, number)]
    assert sorted(every) == sorted(names)
    assert overview(glances, page=page, rows_max=4).pages == max(1, -(-len(names) // 4))


def _rows(glances: list[Glance], number: int) -> tuple[Glance, ...]:
    shown = overview(glances, page=number, rows_max=4)
    return shown.rows if shown.page == number else ()


def test_one_database_shows_its_pair_its_line_its_runs_and_its_backups(client: TestClient) -> None:
    text = client.get("/databases/orders").text
    for word in ("The pair", "What can be restored", "Next runs", "Last runs on this node", "Backups in the archive"):
        assert word in text
    assert "page 4711 of app.db is damaged" in text
    assert "360 log files to copy" in text
    assert "Proven restorable" in text
    assert "A restore takes about 3 min 10 s" in text
    for link in re.findall(r'href="(/databases/[^"?#]+)"', text):
        assert client.get(link).status_code == 200, link


def test_an_archive_that_is_away_takes_no_other_part_of_the_page_along(client: TestClient, broken: ShowDesk) -> None:
    broken.archive_away = True
    answer = client.get("/databases/orders")
    assert answer.status_code == 200
    assert answer.text.count("connection refused") == 1
    assert "the last backup ended" in answer.text


def test_a_name_that_nothing_has_is_404_with_a_way_on(client: TestClient) -> None:
    for path in ("/databases/nobody", "/databases/orders/runs/x", "/databases/orders/explain/x", "/x"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "<b>Do:</b>" in answer.text
    assert client.get("/databases/orders/explain/retention").status_code == 200


def test_signed_in_the_forms_act_and_the_page_says_what_was_done(client: TestClient, broken: ShowDesk) -> None:
    mark = sign_in(client)
    done = client.post("/databases/ledger/run", data={"mark": mark, "type": "full"})
    assert "a full backup of ledger begins" in client.get(done.headers["location"]).text
    backup = history("ledger", broken=False)[0]["id"]
    client.post("/databases/ledger/hold", data={"mark": mark, "backup": backup, "reason": "the auditor"})
    assert "the auditor" in client.get("/databases/ledger").text
    client.post("/databases/ledger/suspend", data={"mark": mark, "comment": "disk exchange"})
    assert broken.orders == [
        ("run", "ledger", "full"),
        ("hold", "ledger", backup, "the auditor"),
        ("suspend", "ledger", "disk exchange"),
    ]
    assert client.post("/databases/ledger/run", data={"mark": mark, "type": "x"}).status_code == 400


def test_health_is_that_the_service_looks_and_not_that_all_is_well(client: TestClient, broken: ShowDesk) -> None:
    assert client.get("/healthz").json()["state"] == "fresh"
    broken.at += timedelta(seconds=FRESH_SECONDS + 60)
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert "limit 300 s" in answer.json()["because"]
    empty = ShowDesk([])
    empty.names = ("orders",)
    assert client_of(empty).get("/healthz").status_code == 503


def test_the_picture_stays_inside_its_frame_and_joins_what_would_overlap() -> None:
    rows = history("orders", broken=True)
    for days in (None, 0, 1, 7, 35, 400):
        picture = draw_timeline(timeline(rows, broken=True), days)
        assert picture is not None
        for bar in picture.bars:
            assert 0 <= bar.left_percent <= bar.left_percent + bar.width_percent <= 100.5
        assert all(0 <= mark.left_percent <= 100 for mark in picture.marks)
        assert len(picture.marks) < 400
    whole = draw_timeline(timeline(rows, broken=True), 0)
    assert whole is not None
    assert sum(mark.count for mark in whole.marks) == len(timeline(rows, broken=True)["moments"])
    assert draw_timeline(timeline([], broken=False)) is None


def test_a_restore_point_is_on_the_picture_with_the_command_that_goes_there(client: TestClient) -> None:
    text = client.get("/databases/orders").text
    told = re.findall(r'<svg [^>]*class="mark points">', text)
    assert len(told) == 1
    assert "--to-name &#39;before &lt;b&gt;4.2&lt;/b&gt;&#39;" in text
    assert "<b>4.2</b>" not in text


def test_the_time_since_the_last_backup_is_told_apart_from_a_hole() -> None:
    picture = draw_timeline(timeline(history("orders", broken=True), broken=True), 0)
    assert picture is not None
    assert [(bar.is_gap, bar.is_open) for bar in picture.bars] == [
        (False, False),
        (True, False),
        (False, False),
        (True, True),
    ]


def test_nothing_on_a_page_comes_from_elsewhere(client: TestClient) -> None:
    mark = sign_in(client)
    assert mark
    for path in ("/", "/databases/orders", "/login"):
        text = client.get(path).text
        assert not re.search(r"""(?:src|href|action)=["'](?!/|#)""", text.replace('href="http://www.w3.org', "")), path
    here = Path(make_app.__code__.co_filename).parent / "static"
    for file in here.iterdir():
        assert "http" not in file.read_text().replace("http://www.w3.org/2000/svg", ""), file


def test_the_token_is_on_no_page(client: TestClient) -> None:
    sign_in(client)
    for path in ("/", "/databases/orders", "/login", "/metrics", "/openapi.json"):
        assert TOKEN not in client.get(path).text
    assert HOME
