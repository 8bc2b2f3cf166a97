"""What a policy wants, as values: when to back up, from which copy, and what to keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from backupd.model.calendar import Calendar, Window


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


class Task(StrEnum):
    """What a schedule may ask for."""

    FULL = "full"
    EXPRESS = "express"
    DIFFERENTIAL = "differential"
    INCREMENTAL = "incremental"
    PRUNE = "prune"
    VERIFY = "verify"
    DRILL = "drill"


@dataclass(frozen=True, slots=True)
class ScheduleRules:
    """When what is due.

    Attributes:
        timezone: whose wall clock the words mean.
        calendars: of each task that is scheduled.
        jitter_seconds_max: databases of one calendar are spread over so many seconds.
        blackout: nothing begins in these windows; what is due waits for the end.
        retry_seconds: a run that failed is tried again after so long.
        retries_max: so many times; then not before its next slot.
    """

    timezone: str = "UTC"
    calendars: Mapping[Task, Calendar] = field(default_factory=dict)
    jitter_seconds_max: int = 0
    blackout: tuple[Window, ...] = ()
    retry_seconds: float = 600.0
    retries_max: int = 3

    def without(self, task: Task) -> ScheduleRules:
        """The same with nothing of this task."""
        return replace(self, calendars={other: when for other, when in self.calendars.items() if other is not task})


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
