"""Calendar words are read as written, and refused with a sentence."""

from __future__ import annotations

from datetime import time

import pytest

from backupd.model.rules import RetentionRules, parse_calendar


@pytest.mark.parametrize(
    ("text", "days", "times"),
    [
        ("sun 02:00", {6}, [time(2)]),
        ("mon..sat 02:00", {0, 1, 2, 3, 4, 5}, [time(2)]),
        ("daily 14:00,02:00", set(range(7)), [time(2), time(14)]),
        ("mon,wed 03:30", {0, 2}, [time(3, 30)]),
        ("fri..mon 22:00", {4, 5, 6, 0}, [time(22)]),
        ("tue..tue,sun 23:59", {1, 6}, [time(23, 59)]),
    ],
)
def test_calendar_words(text: str, days: set[int], times: list[time]) -> None:
    calendar = parse_calendar(text)
    assert calendar.days == days
    assert list(calendar.times) == times


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not days and a time"),
        ("02:00", "is not days and a time"),
        ("sun mon 02:00", "is not days and a time"),
        ("sunday 02:00", "'sunday' is not a day"),
        ("mon.. 02:00", "'' is not a day"),
        ("mon, 02:00", "'' is not a day"),
        ("sun 2:00", "'2:00' is not a time"),
        ("sun 24:00", "'24:00' is not a time"),
        ("sun 02:60", "'02:60' is not a time"),
        ("sun 02:00,", "'' is not a time"),
    ],
)
def test_what_is_not_calendar_words(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_calendar(text)


def test_rules_that_want_nothing_are_empty() -> None:
    assert RetentionRules().is_empty
    assert RetentionRules(keep_days=0).is_empty
    assert not RetentionRules(keep_days=1).is_empty
    assert not RetentionRules(keep_yearly_fulls=1).is_empty
