"""A generator that a thread runs: its items in order, not too many ahead, its error in its turn, and no thread left."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.pipeline.ahead import in_background


class Counted:
    """A generator that says how far it is, and whether it was closed."""

    def __init__(self, count: int, fails: bool = False) -> None:
        self.count, self.fails = count, fails
        self.given, self.closed = 0, False
        self.threads: set[threading.Thread] = set()

    def are_alive(self) -> bool:
        assert len(self.threads) == 1
        return any(thread.is_alive() for thread in self.threads)

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(self.count):
                self.threads.add(threading.current_thread())
                self.given += 1
                yield number
            if self.fails:
                raise ValueError("the disk is gone")
        finally:
            self.closed = True


@given(count=st.integers(0, 40), ahead_max=st.integers(0, 9))
def test_all_items_come_in_order(count: int, ahead_max: int) -> None:
    counted = Counted(count)
    assert list(in_background(counted.items(), ahead_max)) == list(range(count))
    assert counted.closed


def test_it_runs_in_a_thread_that_ends_with_it() -> None:
    counted = Counted(3)
    list(in_background(counted.items(), 2))
    assert counted.threads != {threading.current_thread()}
    assert not counted.are_alive()


def test_an_error_comes_after_the_items_before_it() -> None:
    items = in_background(Counted(5, fails=True).items(), 3)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="disk is gone"):
        next(items)


def test_who_ends_early_closes_the_generator_and_its_thread() -> None:
    counted = Counted(1000)
    items = in_background(counted.items(), 4)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    assert counted.closed
    assert counted.given <= 3 + 4 + 1
    assert not counted.are_alive()
