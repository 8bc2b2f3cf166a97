"""The five fields of a crontab line, as crontab(5) has them: lists, ranges, steps and names."""

from __future__ import annotations

from dataclasses import dataclass

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class CronFields:
    """What the five fields name; week days as Python counts them, Monday is 0.

    ``either_day``: both kinds of day are restricted, so a day counts when one of
    them names it.  ``each_hour``: the hours are not restricted.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    month_days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    each_hour: bool


def parse_cron(text: str) -> CronFields:
    """Read ``minute hour day-of-month month day-of-week``, like ``30 2 * * sun`` or ``*/15 8-18 * * mon-fri``.

    Raises:
        ValueError: with a sentence that names the field.
    """
    words = text.lower().split()
    if len(words) != 5:
        raise ValueError(f"{text!r} has {len(words)} fields; cron words have 5, like '30 2 * * sun'")
    minute, hour, month_day, month, weekday = words
    numbers = _field("day of the week", weekday, 0, 7, _DAYS, 0)
    found = CronFields(
        minutes=_field("minute", minute, 0, 59),
        hours=_field("hour", hour, 0, 23),
        month_days=_field("day of the month", month_day, 1, 31),
        months=_field("month", month, 1, 12, _MONTHS, 1),
        weekdays=frozenset((number - 1) % 7 for number in numbers),  # cron's Sunday is 0 and 7
        # As in crontab(5), a field that begins with * restricts nothing, even with a step behind it.
        either_day=not month_day.startswith("*") and not weekday.startswith("*"),
        each_hour=hour.startswith("*"),
    )
    _refuse_never(text, found)
    return found


def _refuse_never(text: str, found: CronFields) -> None:
    longest = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
    possible = any(min(found.month_days) <= longest.get(month, 31) for month in found.months)
    if not found.either_day and not possible:
        raise ValueError(f"{text!r} names a day that no month of it has")


def _field(
    what: str, word: str, low: int, high: int, names: tuple[str, ...] = (), first_name: int = 0
) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        body, slash, step_text = part.partition("/")
        step = _number(what, step_text, 1, high, (), 0) if slash else 1
        if body == "*":
            start, end = low, high
        else:
            first, dash, last = body.partition("-")
            start = _number(what, first, low, high, names, first_name)
            # A step behind a single number goes on to the end, as in cron.
            end = _number(what, last, low, high, names, first_name) if dash else (high if slash else start)
        if end < start:
            raise ValueError(f"{part!r} ends before it begins, in the {what}")
        found.update(range(start, end + 1, step))
    return frozenset(found)


def _number(what: str, word: str, low: int, high: int, names: tuple[str, ...], first_name: int) -> int:
    if word in names:
        return names.index(word) + first_name
    if not (word.isascii() and word.isdigit()) or not low <= int(word[:4]) <= high or len(word) > 4:
        also = f" or {names[0]} to {names[-1]}" if names else ""
        raise ValueError(f"{word!r} is not a {what}: {low} to {high}{also}")
    return int(word)
