"""Calendar words are read as written, and refused with a sentence."""

from __future__ import annotations

from datetime import time

import pytest

from backupd.model.calendar import Interval, TimesOnDays, Window, parse_calendar, parse_window


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
    (part,) = parse_calendar(text).parts
    assert isinstance(part, TimesOnDays)
    assert part.weekdays == days
    assert list(part.times) == times


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not days and a time"),
        ("02:00", "is not days and a time"),
        ("sun mon 02:00", "is not days and a time"),
        ("sun 02:00;", "'' is not days and a time"),
        ("every", "is not an interval"),
        ("every 5 days", "is not an interval"),
        ("every 0 s", "not between a second and a week"),
        ("every 200 h", "not between a second and a week"),
        ("@reboot", "'@reboot' is not known"),
        ("60 2 * * *", "'60' is not a minute: 0 to 59"),
        ("0 24 * * *", "'24' is not a hour"),
        ("0 2 0 * *", "'0' is not a day of the month"),
        ("0 2 * 13 *", "'13' is not a month"),
        ("0 2 * * 8", "'8' is not a day of the week"),
        ("0 2 * * L", "'l' is not a day of the week"),
        ("0 2 * * fri-mon", "ends before it begins"),
        ("0 2 30 feb *", "no month of it has"),
        ("*/0 2 * * *", "'0' is not a minute"),
        ("0 2 * *", "is not days and a time"),
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


@pytest.mark.parametrize(
    ("text", "seconds"), [("every 5 min", 300), ("every second", 1), ("every 1 h", 3600), ("EVERY 90 s", 90)]
)
def test_intervals(text: str, seconds: int) -> None:
    assert parse_calendar(text).parts == (Interval(seconds),)


def test_several_are_joined_with_semicolons() -> None:
    calendar = parse_calendar("Sun 01:00 ;wed  13:00; every 4 h")
    assert len(calendar.parts) == 3
    assert str(calendar) == "sun 01:00; wed 13:00; every 4 h"


def test_cron_words() -> None:
    assert parse_calendar("30 2 * * sun").parts == (TimesOnDays((time(2, 30),), weekdays=frozenset({6})),)
    assert parse_calendar("30 2 * * 7").parts == parse_calendar("30 2 * * 0").parts
    (quarters,) = parse_calendar("*/15 8-9 1,15 * mon-fri").parts
    assert isinstance(quarters, TimesOnDays)
    assert len(quarters.times) == 8
    assert quarters.either_day
    assert not quarters.each_hour
    (hourly,) = parse_calendar("@hourly").parts
    assert isinstance(hourly, TimesOnDays)
    assert hourly.each_hour


def test_windows() -> None:
    window = parse_window("Mon..Fri 08:00-18:00")
    assert window == Window(frozenset(range(5)), time(8), time(18), "mon..fri 08:00-18:00")
    assert parse_window("daily 00:00-24:00").ends == time()


@pytest.mark.parametrize("text", ["", "daily", "daily 08:00", "daily 08:00-08:00", "daily 8-9", "noday 08:00-09:00"])
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|at once"):
        parse_window(text)
