"""The rules that keep backups: one function for each idea, each adds its reasons to the keeper's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from backupd.decide.keeper import Keeper
from backupd.model.records import BackupRecord, BackupType
from backupd.model.rules import RetentionRules


def keep_by_age(keeper: Keeper, rules: RetentionRules, now: datetime) -> None:
    """What is from the future, the window of points in time, and what is young enough."""
    records = keeper.newest_first
    keeper.keep(
        (record for record in records if _is_future(record, now)),
        "from-the-future",
        "it is from the future: a clock was or is wrong",
    )
    if rules.keep_days:
        begin = _before(now, timedelta(days=rules.keep_days))
        inside = [record for record in records if record.covers_until >= begin]
        keeper.keep(inside, "keep-days", f"it covers a point in the last {rules.keep_days} days")
        # The first point of the window is reached from the newest state before it.
        before = [r for r in records if r.covers_until < begin and r.type is not BackupType.COPY]
        keeper.keep(before[:1], "keep-days", f"the first of the last {rules.keep_days} days is reached from it")
    if rules.keep_within:
        begin = _before(now, rules.keep_within)
        young = [record for record in records if record.covers_until >= begin]
        keeper.keep(young, "keep-within", f"its last point is not older than {span(rules.keep_within)}")


def keep_by_count(keeper: Keeper, rules: RetentionRules) -> None:
    """The newest fulls that are not damaged, with their chains."""
    count = rules.keep_fulls_min
    for full in keeper.sound_fulls()[:count]:
        keeper.keep_chain(full, "keep-fulls", f"it belongs to one of the newest {count} fulls")


def keep_by_period(keeper: Keeper, rules: RetentionRules, now: datetime) -> None:
    """The newest point of each day, and the newest full of each week, month and year, that have one.

    What is from the future takes no place: it is kept anyway, and its period is not known.
    """
    place: tzinfo = UTC if rules.timezone == "UTC" else ZoneInfo(rules.timezone)
    fulls = [full for full in keeper.sound_fulls() if not _is_future(full, now)]
    if rules.keep_daily:
        points = [record for record in keeper.sound_points() if not _is_future(record, now)]
        chosen = _newest_of_each(points, rules.keep_daily, lambda at: (at.toordinal(),), place)
        keeper.keep(chosen, "keep-daily", f"it is the newest of one of the last {rules.keep_daily} days with a backup")
    periods: tuple[tuple[int, str, Callable[[date], tuple[int, ...]]], ...] = (
        (rules.keep_weekly_fulls, "week", lambda at: at.isocalendar()[:2]),
        (rules.keep_monthly_fulls, "month", lambda at: (at.year, at.month)),
        (rules.keep_yearly_fulls, "year", lambda at: (at.year,)),
    )
    for count, word, period_of in periods:
        chosen = _newest_of_each(fulls, count, period_of, place)
        keeper.keep(chosen, f"keep-{word}s", f"it is the newest full of one of the last {count} {word}s")


def _newest_of_each(
    newest_first: Iterable[BackupRecord], count: int, period_of: Callable[[date], tuple[int, ...]], place: tzinfo
) -> list[BackupRecord]:
    newest: dict[tuple[int, ...], BackupRecord] = {}
    for record in newest_first:
        newest.setdefault(period_of(record.covers_until.astimezone(place).date()), record)
    return [newest[period] for period in sorted(newest, reverse=True)[:count]]


def keep_last_good(keeper: Keeper, verified: Collection[str]) -> None:
    """The newest chain, the newest undamaged one, and the newest verified one stay whole, whatever the rules say."""
    fulls, sound = keeper.fulls(), keeper.sound_fulls()
    for full in fulls[:1]:
        keeper.keep_chain(full, "last-chain", "it belongs to the newest full, which is never pruned")
    if sound[:1] != fulls[:1]:
        for full in sound[:1]:
            keeper.keep_chain(full, "last-good-chain", "it belongs to the newest full that is not damaged")
    for full in [full for full in sound if full.id in verified][:1]:
        keeper.keep_chain(full, "last-verified-chain", "it belongs to the newest full that was verified")


def keep_last_drilled(keeper: Keeper, drilled: Collection[str]) -> None:
    """What a drill has restored is proven as nothing else is: it stays until another drill proves a newer state."""
    records = [record for record in keeper.newest_first if record.id in drilled]
    keeper.keep(records, "last-drilled-chain", "it belongs to the last chain that a drill proved restorable")


def keep_what_leads_around_damage(keeper: Keeper) -> None:
    """What stands on a damaged full is reached from the sound full before it, by all the log between them."""
    sound = keeper.sound_bases()
    said: set[str] = set()
    for record in [keeper.known[kept] for kept in keeper.reasons]:
        own = keeper.base_of(record)
        if own is None or not keeper.harmed(own):
            continue
        before = [full for full in sound if _reaches(full, own)]
        if not before:
            continue
        base = max(before, key=lambda full: full.log_end.offset)
        between = [
            other
            for other in keeper.newest_first
            if _reaches(base, other) and _reaches(other, record) and other.id not in said
        ]
        said.update(other.id for other in between)  # one such reason a backup is enough to read
        keeper.keep(
            between,
            "around-damage",
            f"{record.id} is reached from {base.id}, for its own {own.type} {own.id} is damaged",
        )


def span(duration: timedelta) -> str:
    """A duration of the policy in its largest unit that fits: ``90 days``, ``36 hours``, ``20 minutes``."""
    seconds = duration.total_seconds()
    for unit, unit_seconds in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= unit_seconds and seconds % unit_seconds == 0:
            count = int(seconds // unit_seconds)
            return f"{count} {unit}" + ("s" if count > 1 else "")
    return f"{seconds:g} seconds"


def _is_future(record: BackupRecord, now: datetime) -> bool:
    return max(record.started_at, record.finished_at, record.covers_until) > now


def _before(now: datetime, duration: timedelta) -> datetime:
    try:
        return now.astimezone(UTC) - duration
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _reaches(first: BackupRecord, second: BackupRecord) -> bool:
    return first.log_end.same_history(second.log_end) and first.log_end <= second.log_end
