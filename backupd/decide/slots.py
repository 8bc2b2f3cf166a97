"""The moments that calendar words mean, in UTC: daylight saving, jitter, the newest one and the next one."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from backupd.model.calendar import Calendar, Interval, Part, TimesOnDays, Window
from backupd.model.rules import ScheduleRules, Task

# From one 29 February to the next over a century that has none.
_LOOK_DAYS = 8 * 366 + 9
# A moment may lie on another date than its wall clock says: by a skipped hour, or a skipped day (Samoa, 2011).
_SLACK_DAYS = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Slot:
    """One moment of a task's calendar: ``at`` in UTC, and whose wall clock its words mean."""

    at: datetime
    task: Task
    timezone: str = "UTC"

    @property
    def local(self) -> str:
        """What the wall clock shows then: ``Sun 2026-11-22 02:00 CET``."""
        local = self.at.astimezone(zone_named(self.timezone))
        clock = f"{local:%H:%M:%S}" if self.at.second else f"{local:%H:%M}"
        return f"{local:%a %Y-%m-%d} {clock} {local:%Z}"


def newest_slot(rules: ScheduleRules, task: Task, now: datetime, database: str = "") -> Slot | None:
    """The last slot at or before ``now``."""
    late = jitter(rules, database)
    looks = [_newest(part, rules.timezone, now - late) for part in _parts(rules, task)]
    found = [moment for moment in looks if moment is not None]
    return Slot(max(found) + late, task, rules.timezone) if found else None


def next_slot_of(rules: ScheduleRules, task: Task, after: datetime, database: str = "") -> Slot | None:
    """The first slot after that moment."""
    late = jitter(rules, database)
    looks = [_next(part, rules.timezone, after - late) for part in _parts(rules, task)]
    found = [moment for moment in looks if moment is not None]
    return Slot(min(found) + late, task, rules.timezone) if found else None


def slots_between(rules: ScheduleRules, task: Task, start: datetime, end: datetime, database: str = "") -> list[Slot]:
    """The slots from ``start`` up to ``end``, which is not one of them, in order."""
    late = jitter(rules, database)
    first, last = start - late, end - late
    found = {moment for part in _parts(rules, task) for moment in _between(part, rules.timezone, first, last)}
    return [Slot(moment + late, task, rules.timezone) for moment in sorted(found)]


def jitter(rules: ScheduleRules, database: str) -> timedelta:
    """How long after its words' moment a database begins: always the same for one name."""
    return timedelta(seconds=jitter_seconds(database, rules.jitter_seconds_max))


@lru_cache(maxsize=20_000)
def jitter_seconds(database: str, seconds_max: int) -> int:
    """How long after its slot a database starts: always the same for one name, spread over 0 to ``seconds_max``."""
    if seconds_max <= 0:
        return 0
    number = int.from_bytes(hashlib.sha256(database.encode()).digest()[:8], "big")
    return number % (seconds_max + 1)


def zone_named(name: str) -> tzinfo:
    """The time zone of that name; UTC needs no data of the system.

    Raises:
        KeyError: the system does not know it (``ZoneInfoNotFoundError`` is one).
    """
    return UTC if name == "UTC" else ZoneInfo(name)


def end_of_window(windows: tuple[Window, ...], zone_name: str, now: datetime) -> tuple[datetime, Window] | None:
    """When the window that ``now`` lies in ends, and which it is; of several the one that ends last; None outside."""
    zone = zone_named(zone_name)
    today = now.astimezone(zone).date()
    found = []
    for window in windows:
        for back in range(_SLACK_DAYS):
            day = today - timedelta(days=back)
            if day.weekday() not in window.weekdays:
                continue
            begins = datetime.combine(day, window.begins, tzinfo=zone).astimezone(UTC)
            over_night = window.ends <= window.begins
            last_day = day + timedelta(days=1) if over_night else day
            # The end of a doubled hour is its second one: a window never ends too early.
            ends = datetime.combine(last_day, window.ends, tzinfo=zone).replace(fold=1).astimezone(UTC)
            if begins <= now < ends:
                found.append((ends, window))
    return max(found, key=lambda one: one[0], default=None)


def _parts(rules: ScheduleRules, task: Task) -> tuple[Part, ...]:
    calendar: Calendar | None = rules.calendars.get(task)
    return calendar.parts if calendar else ()


def _newest(part: Part, zone_name: str, now: datetime) -> datetime | None:
    if isinstance(part, Interval):
        return _floor(part, now)
    return _look(part, zone_name, now, -1, lambda found: _at_or_before(found, now))


def _next(part: Part, zone_name: str, after: datetime) -> datetime | None:
    if isinstance(part, Interval):
        return _floor(part, after) + timedelta(seconds=part.seconds)
    return _look(part, zone_name, after, 1, lambda found: _after(found, after))


def _between(part: Part, zone_name: str, start: datetime, end: datetime) -> Iterator[datetime]:
    if isinstance(part, Interval):
        moment = _floor(part, start)
        while moment < end:
            if moment >= start:
                yield moment
            moment += timedelta(seconds=part.seconds)
        return
    zone = zone_named(zone_name)
    day = start.astimezone(zone).date() - timedelta(days=_SLACK_DAYS)
    last = end.astimezone(zone).date() + timedelta(days=_SLACK_DAYS)
    while day <= last:
        yield from (moment for moment in _moments(part, zone_name, day) if start <= moment < end)
        day += timedelta(days=1)


def _floor(interval: Interval, now: datetime) -> datetime:
    passed = int((now - _EPOCH).total_seconds() // interval.seconds)
    return _EPOCH + timedelta(seconds=passed * interval.seconds)


def _look(
    part: TimesOnDays,
    zone_name: str,
    start: datetime,
    way: int,
    fits: Callable[[tuple[datetime, ...]], datetime | None],
) -> datetime | None:
    """The nearest moment that fits, going from day to day; ``way`` is -1 for back and 1 for on."""
    day = start.astimezone(zone_named(zone_name)).date() - timedelta(days=way * _SLACK_DAYS)
    best: datetime | None = None
    left = _LOOK_DAYS
    while left:
        moment = fits(_moments(part, zone_name, day))
        if moment is not None:
            if best is None:
                left = _SLACK_DAYS + 1  # the days just beyond may have moments that lie nearer
                best = moment
            best = max(best, moment) if way < 0 else min(best, moment)
        day += timedelta(days=way)
        left -= 1
    return best


def _at_or_before(moments: tuple[datetime, ...], now: datetime) -> datetime | None:
    index = bisect_right(moments, now)
    return moments[index - 1] if index else None


def _after(moments: tuple[datetime, ...], after: datetime) -> datetime | None:
    index = bisect_right(moments, after)
    return moments[index] if index < len(moments) else None


@lru_cache(maxsize=20_000)
def _moments(part: TimesOnDays, zone_name: str, day: date) -> tuple[datetime, ...]:
    """The moments of one local day, in UTC and in order.

    Daylight saving: an hour that comes twice is taken the first time (fold 0),
    unless the words go by the hour.  An hour that is skipped is reckoned with the
    offset from before the change, so a slot at 02:30 runs at 03:30; each once.
    """
    if not part.has(day):
        return ()
    zone = zone_named(zone_name)
    found = {datetime.combine(day, wall, tzinfo=zone).astimezone(UTC) for wall in part.times}
    if part.each_hour:
        found |= {datetime.combine(day, wall, tzinfo=zone).replace(fold=1).astimezone(UTC) for wall in part.times}
    return tuple(sorted(found))
