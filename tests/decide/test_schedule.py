"""The calendar in a wall clock's place: daylight saving, missed slots, coinciding slots."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.decide.schedule import Attempt, Outcome, calendar, decide, due, next_slot, overdue
from backupd.decide.slots import Slot, jitter_seconds
from backupd.model.calendar import TimesOnDays, parse_calendar, parse_window
from backupd.model.rules import ScheduleRules, Task

FULL, INCREMENTAL, DIFFERENTIAL = Task.FULL, Task.INCREMENTAL, Task.DIFFERENTIAL


def rules_of(timezone: str = "UTC", jitter_seconds_max: int = 0, blackout: str = "", **words: str) -> ScheduleRules:
    return ScheduleRules(
        timezone,
        {Task(name): parse_calendar(text) for name, text in words.items()},
        jitter_seconds_max=jitter_seconds_max,
        blackout=(parse_window(blackout),) if blackout else (),
    )


WEEKLY = rules_of(full="sun 02:00", incremental="mon..sat 02:00")
DAILY = rules_of(full="sun 02:00", incremental="daily 02:00")


def utc(month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def berlin(words: str) -> ScheduleRules:
    return rules_of("Europe/Berlin", incremental=words)


def moments(slots: list[Slot]) -> list[datetime]:
    return [slot.at for slot in slots]


def test_the_default_week() -> None:
    slots = calendar(WEEKLY, utc(11, 22), 7)  # a Sunday
    assert [slot.task for slot in slots] == [FULL] + [INCREMENTAL] * 6
    assert slots[0].at == utc(11, 22, 2)
    assert slots[0].local == "Sun 2026-11-22 02:00 UTC"


def test_a_full_that_coincides_with_an_incremental_wins() -> None:
    assert [slot.task for slot in calendar(DAILY, utc(11, 22), 2)] == [FULL, INCREMENTAL]
    answer = due(DAILY, utc(11, 22, 2), [Attempt(INCREMENTAL, utc(11, 21, 2))])
    assert answer is not None
    assert answer.task is FULL
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
    assert (answer.task, answer.slot.at) == (FULL, utc(11, 22, 2))
    assert due(WEEKLY, utc(11, 27, 12, 30), [*attempts, Attempt(FULL, utc(11, 27, 12))]) is None


def test_a_missed_incremental_runs_when_the_full_is_served() -> None:
    answer = due(WEEKLY, utc(11, 24, 12), [Attempt(FULL, utc(11, 22, 2))])
    assert answer is not None
    assert (answer.task, answer.slot.at) == (INCREMENTAL, utc(11, 24, 2))
    assert "was missed 600 min ago and runs once" in str(answer.reasons[0])


def test_a_slot_is_due_from_its_minute_on_and_not_before() -> None:
    attempts = [Attempt(INCREMENTAL, utc(11, 23, 2)), Attempt(FULL, utc(11, 22, 2))]
    assert due(WEEKLY, utc(11, 24, 1, 59), attempts) is None
    assert due(WEEKLY, utc(11, 24, 2), attempts) is not None


def failed(task: Task, at: datetime, minutes: int = 1) -> Attempt:
    return Attempt(task, at, Outcome.FAILED, at + timedelta(minutes=minutes))


def test_what_failed_is_tried_again_ten_minutes_later_three_times() -> None:
    attempts = [Attempt(INCREMENTAL, utc(11, 21, 2))]
    now = utc(11, 22, 2)
    begun: list[datetime] = []
    while now < utc(11, 22, 12):
        answer = decide(WEEKLY, now, attempts)
        if answer.due is not None:
            assert answer.due.tried == len(begun)
            begun.append(now)
            attempts.append(failed(FULL, now))
        now += timedelta(minutes=1)
    assert begun == [utc(11, 22, 2) + timedelta(minutes=11 * number) for number in range(4)]
    assert [slot.at for slot in decide(WEEKLY, now, attempts).given_up] == [utc(11, 22, 2)]
    assert due(WEEKLY, utc(11, 29, 2), [*attempts, Attempt(INCREMENTAL, utc(11, 28, 2))]) is not None


def test_while_a_full_waits_for_its_retry_an_incremental_goes_on_and_is_looked_at_in_time() -> None:
    answer = decide(DAILY, utc(11, 22, 2, 2), [failed(FULL, utc(11, 22, 2))])
    assert answer.due is not None
    assert answer.due.task is INCREMENTAL
    assert answer.look_again_at == utc(11, 22, 2, 11)
    assert "is tried again at 02:11:00Z" in str(answer.waiting[0])


def test_what_was_stopped_begins_anew_at_once() -> None:
    stopped = Attempt(FULL, utc(11, 22, 2), Outcome.STOPPED, utc(11, 22, 3))
    assert due(WEEKLY, utc(11, 22, 3), [stopped]) is not None


def test_an_end_in_the_future_does_not_hold_a_retry_up() -> None:
    answer = due(WEEKLY, utc(11, 22, 2, 10), [Attempt(FULL, utc(11, 22, 2), Outcome.FAILED, utc(12, 24))])
    assert answer is not None


def test_a_blackout_puts_off_what_is_due_to_its_end() -> None:
    rules = rules_of("Europe/Berlin", blackout="fri..sun 22:00-06:00", full="sun 02:00")
    answer = decide(rules, utc(11, 22, 2), [])
    assert answer.due is None
    assert answer.look_again_at == utc(11, 22, 5)
    assert "waits for the end of the blackout fri..sun 22:00-06:00" in str(answer.waiting[0])
    assert decide(rules, utc(11, 22, 5), []).due is not None


def test_a_blackout_over_the_doubled_hour_does_not_end_too_early() -> None:
    rules = rules_of("Europe/Berlin", blackout="sun 01:00-02:30", full="sat 12:00")
    assert decide(rules, utc(10, 25, 1, 29), []).due is None
    assert decide(rules, utc(10, 25, 1, 30), []).due is not None


def test_prune_and_verify_have_slots_of_their_own_and_backups_go_first() -> None:
    rules = rules_of(full="daily 02:00", prune="daily 02:00", verify="daily 02:00")
    attempts: list[Attempt] = []
    for expected in (FULL, Task.PRUNE, Task.VERIFY):
        answer = due(rules, utc(11, 22, 2), attempts)
        assert answer is not None
        assert answer.task is expected
        attempts.append(Attempt(expected, utc(11, 22, 2)))
    assert due(rules, utc(11, 22, 2), attempts) is None
    assert [slot.task for slot in calendar(rules, utc(11, 22), 1)] == [FULL, Task.PRUNE, Task.VERIFY]


def test_overdue_is_what_the_archive_lacks_after_half_the_time_to_the_next_slot() -> None:
    hourly = rules_of(full="sun 02:00", incremental="every 1 h")
    there = [Attempt(FULL, utc(11, 22, 2)), Attempt(INCREMENTAL, utc(11, 23, 5))]
    assert overdue(hourly, utc(11, 23, 6, 29), there) == ()
    (late,) = overdue(hourly, utc(11, 23, 6, 30), there)
    assert (late.slot.at, late.slot.task, late.last) == (utc(11, 23, 6), INCREMENTAL, utc(11, 23, 5))
    assert {one.slot.task for one in overdue(hourly, utc(11, 29, 9), there)} == {FULL, INCREMENTAL}
    (since,) = overdue(hourly, utc(11, 29, 9), there, known_since={FULL: utc(11, 29, 3)})
    assert since.slot.task is INCREMENTAL


def test_a_backup_each_second_is_overdue_after_ten_minutes() -> None:
    quick = rules_of(incremental="every 1 s")
    assert overdue(quick, utc(11, 22, 2, 10), [Attempt(INCREMENTAL, utc(11, 22, 2))]) == ()
    assert len(overdue(quick, utc(11, 22, 2, 11), [Attempt(INCREMENTAL, utc(11, 22, 2))])) == 1


def test_a_differential_serves_incrementals() -> None:
    before = Attempt(FULL, utc(11, 22, 2))
    now = utc(11, 24, 3)
    assert due(WEEKLY, now, [before]) is not None
    assert due(WEEKLY, now, [before, Attempt(DIFFERENTIAL, utc(11, 24, 2))]) is None


def test_what_goes_by_the_hour_has_no_hole_when_an_hour_comes_twice() -> None:
    slots = moments(calendar(berlin("30 * * * *"), utc(10, 25), 1))
    assert {later - earlier for earlier, later in pairwise(slots)} == {timedelta(hours=1)}
    assert moments(calendar(berlin("30 2 * * *"), utc(10, 25), 1)) == [utc(10, 25, 0, 30)]


def test_a_rare_day_is_found() -> None:
    slot = next_slot(rules_of(full="0 2 29 2 *"), utc(11, 22))
    assert slot is not None
    assert slot.at == datetime(2028, 2, 29, 2, tzinfo=UTC)


def test_an_attempt_from_the_future_does_not_stop_backups() -> None:
    attempts = [Attempt(FULL, utc(11, 22, 2)), Attempt(FULL, utc(12, 30))]
    answer = due(WEEKLY, utc(11, 24, 2), attempts)
    assert answer is not None
    assert answer.task is INCREMENTAL


def test_slots_from_before_the_policy_are_not_owed() -> None:
    assert due(WEEKLY, utc(11, 24, 12), [], known_since={FULL: utc(11, 24, 11), INCREMENTAL: utc(11, 24, 11)}) is None
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
    rules = replace(WEEKLY, jitter_seconds_max=600)
    late = timedelta(seconds=jitter_seconds("orders", 600))
    assert moments(calendar(rules, utc(11, 23), 3, database="orders")) == [
        slot.at + late for slot in calendar(WEEKLY, utc(11, 23), 3)
    ]


def test_a_slot_of_yesterday_that_the_jitter_moved_past_midnight_is_seen() -> None:
    rules = rules_of(full="sun 23:59", jitter_seconds_max=43200)
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
    zone, (text,) = ZoneInfo(rules.timezone), rules.calendars[INCREMENTAL].parts
    assert isinstance(text, TimesOnDays)
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
            if wall.weekday() not in text.weekdays:
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
    rules = rules_of(zone, incremental=text)
    start = utc(1, 1) + timedelta(days=day)
    assert set(moments(calendar(rules, start, 4))) == wall_clock_oracle(rules, start, 4)


@settings(max_examples=50, deadline=None)
@given(zones, days_of_year, st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_a_service_that_ticks_unevenly_starts_each_newest_slot_once(zone: str, day: int, pauses: list[int]) -> None:
    rules = rules_of(zone, full="sun 02:30", incremental="daily 02:30")
    now = utc(1, 1) + timedelta(days=day)
    attempts = [Attempt(FULL, now)]
    previous = now
    for hours in pauses:
        now += timedelta(hours=hours)
        slots = [s for s in calendar(rules, previous, 4) if previous < s.at <= now]
        answer = due(rules, now, attempts)
        assert (answer is not None) == bool(slots)
        if answer is not None:
            expected = FULL if any(slot.task is FULL for slot in slots) else INCREMENTAL
            assert answer.task is expected
            assert answer.slot.at == max(slot.at for slot in slots if slot.task is expected)
            attempts.append(Attempt(answer.task, now))
            assert due(rules, now, attempts) is None
        previous = now


@pytest.mark.parametrize(
    "text", ["daily 02:00", "sun 02:00", "mon..sat 02:00", "mon,wed 03:30", "fri..mon 22:00,23:15"]
)
def test_words_keep_their_text(text: str) -> None:
    assert str(parse_calendar(text.upper().replace(" ", "   "))) == text
