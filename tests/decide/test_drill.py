"""Answers of drills against what was expected, what is proven, what is overdue, and how long a restore may take."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.decide.drill import (
    Expected,
    PastDrill,
    answer_differs,
    answer_text,
    expected_of_state,
    expected_seconds,
    last_proven,
    overdue,
)
from backupd.model.drill import DrillFacts, Phase

START = datetime(2026, 11, 1, tzinfo=UTC)
DAY = 86400.0
USUAL = {"fetch": 10.0, "replay": 4.0, "plan": 1.0}


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def past(
    at: float, *backups: str, passed: bool = True, point: float | None = None, seconds: Mapping[str, float] = USUAL
) -> PastDrill:
    spent = {Phase(name): value for name, value in seconds.items()}
    facts = DrillFacts(
        run="r",
        host="h",
        started_at=day(at),
        backups=backups,
        point_at=None if point is None else day(point),
        seconds=spent,
        pages_bytes=1000,
        log_bytes=100,
    )
    return PastDrill(backups[-1] if backups else "", day(at), passed, facts)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        *((42, 42), (42, 42.0), (42, Decimal("42.00")), (2.5, Decimal("2.5")), ("paid", "paid"), ("null", None)),
        *((True, True), (True, 1), (False, 0), (False, False), ("2026-11-01", "2026-11-01"), ("00ff", b"\x00\xff")),
    ],
)
def test_an_answer_is_the_expected_one(expected: Expected, value: object) -> None:
    assert answer_differs(expected, [[value]]) is None


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        *((42, 41), (42, "42"), (42, None), (1, True), ("42", 43), (True, 2), (True, "true"), (True, 1.0)),
        *((False, None), (0, False), (2.5, 2.4), (42, Decimal("NaN"))),
    ],
)
def test_an_answer_is_another_one_and_is_not_repeated(expected: Expected, value: object) -> None:
    reason = answer_differs(expected, [[value]])
    assert reason is not None
    assert reason.code == "differs"
    assert str(value) not in reason.sentence


@pytest.mark.parametrize(
    ("rows", "code"), [([], "rows"), ([[1], [1]], "rows"), ([[1, 1]], "columns"), ([[]], "columns")]
)
def test_one_row_with_one_value_is_an_answer(rows: list[list[object]], code: str) -> None:
    reason = answer_differs(1, rows)
    assert reason is not None
    assert reason.code == code


@given(value=st.integers() | st.text() | st.booleans())
def test_what_was_answered_is_expected_next_time(value: int | str | bool) -> None:
    assert answer_differs(value, [[value]]) is None


def test_a_long_answer_is_cut_for_a_person() -> None:
    assert len(answer_text([["x" * 10_000]])) < 300
    assert answer_text([]) == "no row"
    assert answer_text([[1, None], [2, 2]]) == "1, null, and more rows"


def test_the_newest_state_that_passed_is_proven_whenever_that_was() -> None:
    newest = past(3, "F1", "I1", point=2.9)
    drills = [past(1, "F1", point=1), newest, past(4, "F1", point=1), past(5, "F1", "I2", point=4.9, passed=False)]
    assert last_proven(drills, {"F1", "I1", "I2"}) is newest


def test_what_the_archive_does_not_list_any_more_proves_nothing() -> None:
    older = past(1, "F1", point=1)
    assert last_proven([older, past(3, "F1", "I1", point=2.9)], {"F1"}) is older
    assert last_proven([past(3, "F1", "I1", point=2.9)], set()) is None
    assert last_proven([past(3)], {"F1"}) is None


def test_a_drill_is_overdue_after_two_intervals() -> None:
    week = 7 * DAY
    assert not overdue(day(0), day(-90), week, day(14))
    assert overdue(day(0), day(-90), week, day(14.001))
    assert not overdue(None, day(0), week, day(13))
    assert overdue(None, day(0), week, day(15))


def test_a_new_schedule_owes_nothing_for_the_time_before() -> None:
    assert not overdue(day(-90), day(0), 7 * DAY, day(10))


@given(
    ats=st.lists(st.floats(0, 100), max_size=5),
    interval=st.floats(1, 30),
    now=st.floats(0, 200),
)
def test_overdue_is_what_two_intervals_without_a_passed_one_are(ats: list[float], interval: float, now: float) -> None:
    last = max((at for at in ats if at <= now), default=None)
    slow = (now - max(0.0, last if last is not None else 0.0)) > 2 * interval + 1e-6
    found = overdue(None if last is None else day(last), day(0), interval * DAY, day(now))
    assert found or not slow


def test_the_time_grows_with_pages_and_log_and_the_rest_stays() -> None:
    drills = [past(1, "F1")]
    assert expected_seconds(drills, 1000, 100) == 15
    assert expected_seconds(drills, 2000, 100) == 25
    assert expected_seconds(drills, 1000, 300) == 23
    assert expected_seconds(drills, 0, 0) == 5  # the engine's part of the end is not for nothing
    assert expected_seconds([], 1000, 100) is None
    assert expected_seconds([past(1, "F1", passed=False)], 1000, 100) is None


def test_of_the_last_few_the_slowest_is_told() -> None:
    slow = past(0, "F1", seconds={"fetch": 1000.0})
    quick = [past(number, "F1", seconds={"fetch": float(number)}) for number in range(1, 5)]
    assert expected_seconds([slow, *quick], 1000, 100) == 1000
    assert expected_seconds([slow, *quick, past(9, "F1", seconds={"fetch": 9.0})], 1000, 100) == 9


def test_checks_of_the_drill_are_no_part_of_a_restore() -> None:
    drill = past(1, "F1", seconds={"fetch": 2.0, "engine-checks": 500.0, "own-checks": 100.0, "discard": 50.0})
    assert drill.facts.restore_seconds == 2
    assert expected_of_state([drill], drill) == 2
    assert expected_of_state([drill], None) is None


def test_facts_survive_their_json() -> None:
    facts = past(1, "F1", "I1", point=0.5).facts
    assert DrillFacts.from_json(facts.to_json()) == DrillFacts.from_json(
        DrillFacts.from_json(facts.to_json()).to_json()
    )
    assert DrillFacts.from_json(facts.to_json()).seconds == facts.seconds
