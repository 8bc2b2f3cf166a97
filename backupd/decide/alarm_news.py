"""Decides what to tell of alarms: each once when it begins, again while it lasts, and once when it ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, time
from enum import StrEnum

from backupd.model.alarm import Alarm, Severity

Key = tuple[str, str, str]

LISTED_MAX = 10


class NewsKind(StrEnum):
    """What is new about an alarm."""

    BEGUN = "begun"
    LASTS = "lasts"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Standing:
    """An alarm that lasts, since when, and when it was told last; None: not yet."""

    alarm: Alarm
    since: datetime
    told_at: datetime | None = None
    told_severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class NewsRules:
    """When to tell.

    Attributes:
        warning_after_seconds: a warning is told when it has lasted so long.
        critical_after_seconds: what is critical is told when it has lasted so long.
        remind_seconds: it is told again after so long; 0: never.
        quiet: between these times of day, by the wall clock that ``now_local`` gives, warnings wait; None: never.
    """

    warning_after_seconds: float = 60.0
    critical_after_seconds: float = 0.0
    remind_seconds: float = 86400.0
    quiet: tuple[time, time] | None = None


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell; ``lasted_seconds`` counts from when it began."""

    kind: NewsKind
    alarm: Alarm
    lasted_seconds: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What to tell now, what stands if it was told, and what stands if it could not be told."""

    news: tuple[News, ...]
    if_told: tuple[Standing, ...]
    if_not: tuple[Standing, ...]
    ended: tuple[Standing, ...] = ()


def decide_news(
    before: Iterable[Standing],
    alarms: Iterable[Alarm],
    now: datetime,
    rules: NewsRules,
    *,
    now_local: time | None = None,
    unseen: Collection[str] = (),
) -> Decision:
    """Compare what is wrong now with what stood before.

    Promise: an alarm that is told is told as begun once, and as over once; one that
    ends before it was told is never told.  What could not be told is tried again as
    the same news, so ``if_not`` keeps ended ones that were told as begun.

    Args:
        before: what stood at the last decision.
        alarms: what is wrong now; of several with one key the most severe counts.
        now: the time.
        rules: when to tell.
        now_local: the time of day for the quiet hours; ``now``'s own when None.
        unseen: databases that nobody has looked at yet: what stood of them goes on to stand.
    """
    known = {one.alarm.key: one for one in before}
    current = _by_key(alarms)
    quiet = rules.quiet is not None and _within(now_local or now.timetz().replace(tzinfo=None), rules.quiet)
    news, told, untold = [], [], []
    for key, alarm in current.items():
        old = known.get(key)
        standing = Standing(alarm, now) if old is None else replace(old, alarm=alarm)
        untold.append(standing)
        kind = _kind_now(standing, now, rules, quiet=quiet)
        if kind is not None:
            news.append(News(kind, alarm, _lasted(standing, now)))
            standing = replace(standing, told_at=now, told_severity=alarm.severity)
        told.append(standing)
    ended = []
    for key, standing in known.items():
        if key in current:
            continue
        if standing.alarm.database in unseen:
            told.append(standing)
            untold.append(standing)
        elif standing.told_at is not None:
            ended.append(standing)
            news.append(News(NewsKind.OVER, standing.alarm, _lasted(standing, now)))
    return Decision(tuple(sorted(news, key=_order)), tuple(told), (*untold, *ended), tuple(ended))


def _by_key(alarms: Iterable[Alarm]) -> Mapping[Key, Alarm]:
    found: dict[Key, Alarm] = {}
    for alarm in alarms:
        other = found.get(alarm.key)
        if other is None or (other.severity is Severity.WARNING and alarm.severity is Severity.CRITICAL):
            found[alarm.key] = alarm
    return found


def _kind_now(standing: Standing, now: datetime, rules: NewsRules, *, quiet: bool) -> NewsKind | None:
    """What is to be told of an alarm that lasts; None: nothing now."""
    critical = standing.alarm.severity is Severity.CRITICAL
    if quiet and not critical:
        return None
    lasted = _lasted(standing, now)
    if standing.told_at is None:
        after = rules.critical_after_seconds if critical else rules.warning_after_seconds
        return NewsKind.BEGUN if lasted >= after else None
    if critical and standing.told_severity is Severity.WARNING:
        return NewsKind.LASTS  # it has become worse than what was told
    since_told = (now - standing.told_at).total_seconds()
    if rules.remind_seconds > 0 and not 0 <= since_told < rules.remind_seconds:
        # A clock that was set back lets it be told once more, rather than never again.
        return NewsKind.LASTS
    return None


def _lasted(standing: Standing, now: datetime) -> float:
    return max(0.0, (now - standing.since).total_seconds())


def _within(moment: time, quiet: tuple[time, time]) -> bool:
    begin, end = quiet
    if begin <= end:
        return begin <= moment < end
    return moment >= begin or moment < end


def _order(one: News) -> tuple[int, int, Key]:
    kinds = (NewsKind.BEGUN, NewsKind.LASTS, NewsKind.OVER)
    return kinds.index(one.kind), int(one.alarm.severity is not Severity.CRITICAL), one.alarm.key


def duration_text(seconds: float) -> str:
    """``11520`` is ``3 h 12 min``."""
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (left, "s")) if count]
    return " ".join(parts[:2]) or "0 s"


def subject_line(news: tuple[News, ...], node: str) -> str:
    """One line that says how much and how bad: ``backupd on db2: 2 alarms, 1 of them critical: orders``."""
    begun = [one for one in news if one.kind is not NewsKind.OVER]
    over = len(news) - len(begun)
    names = sorted({one.alarm.database for one in news if one.alarm.database})
    whose = f": {names[0]}" if len(names) == 1 else f", {len(names)} databases" if names else ""
    if not begun:
        return f"backupd on {node}: {_count(over, 'alarm')} over{whose}"
    critical = sum(1 for one in begun if one.alarm.severity is Severity.CRITICAL)
    bad = f", {critical} of them critical" if critical and len(begun) > 1 else ", critical" if critical else ""
    also = f", {over} over" if over else ""
    return f"backupd on {node}: {_count(len(begun), 'alarm')}{bad}{also}{whose}"


def message_lines(news: tuple[News, ...]) -> list[str]:
    """The message in plain words: counts when there are many, the first ten, and what helps each."""
    lines = []
    if len(news) > LISTED_MAX:
        kinds = [(kind, sum(1 for one in news if one.kind is kind)) for kind in NewsKind]
        lines = [", ".join(f"{count} {_KIND_WORDS[kind]}" for kind, count in kinds if count) + "; the first ten:", ""]
    for one in news[:LISTED_MAX]:
        lines.extend(_lines_of(one))
    if len(news) > LISTED_MAX:
        lines.append(f"and {len(news) - LISTED_MAX} more: backupctl alarms")
    return lines


_KIND_WORDS = {NewsKind.BEGUN: "begun", NewsKind.LASTS: "still last", NewsKind.OVER: "over"}


def _lines_of(one: News) -> list[str]:
    alarm, lasted = one.alarm, duration_text(one.lasted_seconds)
    whose = alarm.database or "the service"
    if one.kind is NewsKind.OVER:
        return [f"over after {lasted}: {whose}: {alarm.sentence}", ""]
    since = f", for {lasted} now" if one.kind is NewsKind.LASTS else ""
    lines = [f"{alarm.severity}{since}: {whose}: {alarm.sentence}"]
    if alarm.next_step:
        lines.append(f"  next: {alarm.next_step}")
    return [*lines, ""]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
