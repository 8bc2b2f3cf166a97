"""The guard of the active's disk: levels, the rate, the hour, and when an increment helps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.decide.log_guard import NOT_ARCHIVED, GuardLevel, LogSample, growth_of, guard_log, wants_increment
from backupd.decide.reasons import Reason

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MIB = 2**20
NOT_YET = Reason(NOT_ARCHIVED, "the archive does not hold it yet")
AWAY = Reason("passive", "the passive copy b is failed: no route")


def samples(*held: int, free: int | None = None, every_seconds: float = 600.0) -> list[LogSample]:
    first = NOW - timedelta(seconds=every_seconds * (len(held) - 1))
    return [LogSample(first + timedelta(seconds=every_seconds * n), one, free) for n, one in enumerate(held)]


@pytest.mark.parametrize(
    ("held", "level"),
    [(69, GuardLevel.NONE), (70, GuardLevel.WARNING), (84, GuardLevel.WARNING), (85, GuardLevel.CRITICAL)],
)
def test_warns_at_70_and_85_percent(held: int, level: GuardLevel) -> None:
    assert guard_log("copy a", samples(held * MIB), budget_bytes=100 * MIB, blockers=[]).level is level


def test_the_sentence_has_the_numbers_the_rate_the_hour_and_the_blocker() -> None:
    verdict = guard_log(
        "the active copy a", samples(60 * MIB, 70 * MIB, 80 * MIB), budget_bytes=100 * MIB, blockers=[AWAY]
    )
    assert verdict.growth_bytes_per_second == pytest.approx(10 * MIB / 600)
    assert verdict.budget_full_at == NOW + timedelta(minutes=20)
    for said in ("copy a holds 80.0 MiB", "80% of the budget of 100.0 MiB", "60.0 MiB an hour", "2026-11-22 12:20"):
        assert said in verdict.sentence
    assert verdict.sentence.endswith("the blocker: the passive copy b is failed: no route")


def test_a_disk_smaller_than_the_budget_counts_instead() -> None:
    verdict = guard_log("copy a", samples(40 * MIB, 90 * MIB, free=10 * MIB), budget_bytes=2**40, blockers=[NOT_YET])
    assert (verdict.level, verdict.budget_bytes) == (GuardLevel.CRITICAL, 100 * MIB)
    assert verdict.disk_full_at == NOW + timedelta(minutes=2)
    assert "its disk" in verdict.sentence


def test_the_rate_begins_after_log_was_removed() -> None:
    assert growth_of(samples(900, 10, 20, 30, every_seconds=100.0)) == pytest.approx(0.1)
    assert growth_of(samples(900, 10)) is None
    assert growth_of([]) is None


@pytest.mark.parametrize(
    ("blockers", "helps"), [([NOT_YET], True), ([AWAY], False), ([NOT_YET, AWAY], False), ([], False)]
)
def test_an_increment_helps_only_where_nothing_else_blocks(blockers: list[Reason], helps: bool) -> None:
    assert guard_log("copy a", samples(99), budget_bytes=100, blockers=blockers).incremental_helps is helps


def test_an_increment_that_did_not_help_is_not_begun_again_at_once() -> None:
    def wants(minutes: float | None, level: GuardLevel = GuardLevel.WARNING) -> bool:
        last = None if minutes is None else NOW - timedelta(minutes=minutes)
        return wants_increment(level, helps=True, last_at=last, now=NOW)

    assert wants(None)
    assert not wants(14)
    assert wants(15)
    assert wants(-60)  # a clock that was set back
    assert not wants(None, GuardLevel.NONE)


SAMPLES = st.lists(
    st.builds(
        LogSample,
        st.floats(0, 4e9).map(lambda at: datetime.fromtimestamp(at, UTC)),
        st.integers(0, 2**60),
        st.none() | st.integers(0, 2**60),
    ),
    max_size=8,
)


@given(SAMPLES, st.integers(0, 2**60), st.lists(st.sampled_from([NOT_YET, AWAY])))
def test_any_samples_get_an_answer_that_fits_itself(found: list[LogSample], budget: int, why: list[Reason]) -> None:
    verdict = guard_log("copy a", found, budget_bytes=budget, blockers=why)
    assert bool(verdict.sentence) == (verdict.level is not GuardLevel.NONE)
    if budget == 0 or not found:
        assert verdict.level is GuardLevel.NONE
        return
    now = found[-1]
    # Never silent: 85 % of the budget, or of what the disk has, is critical whatever the history of samples is.
    if now.held_bytes and now.held_bytes >= 0.85 * budget:
        assert verdict.level is GuardLevel.CRITICAL
    if now.held_bytes and now.free_bytes == 0:
        assert verdict.level is GuardLevel.CRITICAL
    assert all(at is None or at >= now.at for at in (verdict.budget_full_at, verdict.disk_full_at))
    if verdict.growth_bytes_per_second is None:
        assert verdict.budget_full_at is verdict.disk_full_at is None
