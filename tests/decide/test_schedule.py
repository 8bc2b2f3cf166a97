"""The calendar in a wall clock's place: daylight saving, missed slots, coinciding slots."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.decide.schedule import Attempt, Slot, calendar, due, jitter_seconds, next_slot
from backupd.model.records import BackupType
from backupd.model.rules import ScheduleRules, parse_calendar

FULL, INCREMENTAL, DIFFERENTIAL = BackupType.FULL, BackupType.INCREMENTAL, BackupType.DIFFERENTIAL
WEEKLY = ScheduleRules(full=parse_calendar("sun 02:00"), incremental=parse_calendar("mon..sat 02:00"))
DAILY = ScheduleRules(full=parse_calendar("sun 02:00"), incremental=parse_calendar("daily 02:00"))


def utc(month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def berlin(words: str) -> ScheduleRules:
    return ScheduleRules(timezone="Europe/Berlin", incremental=parse_calendar(words))


def moments(slots: list[Slot]) -> list[datetime]:
    return [slot.at for slot in slots]


def test_the_default_week() -> None:
    slots = calendar(WEEKLY, utc(11, 22), 7)  # a Sunday
    assert [slot.type for slot in slots] == [FULL] + [INCREMENTAL] * 6
    assert slots[0].at == utc(11, 22, 2)
    assert slots[0].local == "Sun 2026-11-22 02:00 UTC"


def test_a_full_that_coincides_with_an_incremental_wins() -> None:
    assert [slot.type for slot in calendar(DAILY, utc(11, 22), 2)] == [FULL, INCREMENTAL]
    answer = due(DAILY, utc(11, 22, 2), [Attempt(INCREMENTAL, utc(11, 21, 2))])
    assert answer is not None
    assert answer.type is FULL
    assert due(DAILY, utc(11, 22, 3), [Attempt(FULL, utc(11, 22, 2))]) is None


def test_a_slot_in_the_skipped_hour_runs_once() -> None:
    slots = calendar(berlin("daily 02:30"), utc(3, 28), 3)  # 2026-03-29: 02:00 becomes 03:00
    assert moments(slots) == [utc(3, 28, 1, 30), utc(3, 29, 1, 30), utc(3, 30, 0, 30)]
    assert slots[1].local == "Sun 2026-03-29 03:30 CEST"


def test_two_slots_that_meet_because_of_the_skipped_hour_are_one() -> None:
    slots = calendar(berlin("daily 02:30,03:30"), utc(3, 29), 1)
    assert moments(slots) == [utc(3, 29, 1, 30)]


def test_a_doubled_hour_runs_once() -> None:
    slots = calendar(berlin("daily 02:30"), utc(10, 24, 12), 2)  # 2026-10-25: 03:00 becomes 02:00
    assert moments(slots) == [utc(10, 25, 0, 30), utc(10, 26, 1, 30)]


def test_a_week_of_missed_slots_runs_once_with_the_newest() -> None:
    attempts = [Attempt(FULL, utc(11, 1, 2))]
    answer = due(WEEKLY, utc(11, 27, 12), attempts)
    assert answer is not None
    assert (answer.type, answer.slot.at) == (FULL, utc(11, 22, 2))
    assert due(WEEKLY, utc(11, 27, 12, 30), [*attempts, Attempt(FULL, utc(11, 27, 12))]) is None


def test_a_missed_incremental_runs_when_the_full_is_served() -> None:
    answer = due(WEEKLY, utc(11, 24, 12), [Attempt(FULL, utc(11, 22, 2))])
    assert answer is not None
    assert (answer.type, answer.slot.at) == (INCREMENTAL, utc(11, 24, 2))
    assert "was missed 600 min ago and runs once" in str(answer.reasons[0])


def test_a_slot_is_due_from_its_minute_on_and_not_before() -> None:
    attempts = [Attempt(INCREMENTAL, utc(11, 23, 2)), Attempt(FULL, utc(11, 22, 2))]
    assert due(WEEKLY, utc(11, 24, 1, 59), attempts) is None
    assert due(WEEKLY, utc(11, 24, 2), attempts) is not None


def test_a_failed_attempt_serves_its_slot_too() -> None:
    assert due(WEEKLY, utc(11, 22, 2, 1), [Attempt(FULL, utc(11, 22, 2))]) is None


def test_a_copy_serves_nothing_and_a_differential_serves_incrementals() -> None:
    before = Attempt(FULL, utc(11, 22, 2))
    now = utc(11, 24, 3)
    assert due(WEEKLY, now, [before, Attempt(BackupType.COPY, utc(11, 24, 2))]) is not None
    assert due(WEEKLY, now, [before, Attempt(DIFFERENTIAL, utc(11, 24, 2))]) is None


def test_an_attempt_from_the_future_does_not_stop_backups() -> None:
    attempts = [Attempt(FULL, utc(11, 22, 2)), Attempt(FULL, utc(12, 30))]
    answer = due(WEEKLY, utc(11, 24, 2), attempts)
    assert answer is not None
    assert answer.type is INCREMENTAL


def test_slots_from_before_the_policy_are_not_owed() -> None:
    assert due(WEEKLY, utc(11, 24, 12), [], known_since=utc(11, 24, 11)) is None
    assert due(WEEKLY, utc(11, 24, 12), []) is not None


def test_nothing_scheduled_is_never_due() -> None:
    assert due(ScheduleRules(), utc(11, 24), []) is None
    assert next_slot(ScheduleRules(), utc(11, 24)) is None


def test_the_next_slot_is_after_now() -> None:
    slot = next_slot(WEEKLY, utc(11, 22, 2))
    assert slot is not None
    assert slot.at == utc(11, 23, 2)


def test_jitter_is_the_same_for_one_name_and_spread_over_names() -> None:
    delays = {jitter_seconds(f"database-{number}", 600) for number in range(200)}
    assert jitter_seconds("orders", 600) == jitter_seconds("orders", 600)
    assert len(delays) > 100
    assert min(delays) >= 0
    assert max(delays) <= 600
    assert jitter_seconds("orders", 0) == 0


def test_jitter_moves_every_slot_of_a_database_alike() -> None:
    rules = ScheduleRules(full=WEEKLY.full, incremental=WEEKLY.incremental, jitter_seconds_max=600)
    late = timedelta(seconds=jitter_seconds("orders", 600))
    assert moments(calendar(rules, utc(11, 23), 3, database="orders")) == [
        slot.at + late for slot in calendar(WEEKLY, utc(11, 23), 3)
    ]


def test_a_slot_of_yesterday_that_the_jitter_moved_past_midnight_is_seen() -> None:
    rules = ScheduleRules(full=parse_calendar("sun 23:59"), jitter_seconds_max=43200)
    late = jitter_seconds("orders", 43200)
    assert late > 60
    expected = utc(11, 22, 23, 59) + timedelta(seconds=late)
    assert moments(calendar(rules, utc(11, 23), 1, database="orders")) == [expected]


# --- properties ---------------------------------------------------------------

zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Cairo"]
)
words = st.sampled_from(["daily 00:00", "daily 02:30", "sun 02:00", "mon..sat 02:15,23:45", "fri..mon 01:30,02:00"])
days_of_year = st.integers(0, 364)


def wall_clock_oracle(rules: ScheduleRules, start: datetime, days: int) -> set[datetime]:
    """Walk through every minute and look at the wall clock: the first time it shows a slot is the slot.

    A slot that the wall clock never shows is one that the change of time skipped;
    it belongs to as long after midnight as the clock was then slow.
    """
    zone, text = ZoneInfo(rules.timezone), rules.incremental
    assert text is not None
    found: dict[tuple[object, ...], datetime] = {}
    moment = start - timedelta(days=3)
    shown: dict[datetime, datetime] = {}
    while moment < start + timedelta(days=days + 3):
        wall = moment.astimezone(zone).replace(tzinfo=None)
        shown.setdefault(wall.replace(fold=0), moment)
        moment += timedelta(minutes=15)
    day = (start - timedelta(days=2)).date()
    while day < (start + timedelta(days=days + 2)).date():
        for at in text.times:
            wall = datetime.combine(day, at)
            if wall.weekday() not in text.days:
                continue
            steps = 0
            while wall - timedelta(minutes=15 * steps) not in shown:
                steps += 1  # back to the last moment before the hour that was skipped
            found[day, at] = shown[wall - timedelta(minutes=15 * steps)] + timedelta(minutes=15 * steps)
        day += timedelta(days=1)
    return {at for at in found.values() if start <= at < start + timedelta(days=days)}


@settings(max_examples=120, deadline=None)
@given(zones, words, days_of_year)
def test_the_calendar_equals_the_wall_clock_walked_by_minutes(zone: str, text: str, day: int) -> None:
    rules = ScheduleRules(timezone=zone, incremental=parse_calendar(text))
    start = utc(1, 1) + timedelta(days=day)
    assert set(moments(calendar(rules, start, 4))) == wall_clock_oracle(rules, start, 4)


@settings(max_examples=50, deadline=None)
@given(zones, days_of_year, st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_a_service_that_ticks_unevenly_starts_each_newest_slot_once(zone: str, day: int, pauses: list[int]) -> None:
    rules = ScheduleRules(timezone=zone, full=parse_calendar("sun 02:30"), incremental=parse_calendar("daily 02:30"))
    now = utc(1, 1) + timedelta(days=day)
    attempts = [Attempt(FULL, now)]
    previous = now
    for hours in pauses:
        now += timedelta(hours=hours)
        slots = [s for s in calendar(rules, previous, 4) if previous < s.at <= now]
        answer = due(rules, now, attempts)
        assert (answer is not None) == bool(slots)
        if answer is not None:
            expected = FULL if any(slot.type is FULL for slot in slots) else INCREMENTAL
            assert answer.type is expected
            assert answer.slot.at == max(slot.at for slot in slots if slot.type is expected)
            attempts.append(Attempt(answer.type, now))
            assert due(rules, now, attempts) is None
        previous = now


@pytest.mark.parametrize(
    "text", ["daily 02:00", "sun 02:00", "mon..sat 02:00", "mon,wed 03:30", "fri..mon 22:00,23:15"]
)
def test_words_keep_their_text(text: str) -> None:
    assert str(parse_calendar(text.upper().replace(" ", "   "))) == text
