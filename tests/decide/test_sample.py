"""A sample keeps to its budget, begins with what was looked at longest ago, and reaches everything."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backupd.decide.sample import Candidate, choose_sample

START = datetime(2026, 11, 22, tzinfo=UTC)

moments = st.none() | st.integers(0, 40).map(lambda days: START - timedelta(days=days))


@st.composite
def shelves(draw: st.DrawFn) -> list[Candidate]:
    sizes = draw(st.lists(st.integers(0, 100), max_size=30))
    found = []
    for number, size in enumerate(sizes):
        looked_at = draw(moments)
        sound = draw(st.booleans())
        found.append(Candidate(f"data/{number:06d}", size, looked_at, looked_at if sound else None))
    return found


def order_of(candidate: Candidate) -> tuple[bool, datetime, str]:
    return candidate.looked_at is not None, candidate.looked_at or START, candidate.name


@given(shelves(), st.integers(1, 300))
def test_the_budget_is_kept_unless_one_object_is_bigger(shelf: list[Candidate], budget_bytes: int) -> None:
    chosen = choose_sample(shelf, budget_bytes=budget_bytes)
    assert sum(each.size_bytes for each in chosen) <= budget_bytes or len(chosen) == 1
    assert bool(chosen) == bool(shelf)


@given(shelves(), st.integers(1, 300))
def test_it_is_the_beginning_of_all_in_the_order_of_age_then_name(shelf: list[Candidate], budget_bytes: int) -> None:
    chosen = choose_sample(shelf, budget_bytes=budget_bytes)
    assert list(chosen) == sorted(shelf, key=order_of)[: len(chosen)]
    left_out = sorted(shelf, key=order_of)[len(chosen) :]
    if left_out:
        assert sum(each.size_bytes for each in (*chosen, left_out[0])) > budget_bytes


@given(shelves(), st.integers(1, 300))
def test_everything_is_reached_in_about_as_many_runs_as_budgets_fit_in(
    shelf: list[Candidate], budget_bytes: int
) -> None:
    total = sum(each.size_bytes for each in shelf)
    seen: set[str] = set()
    runs = 0
    world = {each.name: each for each in shelf}
    while len(seen) < len(shelf):
        runs += 1
        at = START + timedelta(hours=runs)
        for each in choose_sample(world.values(), budget_bytes=budget_bytes):
            seen.add(each.name)
            world[each.name] = replace(each, looked_at=at, verified_at=at)
        assert runs <= 2 * -(-total // budget_bytes) + 1


@given(shelves(), st.integers(1, 50))
def test_what_is_fresh_is_left_out_and_what_is_damaged_never_is(shelf: list[Candidate], reverify_days: int) -> None:
    chosen = choose_sample(shelf, now=START, reverify_days=reverify_days)
    for each in shelf:
        sound_at = each.verified_at
        fresh = sound_at is not None and START - sound_at < timedelta(days=reverify_days)
        assert (each in chosen) != fresh


@given(shelves())
def test_without_a_budget_it_is_everything(shelf: list[Candidate]) -> None:
    assert sorted(each.name for each in choose_sample(shelf)) == [each.name for each in shelf]


def test_the_budget_counts_from_the_oldest_on() -> None:
    old, newer, never = (
        Candidate("a", 50, START - timedelta(days=9)),
        Candidate("b", 50, START - timedelta(days=1)),
        Candidate("c", 50),
    )
    assert choose_sample([newer, old, never], budget_bytes=100) == (never, old)
    assert choose_sample([newer, old, never], budget_bytes=10) == (never,)
