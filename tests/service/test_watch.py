"""What is looked at is on the board; a replication that only begins is no trouble yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.bootstrap import House, open_house
from backupd.cli.main import run
from backupd.service.board import Board
from backupd.service.watch import Watch


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    sqlite3.connect(tmp_path / "app.db").close()
    copies = ["--copy", f"a={tmp_path / 'app.db'}", "--copy", f"b={tmp_path / 'b.db'}", "--active", "a"]
    conf = tmp_path / "conf"
    assert run(["init", str(conf), "--database", "orders", *copies, "--archive", f"file://{tmp_path / 'backups'}"]) == 0
    house = open_house(conf / "backupd.toml")
    yield house
    house.close()


def test_copies_that_stand_still_are_no_news_while_their_replication_begins(house: House) -> None:
    begins, board = [True], Board()
    watch = Watch(house, board, every_seconds=60, words=lambda _: {}, alarms=lambda _: (), begins=lambda _: begins[0])
    assert not watch.look("orders")
    assert board.seen("orders") is None
    begins[0] = False
    assert watch.look("orders")
    seen = board.seen("orders")
    assert seen is not None
    assert any("is stopped" in str(sentence) for sentence in seen.status["alarms"])  # type: ignore[union-attr]
