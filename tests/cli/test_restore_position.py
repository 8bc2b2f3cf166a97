"""A position after --to is read by the engine, and what it cannot read is a matter of words (status 2)."""

from __future__ import annotations

from typing import Any

import pytest

from backupd.cli import restore
from backupd.errors import ConfigInvalid, UsageProblem
from backupd.model.position import Position


class Writer:
    def parse_position(self, text: str) -> Position:
        if text == "1 @ 0/3000028":
            return Position("1", 0x3000028)
        raise ConfigInvalid(f"{text!r} is not a position", because="it has no timeline", next_step="look again")


class Context:
    writer = Writer()


@pytest.mark.parametrize(
    "text", ["0/3000028", "16/B374D848", "2:0/3000028", "2@0/3000028", " 2 @ 0/3000028 ", "5f3a9c21d0e47b86/4711"]
)
def test_positions_of_both_engines_come_through(text: str) -> None:
    restore._refuse_other_than_positions(text)


@pytest.mark.parametrize("text", ["nowhere", "/", "0/", "a b/3", "0/xyz", "1/2/3", "2026-11-22", ""])
def test_what_is_a_position_of_no_engine_is_refused_before_anything_is_opened(text: str) -> None:
    with pytest.raises(UsageProblem, match="cannot be used"):
        restore._refuse_other_than_positions(text)


def test_the_engine_reads_what_a_person_was_shown() -> None:
    context: Any = Context()
    assert restore._to_position(" 1 @ 0/3000028", context).position == Position("1", 50331688)


def test_what_the_engine_cannot_read_is_about_the_words() -> None:
    context: Any = Context()
    with pytest.raises(UsageProblem) as caught:
        restore._to_position("0/1", context)
    assert caught.value.because == "it has no timeline"
    assert caught.value.lines()[0] == "error: --to 0/1 cannot be used"


def test_what_the_engine_advises_is_said() -> None:
    context: Any = Context()
    with pytest.raises(UsageProblem) as caught:
        restore._to_position("1/50331688", context)
    assert caught.value.next_step == "look again"
