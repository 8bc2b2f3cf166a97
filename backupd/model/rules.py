"""What a policy wants, as values: when to back up, from which copy, and what to keep."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time, timedelta
from enum import StrEnum

DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """How long backups stay; a backup stays when any one rule wants it, and so does all that it builds on.

    Attributes:
        keep_days: every point in time of the last so many days stays restorable.
        keep_within: every backup whose last point is not older than this stays.
        keep_fulls_min: so many of the newest fulls stay, with all that builds on them.
        keep_daily: the newest point of each of the last so many days that have a backup.
        keep_weekly_fulls: the newest full of each of the last so many weeks that have one, bare.
        keep_monthly_fulls: the same for months.
        keep_yearly_fulls: the same for years.
        timezone: where days, weeks, months and years begin.
    """

    keep_days: int | None = None
    keep_within: timedelta | None = None
    keep_fulls_min: int = 0
    keep_daily: int = 0
    keep_weekly_fulls: int = 0
    keep_monthly_fulls: int = 0
    keep_yearly_fulls: int = 0
    timezone: str = "UTC"

    @property
    def is_empty(self) -> bool:
        """Whether no rule wants anything; such rules are refused, for they would remove everything."""
        fulls = (self.keep_fulls_min, self.keep_weekly_fulls, self.keep_monthly_fulls, self.keep_yearly_fulls)
        return not any((self.keep_days, self.keep_within, self.keep_daily, *fulls))


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days of the week (Monday is 0) and times of the day, in the wall clock of some place."""

    days: frozenset[int]
    times: tuple[time, ...]
    text: str

    def __str__(self) -> str:
        return self.text


def parse_calendar(text: str) -> Calendar:
    """Read calendar words: ``sun 02:00``, ``mon..sat 02:00``, ``daily 02:00,14:00``, ``mon,wed 03:30``.

    A range may go over the weekend: ``fri..mon 22:00``.

    Raises:
        ValueError: with a sentence that says which word is not understood.
    """
    words = text.lower().split()
    if len(words) != 2:
        raise ValueError(f"{text!r} is not days and a time; write it like 'sun 02:00' or 'mon..sat 02:00'")
    return Calendar(_parse_days(words[0]), _parse_times(words[1]), " ".join(words))


def _parse_days(word: str) -> frozenset[int]:
    if word == "daily":
        return frozenset(range(7))
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


def _parse_times(word: str) -> tuple[time, ...]:
    times: set[time] = set()
    for part in word.split(","):
        match = _TIME.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not a time of day; write it like 02:00 or 23:30")
        times.add(time(int(match[1]), int(match[2])))
    return tuple(sorted(times))


@dataclass(frozen=True, slots=True)
class ScheduleRules:
    """When which type of backup is due; ``jitter_seconds_max`` spreads databases of one calendar apart."""

    timezone: str = "UTC"
    full: Calendar | None = None
    express: Calendar | None = None
    incremental: Calendar | None = None
    differential: Calendar | None = None
    jitter_seconds_max: int = 0


class SourceRule(StrEnum):
    """Which copy a backup may be taken from."""

    PASSIVE_ONLY = "passive-only"
    PREFER_PASSIVE = "prefer-passive"


@dataclass(frozen=True, slots=True)
class SourceRules:
    """Which copy, how far behind it may be (None: no limit), and how long to wait for a better moment."""

    rule: SourceRule = SourceRule.PASSIVE_ONLY
    lag_logs_max: int | None = None
    lag_seconds_max: float | None = None
    wait_seconds_max: float = 0.0


@dataclass(frozen=True, slots=True)
class VerifyRules:
    """How much one verify reads; None everywhere: all of it, every time.

    Attributes:
        bytes_max: so many stored bytes.
        share_max: such a part of all stored bytes, from 0 to 1.
        budget_seconds_max: it begins no object after so long.
        reverify_days: what was found sound in the last so many days is left out.
    """

    bytes_max: int | None = None
    share_max: float | None = None
    budget_seconds_max: float | None = None
    reverify_days: int | None = None

    @property
    def reads_all(self) -> bool:
        """Whether nothing is left out."""
        return self == VerifyRules()

    def budget_bytes(self, total_bytes: int) -> int | None:
        """How much may be read of an archive of ``total_bytes``; None: any amount."""
        if self.share_max is None:
            return self.bytes_max
        share_bytes = -int(-total_bytes * self.share_max // 1)
        return share_bytes if self.bytes_max is None else min(share_bytes, self.bytes_max)
