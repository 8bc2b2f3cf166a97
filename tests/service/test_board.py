"""What the service knows about each database, read and written by several threads."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from backupd.service.board import Board, Seen

AT = datetime(2026, 11, 22, tzinfo=UTC)


def seen(name: str, **status: str) -> Seen:
    return Seen(name, AT, dict(status))


def test_the_last_look_counts_and_all_are_sorted() -> None:
    board = Board()
    for one in (seen("b"), seen("a", mood="bad"), seen("a", mood="well")):
        board.put(one)
    assert [one.database for one in board.all()] == ["a", "b"]
    assert board.seen("a") == seen("a", mood="well")
    assert board.seen("c") is None
    board.remove("a")
    board.remove("a")
    assert [one.database for one in board.all()] == ["b"]
    assert board.version == 4


def test_who_waits_is_woken_by_news_and_by_nothing_else() -> None:
    board = Board()
    assert board.wait_newer(0, 0.01) == 0
    woken: list[int] = []
    waiter = threading.Thread(target=lambda: woken.append(board.wait_newer(0, 60)))
    waiter.start()
    board.put(seen("a"))
    waiter.join(60)
    assert woken == [1]
    assert board.wait_newer(0, 60) == 1
