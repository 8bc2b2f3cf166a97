"""What the outside hears of the service; trouble with one voice is an alarm, and stops nothing."""

from __future__ import annotations

import http.client
import socket
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupd.bootstrap import House, open_house
from backupd.cli.main import run
from backupd.model.rules import Task
from backupd.service.board import Board, Seen
from backupd.service.outside import Outside
from backupd.service.ping import Pings


@pytest.fixture
def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"127.0.0.1:{port}"


@pytest.fixture
def house(tmp_path: Path, address: str) -> Iterator[House]:
    sqlite3.connect(tmp_path / "app.db").close()
    copies = ["--copy", f"a={tmp_path / 'app.db'}", "--copy", f"b={tmp_path / 'b.db'}", "--active", "a"]
    conf = tmp_path / "conf"
    assert run(["init", str(conf), "--database", "orders", *copies, "--archive", f"file://{tmp_path / 'backups'}"]) == 0
    config = conf / "backupd.toml"
    config.write_text(config.read_text() + f'listen = "{address}"\n')
    house = open_house(config)
    yield house
    house.close()


def outside_of(house: House, wanted: list[tuple[str, Task]]) -> Outside:
    return Outside(house, Board(), tuple, lambda database, task: wanted.append((database, task)), pings_of(house))


def pings_of(house: House) -> Pings:
    return Pings(house.config.alarms.ping, house.clock.monotonic)


def get(address: str, path: str) -> int:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_page_the_numbers_and_health_are_there_until_it_stops(house: House, address: str) -> None:
    outside = outside_of(house, [])
    outside.start()
    try:
        assert (get(address, "/"), get(address, "/metrics")) == (200, 200)
        assert get(address, "/healthz") == 503  # nobody has looked yet
        assert outside.alarms() == ()
    finally:
        outside.stop()
    with pytest.raises(OSError, match=r"refused|reset"):
        get(address, "/")


def test_an_address_that_is_taken_is_an_alarm_and_stops_nothing(house: House, address: str) -> None:
    host, _, port = address.partition(":")
    with socket.socket() as taken:
        taken.bind((host, int(port)))
        taken.listen()
        outside = outside_of(house, [])
        outside.start()
        try:
            (alarm,) = outside.alarms()
            assert alarm.code == "no-page"
            outside.tick(1.0)
        finally:
            outside.stop()


def test_something_critical_on_the_board_silences_the_heartbeat(house: House) -> None:
    board = Board()
    pings = pings_of(house)
    outside = Outside(house, board, tuple, None, pings)
    heard: list[bool] = []
    pings.tick = lambda *, critical: heard.append(critical)  # type: ignore[method-assign]
    outside.tick(0.0)
    details = {
        "database": "orders",
        "code": "no-full",
        "subject": "",
        "severity": "critical",
        "sentence": "",
        "next_step": "",
    }
    board.put(Seen("orders", datetime(2026, 11, 22, tzinfo=UTC), {"alarm_details": [dict(details)]}))
    outside.tick(1.0)
    outside.tick(6.0)
    assert heard == [False, False, True]
