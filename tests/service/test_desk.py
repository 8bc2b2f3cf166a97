"""The desk of a real house with a real pair: what the page says is what the command line says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from backupd.bootstrap import House, open_house
from backupd.errors import NotFound, Refused
from backupd.model.kinds import BackupType
from backupd.runs.status import status_of
from backupd.service.board import Board, Seen
from backupd.service.desk import HouseDesk
from tests.cli.conftest import House as Pair
from tests.cli.conftest import house as a_pair

house = a_pair  # the fixture, under the name that it was written for


@pytest.fixture(name="opened")
def an_opened_house(house: Pair) -> Iterator[House]:
    opened = open_house(house.config)
    yield opened
    opened.close()


@pytest.fixture(name="desk")
def a_desk(opened: House) -> HouseDesk:
    board = Board()
    board.put(Seen("orders", opened.clock.now(), status_of(opened.context("orders"))))
    return HouseDesk(opened, board)


def said(house: Pair, *words: str) -> Any:
    return json.loads(house.ctl(*words, "--json").stdout)


def test_it_says_what_the_command_line_says(house: Pair, desk: HouseDesk) -> None:
    assert desk.databases() == ("orders",)
    rows = said(house, "list", "orders")["backups"]
    assert desk.backups("orders") == rows
    assert desk.backup("orders", rows[0]["id"]) == said(house, "show", rows[0]["id"])
    assert dict(desk.explain("orders", "schedule")) == said(house, "explain", "schedule", "orders")
    retention = dict(desk.explain("orders", "retention"))
    assert retention == said(house, "explain", "retention", "orders")
    truncation = said(house, "explain", "truncation", "orders")
    assert set(desk.explain("orders", "truncation")) == set(truncation)
    assert set(desk.holds("orders")) == set(said(house, "holds", "orders"))


def test_status_has_what_metrics_and_pages_ask_for(desk: HouseDesk) -> None:
    seen = desk.seen("orders")
    assert seen is not None
    status: dict[str, Any] = dict(seen.status)
    assert status["last_full"]["frozen_seconds"] > 0
    assert status["last_full"]["started_at"] <= status["last_full"]["finished_at"]
    assert status["expected_interval_seconds"]["any"] == 86400
    assert status["expected_interval_seconds"]["full"] == 7 * 86400
    assert status["held_log_bytes_warn"] == 2**30
    assert status["last_drill"] is None


def test_the_timeline_ends_now_and_holds_every_backup(desk: HouseDesk) -> None:
    line: dict[str, Any] = desk.timeline("orders")
    backups = desk.backups("orders")
    stamps = [one for one in line["moments"] if one["kind"] == "stamp"]
    assert [one["backup"] for one in line["moments"] if one not in stamps] == [row["id"] for row in backups]
    last = {row["type"]: row["id"] for row in backups}
    assert {one["backup"] for one in stamps} == set(last.values())
    assert len(line["windows"]) == 1
    assert line["gaps"][-1]["to"] == line["to"]


def test_runs_are_those_of_the_journal_with_their_diaries(desk: HouseDesk) -> None:
    runs: list[Any] = [run for run in desk.runs("orders", 50) if run["kind"] == "backup"]
    assert {run["type"] for run in runs} >= {"full", "incremental"}
    whole: dict[str, Any] = desk.run("orders", runs[-1]["run"])
    assert whole["history"][0]["state"] == "planned"
    assert whole["history"][-1]["state"] == whole["state"] == "complete"
    assert desk.next_runs("orders")[0]["type"] in {"full", "incremental"}


def test_a_backup_is_held_and_let_go(desk: HouseDesk, house: Pair) -> None:
    backup = str(desk.backups("orders")[0]["id"])
    placed: Any = desk.hold("orders", backup, "the auditor")["hold"]
    assert [hold["id"] for hold in said(house, "holds", "orders")["backup_holds"]] == [placed["id"]]
    desk.release("orders", backup, placed["id"])
    assert not desk.holds("orders")["backup_holds"]


def test_what_nobody_has_is_not_found(desk: HouseDesk) -> None:
    for question in (
        lambda: desk.seen("nobody"),
        lambda: desk.runs("nobody", 5),
        lambda: desk.timeline("nobody"),
        lambda: desk.run("orders", "x"),
        lambda: desk.backup("orders", "x"),
        lambda: desk.explain("orders", "weather"),
        lambda: desk.hold("orders", "x", "why"),
        lambda: desk.run_now("nobody", BackupType.FULL),
    ):
        with pytest.raises(NotFound):
            question()


def test_run_now_is_the_services_to_do(opened: House, desk: HouseDesk) -> None:
    with pytest.raises(Refused, match="not begun"):
        desk.run_now("orders", BackupType.FULL)
    asked: list[tuple[str, BackupType]] = []

    def begin(database: str, backup_type: BackupType) -> str:
        asked.append((database, backup_type))
        return "it begins"

    assert HouseDesk(opened, Board(), begin).run_now("orders", BackupType.EXPRESS) == "it begins"
    assert asked == [("orders", BackupType.EXPRESS)]


def test_the_page_of_a_real_house_is_whole_and_as_described(desk: HouseDesk) -> None:
    pytest.importorskip("starlette", reason="needs starlette: pip install '.[service,test]'")
    from tests.service.web.test_api import ONE, assert_described
    from tests.service.web.test_guard import client_of

    with client_of(desk) as client:  # type: ignore[arg-type]
        page = client.get("/databases/orders")
        assert page.status_code == 200
        assert "cannot be shown" not in page.text
        run, backup = str(desk.runs("orders", 1)[0]["run"]), str(desk.backups("orders")[0]["id"])
        for part in ("", "/backups", "/backups/{backup}", "/runs", "/runs/{run}", "/timeline", "/holds"):
            answer = client.get((ONE + part).format(database="orders", backup=backup, run=run))
            assert answer.status_code == 200
            assert_described(ONE + part, "get", answer)
        for what in ("truncation", "retention", "schedule"):
            assert client.get(f"/api/databases/orders/explain/{what}").status_code == 200
            assert client.get(f"/databases/orders/explain/{what}").status_code == 200
        for path in (f"runs/{run}", f"backups/{backup}"):
            assert client.get(f"/databases/orders/{path}").status_code == 200
        assert b'backupd_copy_healthy{copy="b"' in client.get("/metrics").content
