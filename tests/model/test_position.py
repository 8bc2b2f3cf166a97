"""Positions are ordered inside one history, and refuse to compare across histories."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.model.position import DifferentHistories, Position

histories = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=20)
offsets = st.integers(min_value=0, max_value=2**63)
ORDERS = [operator.lt, operator.le, operator.gt, operator.ge]


@given(histories, offsets, offsets)
def test_inside_a_history_the_order_is_that_of_the_offsets(history: str, one: int, other: int) -> None:
    for order in ORDERS:
        assert order(Position(history, one), Position(history, other)) is order(one, other)
    assert (Position(history, one) == Position(history, other)) is (one == other)


@given(histories, histories, offsets, offsets)
def test_across_histories_there_is_no_order(one: str, other: str, first: int, second: int) -> None:
    left, right = Position(one, first), Position(other, second)
    assert left.same_history(right) is (one == other)
    if one == other:
        return
    assert left != right
    for order in ORDERS:
        with pytest.raises(DifferentHistories):
            order(left, right)


@pytest.mark.parametrize("choose", [min, max, sorted])
def test_no_way_round_the_refusal(choose: Callable[[list[Position]], object]) -> None:
    with pytest.raises(DifferentHistories):
        choose([Position("a", 1), Position("b", 2)])


@given(histories, offsets)
def test_text_and_back(history: str, offset: int) -> None:
    position = Position(history, offset)
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize("text", ["", "a", "/", "a/", "/1", "a/-1", "a/+1", "a/1_0", "a/ 1", "a/b/1", "a/٣", "a/1.0"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        Position.parse(text)


def test_a_position_is_a_value() -> None:
    assert len({Position("a", 1), Position("a", 1), Position("a", 2)}) == 2
    with pytest.raises(ValueError, match="not an offset"):
        Position("a", -1)
    with pytest.raises(ValueError, match="not a history"):
        Position("", 1)
