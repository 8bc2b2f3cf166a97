"""Decides whether a copy holds too much log, how fast it grows, when it is full, and whether an increment helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from backupd.decide.reasons import Reason
from backupd.model.amounts import size_text

WARNING_SHARE, CRITICAL_SHARE = 0.70, 0.85
# Over less than this a rate says more about one transaction than about the day.
RATE_SECONDS_MIN = 60.0
# An increment that did not help is not begun again at once.
INCREMENT_SECONDS_MIN = 900.0
# Far hours are no news, and would leave the calendar.
_AHEAD_SECONDS_MAX = 366 * 86400.0

NOT_ARCHIVED = "not-archived"


class GuardLevel(StrEnum):
    """How near the budget is."""

    NONE = "none"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class LogSample:
    """How much closed log a copy held at a moment, and how much room its disk had; None: not known here."""

    at: datetime
    held_bytes: int
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """What is to be said of one copy's log.

    Attributes:
        level: whether to alarm.
        share: held log as a part of ``budget_bytes``; 0 without a budget.
        budget_bytes: what counts: the policy's budget, or what the disk has room for where that is less.
        sentence: the numbers and the blocker in plain words; empty when the level is none.
        growth_bytes_per_second: since log was last removed; None when too few samples say so.
        budget_full_at: when the budget is used up at this rate; None when it never is, or is already.
        disk_full_at: when the disk is full at this rate; None when it never is or that is not known.
        incremental_helps: whether an increment now would let log go.
    """

    level: GuardLevel
    share: float
    budget_bytes: int
    sentence: str
    growth_bytes_per_second: float | None
    budget_full_at: datetime | None
    disk_full_at: datetime | None
    incremental_helps: bool


def guard_log(
    copy: str, samples: Sequence[LogSample], *, budget_bytes: int, blockers: Sequence[Reason]
) -> GuardVerdict:
    """Judge one copy's held log; never raises.

    Args:
        copy: the copy as a person names it, like ``the active copy a``.
        samples: oldest first; the last one is now. None at all: nothing to say.
        budget_bytes: the policy's budget; 0: it is not guarded.
        blockers: why log has not left the copies, the most important first.
    """
    helps = bool(blockers) and all(blocker.code == NOT_ARCHIVED for blocker in blockers)
    if not samples or budget_bytes <= 0:
        return GuardVerdict(GuardLevel.NONE, 0.0, max(0, budget_bytes), "", None, None, None, helps)
    now = samples[-1]
    room = budget_bytes if now.free_bytes is None else min(budget_bytes, now.held_bytes + now.free_bytes)
    share = now.held_bytes / room if room > 0 else 0.0
    growth = growth_of(samples)
    budget_full = _full_at(now.at, room - now.held_bytes, growth)
    disk_full = None if now.free_bytes is None else _full_at(now.at, now.free_bytes, growth)
    level = _level(share)
    said = ""
    if level is not GuardLevel.NONE:
        limit = "budget" if room == budget_bytes else "room that its disk has for it"
        said = (
            f"{copy} holds {size_text(now.held_bytes)} of log, {share:.0%} of the {limit} of {size_text(room)} "
            f"(warning at {WARNING_SHARE:.0%}, critical at {CRITICAL_SHARE:.0%}){_growth_words(growth)}"
            f"{_when('the budget is used up', budget_full)}{_when('the disk is full', disk_full)}; "
            f"the blocker: {_blocker_words(blockers)}"
        )
    return GuardVerdict(level, share, room, said, growth, budget_full, disk_full, helps)


def growth_of(samples: Sequence[LogSample]) -> float | None:
    """Bytes a second since log was last removed; None when that is too short to say."""
    first = len(samples) - 1
    while first > 0 and samples[first - 1].held_bytes <= samples[first].held_bytes:
        if samples[first - 1].at >= samples[first].at:
            break  # a clock that was set back
        first -= 1
    if first < 0:
        return None
    seconds = (samples[-1].at - samples[first].at).total_seconds()
    if seconds < RATE_SECONDS_MIN:
        return None
    return (samples[-1].held_bytes - samples[first].held_bytes) / seconds


def wants_increment(level: GuardLevel, *, helps: bool, last_at: datetime | None, now: datetime) -> bool:
    """Whether an increment beside the schedule shall begin; ``last_at`` is when the guard last began one."""
    if level is GuardLevel.NONE or not helps:
        return False
    return last_at is None or not 0 <= (now - last_at).total_seconds() < INCREMENT_SECONDS_MIN


def _level(share: float) -> GuardLevel:
    if share >= CRITICAL_SHARE:
        return GuardLevel.CRITICAL
    return GuardLevel.WARNING if share >= WARNING_SHARE else GuardLevel.NONE


def _full_at(now: datetime, left_bytes: int, growth: float | None) -> datetime | None:
    if growth is None or growth <= 0 or left_bytes <= 0:
        return None
    seconds = left_bytes / growth
    return now + timedelta(seconds=seconds) if seconds <= _AHEAD_SECONDS_MAX else None


def _growth_words(growth: float | None) -> str:
    if growth is None:
        return ""
    return f", grows by {size_text(growth * 3600)} an hour" if growth > 0 else ", and does not grow"


def _when(what: str, at: datetime | None) -> str:
    return "" if at is None else f", {what} at {at:%Y-%m-%d %H:%M} UTC"


def _blocker_words(blockers: Sequence[Reason]) -> str:
    return "; ".join(str(blocker) for blocker in blockers) or "not known"
