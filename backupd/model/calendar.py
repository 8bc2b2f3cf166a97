"""When something is to happen, in words: days and times of a wall clock, cron's five fields, or an interval."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, time
from typing import TypeAlias

from backupd.model.cron import MACROS, CronFields, parse_cron

DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_INTERVAL = re.compile(r"every (?:(\d{1,6}) ?)?(s|sec|seconds?|min|minutes?|h|hours?)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}
_INTERVAL_SECONDS_MAX = 7 * 86400
_EVERY_WEEKDAY, _EVERY_MONTH_DAY, _EVERY_MONTH = frozenset(range(7)), frozenset(range(1, 32)), frozenset(range(1, 13))


@dataclass(frozen=True, slots=True)
class TimesOnDays:
    """Times of a wall clock on the days that fit.

    Attributes:
        times: in order.
        weekdays, month_days, months: a day fits when all three name it; Monday is 0.
        either_day: it fits when ``weekdays`` or ``month_days`` names it, as with cron.
        each_hour: it goes by the hour: an hour that the clock shows twice counts twice.
    """

    times: tuple[time, ...]
    weekdays: frozenset[int] = _EVERY_WEEKDAY
    month_days: frozenset[int] = _EVERY_MONTH_DAY
    months: frozenset[int] = _EVERY_MONTH
    either_day: bool = False
    each_hour: bool = False

    def has(self, day: date) -> bool:
        """Whether the day fits."""
        if day.month not in self.months:
            return False
        if self.either_day:
            return day.weekday() in self.weekdays or day.day in self.month_days
        return day.weekday() in self.weekdays and day.day in self.month_days


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so many seconds, counted from the beginning of 1970 in UTC: no daylight saving moves it."""

    seconds: int


Part: TypeAlias = TimesOnDays | Interval


@dataclass(frozen=True, slots=True)
class Calendar:
    """One or more of these, and the words that said so."""

    parts: tuple[Part, ...]
    text: str

    def __str__(self) -> str:
        return self.text


def parse_calendar(text: str) -> Calendar:
    """Read calendar words.

    ``sun 02:00``, ``mon..sat 02:00``, ``daily 02:00,14:00``, ``fri..mon 22:00``; cron words, ``30 2 * * sun`` or
    ``@weekly``; an interval, ``every 5 min``; several with ``;`` between them, ``sun 01:00; wed 13:00``.

    Raises:
        ValueError: with a sentence that says which word is not understood.
    """
    tidy = [" ".join(part.lower().split()) for part in text.split(";")]
    return Calendar(tuple(_parse_part(part) for part in tidy), "; ".join(tidy))


def _parse_part(text: str) -> Part:
    words = text.split()
    if text.startswith("every"):
        return _parse_interval(text)
    if text.startswith("@"):
        if text not in MACROS:
            raise ValueError(f"{text!r} is not known; there are {', '.join(MACROS)}")
        return _from_cron(parse_cron(MACROS[text]))
    if len(words) == 5:
        return _from_cron(parse_cron(text))
    if len(words) != 2:
        raise ValueError(
            f"{text!r} is not days and a time; write it like 'sun 02:00' or 'mon..sat 02:00', 'every 4 h', "
            "or cron's five fields, like '0 2 * * sun'"
        )
    return TimesOnDays(parse_times(words[1]), weekdays=parse_days(words[0]))


def _parse_interval(text: str) -> Interval:
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an interval; write it like 'every 30 s', 'every 5 min' or 'every 4 h'")
    seconds = int(match[1] or 1) * _UNIT_SECONDS[match[2][0]]
    if not 1 <= seconds <= _INTERVAL_SECONDS_MAX:
        raise ValueError(f"{text!r} is not between a second and a week")
    return Interval(seconds)


def _from_cron(cron: CronFields) -> TimesOnDays:
    return TimesOnDays(
        times=tuple(time(hour, minute) for hour in sorted(cron.hours) for minute in sorted(cron.minutes)),
        weekdays=cron.weekdays,
        month_days=cron.month_days,
        months=cron.months,
        either_day=cron.either_day,
        each_hour=cron.each_hour,
    )


def parse_days(word: str) -> frozenset[int]:
    """Read ``daily``, ``sun``, ``mon,wed`` or ``mon..sat``; Monday is 0. Raises ValueError."""
    if word == "daily":
        return _EVERY_WEEKDAY
    days: set[int] = set()
    for part in word.split(","):
        first, dots, last = part.partition("..")
        start = _day_number(first)
        end = _day_number(last) if dots else start
        days.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(days)


def _day_number(word: str) -> int:
    if word not in DAY_NAMES:
        raise ValueError(f"{word!r} is not a day; days are {', '.join(DAY_NAMES)}, or daily")
    return DAY_NAMES.index(word)


def parse_times(word: str) -> tuple[time, ...]:
    """Read ``02:00`` or ``02:00,14:00``; in order, each once. Raises ValueError."""
    return tuple(sorted({parse_time(part) for part in word.split(",")}))


def parse_time(word: str) -> time:
    """Read ``02:00``. Raises ValueError."""
    match = _TIME.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} is not a time of day; write it like 02:00 or 23:30")
    return time(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Window:
    """A span of the wall clock on some days, ``mon..fri 08:00-18:00``; over midnight when it ends before it begins."""

    weekdays: frozenset[int]
    begins: time
    ends: time
    text: str

    def __str__(self) -> str:
        return self.text


def parse_window(text: str) -> Window:
    """Read ``mon..fri 08:00-18:00`` or ``daily 22:00-06:00``: the days are those on which it begins.

    Raises:
        ValueError: with a sentence that says which word is not understood.
    """
    tidy = " ".join(text.lower().split())
    days, _, span = tidy.partition(" ")
    first, dash, last = span.partition("-")
    if not dash:
        raise ValueError(f"{text!r} is not days and a span; write it like 'mon..fri 08:00-18:00'")
    begins, ends = parse_time(first.strip()), time() if last.strip() == "24:00" else parse_time(last.strip())
    if begins == ends and begins != time():
        raise ValueError(f"{text!r} begins and ends at once; a whole day is 00:00-24:00")
    return Window(parse_days(days), begins, ends, tidy)
