"""Decides when a backup is due: calendar words in a wall clock's place, and a missed slot runs once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from backupd.decide.reasons import Reason
from backupd.model.records import BackupType
from backupd.model.rules import Calendar, ScheduleRules

# When slots of several types coincide the first of these wins, and its attempt serves those behind it.
_BY_RANK = (BackupType.FULL, BackupType.EXPRESS, BackupType.DIFFERENTIAL, BackupType.INCREMENTAL)
# Every calendar has a slot each week; two more days for jitter and the date line.
_LOOK_AROUND_DAYS = 9


@dataclass(frozen=True, slots=True)
class Slot:
    """One moment of the calendar: ``at`` in UTC, and ``local``, what the wall clock shows then."""

    at: datetime
    type: BackupType
    local: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run that was started, however it ended; ``at`` is when."""

    type: BackupType
    at: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """A backup should start now, for ``slot``."""

    type: BackupType
    slot: Slot
    reasons: tuple[Reason, ...]


def due(
    rules: ScheduleRules,
    now: datetime,
    attempts: Sequence[Attempt],
    *,
    database: str = "",
    known_since: datetime | None = None,
) -> Due | None:
    """The one backup that should start now, or None.

    Of each type only the newest slot counts, so a service that was down for a
    week starts one backup and not seven.  An attempt at or after a slot serves
    it, also when it failed; a full serves every slot, a differential those of incrementals.

    Args:
        rules: the calendar.
        now: the moment, with an offset.
        attempts: runs that were started; those from the future are ignored, for a clock was wrong.
        database: its name, which the jitter hangs on.
        known_since: slots before this moment are not owed (the policy was not known then).
    """
    for backup_type, words in _by_rank(rules):
        slot = _newest_slot(rules, words, backup_type, now, database)
        if slot is None or (known_since is not None and slot.at < known_since):
            continue
        serving = [attempt.at for attempt in attempts if _serves(attempt.type, backup_type) and attempt.at <= now]
        last = max(serving, default=None)
        if last is not None and last >= slot.at:
            continue
        return Due(backup_type, slot, _due_reasons(slot, now, last))
    return None


def calendar(rules: ScheduleRules, start: datetime, days: int, *, database: str = "") -> list[Slot]:
    """Every slot from ``start`` on for so many days, in order; of coinciding ones only the winner."""
    end = start + timedelta(days=days)
    winners: dict[datetime, Slot] = {}
    for backup_type, words in _by_rank(rules):
        for slot in _slots(rules, words, backup_type, start=start, days=days, database=database):
            if start <= slot.at < end:
                winners.setdefault(slot.at, slot)
    return [winners[at] for at in sorted(winners)]


def next_slot(rules: ScheduleRules, now: datetime, *, database: str = "") -> Slot | None:
    """The first slot after ``now``; None when the policy schedules nothing."""
    slots = calendar(rules, now, _LOOK_AROUND_DAYS, database=database)
    return next((slot for slot in slots if slot.at > now), None)


def jitter_seconds(database: str, seconds_max: int) -> int:
    """How long after its slot a database starts: always the same for one name, spread over 0 to ``seconds_max``."""
    if seconds_max <= 0:
        return 0
    number = int.from_bytes(hashlib.sha256(database.encode()).digest()[:8], "big")
    return number % (seconds_max + 1)


def _by_rank(rules: ScheduleRules) -> list[tuple[BackupType, Calendar]]:
    calendars = {
        BackupType.FULL: rules.full,
        BackupType.EXPRESS: rules.express,
        BackupType.DIFFERENTIAL: rules.differential,
        BackupType.INCREMENTAL: rules.incremental,
    }
    return [(backup_type, words) for backup_type in _BY_RANK if (words := calendars[backup_type]) is not None]


def _serves(attempted: BackupType, wanted: BackupType) -> bool:
    """Whether an attempt of one type makes a slot of another needless; a copy serves nothing."""
    return attempted in _BY_RANK and _BY_RANK.index(attempted) <= _BY_RANK.index(wanted)


def _newest_slot(
    rules: ScheduleRules, words: Calendar, backup_type: BackupType, now: datetime, database: str
) -> Slot | None:
    begin = now - timedelta(days=_LOOK_AROUND_DAYS)
    slots = _slots(rules, words, backup_type, start=begin, days=_LOOK_AROUND_DAYS, database=database)
    return max((slot for slot in slots if slot.at <= now), key=lambda slot: slot.at, default=None)


def _slots(
    rules: ScheduleRules, words: Calendar, backup_type: BackupType, *, start: datetime, days: int, database: str
) -> Iterator[Slot]:
    """The slots of the local dates around ``start`` and ``days`` after, and some more; two may meet in one moment."""
    zone = zone_named(rules.timezone)
    late = timedelta(seconds=jitter_seconds(database, rules.jitter_seconds_max))
    first = start.astimezone(zone).date() - timedelta(days=2)
    for step in range(days + 4):
        day = first + timedelta(days=step)
        if day.weekday() not in words.days:
            continue
        for at in _moments(day, words, zone):
            moment = at + late
            yield Slot(moment, backup_type, f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M %Z}")


def _moments(day: date, words: Calendar, zone: tzinfo) -> Iterator[datetime]:
    """The slots of one local day, in UTC.

    Daylight saving: an hour that comes twice is taken the first time (fold 0).  An
    hour that is skipped is reckoned with the offset from before the change, so a
    slot at 02:30 runs at 03:30; each runs exactly once.
    """
    for wall in words.times:
        yield datetime.combine(day, wall, tzinfo=zone).astimezone(UTC)


def zone_named(name: str) -> tzinfo:
    """The time zone of that name; UTC needs no data of the system.

    Raises:
        KeyError: the system does not know it (``ZoneInfoNotFoundError`` is one).
    """
    return UTC if name == "UTC" else ZoneInfo(name)


def _due_reasons(slot: Slot, now: datetime, last: datetime | None) -> tuple[Reason, ...]:
    late = int((now - slot.at).total_seconds())
    tense = "is due" if late < 120 else f"was missed {late // 60} min ago and runs once"
    reasons = [Reason("slot", f"the {slot.type} of {slot.local} {tense}")]
    if last is None:
        reasons.append(Reason("never-tried", f"no run has served a {slot.type} yet"))
    else:
        reasons.append(Reason("last-tried", f"the last run that could serve it started at {last:%Y-%m-%d %H:%M:%SZ}"))
    return tuple(reasons)
