"""Positions of PostgreSQL as people write them, and as JSON has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.engines.postgres.positions import parse_position, position_text
from backupd.errors import ConfigInvalid
from backupd.model.position import Position


def today() -> str:
    return "7"


POSITIONS = st.builds(Position, st.integers(1, 2**32 - 1).map(str), st.integers(0, 2**64 - 1))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0/3000028", Position("7", 0x3000028)),
        (" 2:1/A0 ", Position("2", 0x1000000A0)),
        ("2 @ 1/A0", Position("2", 0x1000000A0)),
        ("0/50331688", Position("7", 0x50331688)),
        ("1/150331688", Position("1", 150331688)),
    ],
)
def test_what_is_meant(text: str, meant: Position) -> None:
    assert parse_position(text, today) == meant


def test_what_could_be_an_lsn_and_a_place_of_json_is_asked_back() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse_position("1/50331688", today)
    assert caught.value.next_step == "say 7:1/50331688 for the LSN, or 1:0/3000028 for the other"


@given(POSITIONS)
def test_a_position_that_was_shown_leads_back_or_is_asked_back(position: Position) -> None:
    assert parse_position(position_text(position), today) == position
    try:
        assert parse_position(str(position), today) == position or position.offset < 10**7
    except ConfigInvalid:
        assert position.offset < 10**8 or int(position.history) >= 10**8


@pytest.mark.parametrize("text", ["", "x", "1", "1:", "0/", "-1/0", "1/2/3", "0/123456789"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ConfigInvalid):
        parse_position(text, today)
