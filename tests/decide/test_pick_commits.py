"""Which commits are shown where there are too many: nothing harmful makes room for what is harmless."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupd.decide.pick_commits import names_table, pick_commits
from tests.decide.builders import minute


@dataclass(frozen=True)
class One:
    at: datetime | None
    number: int


COMMITS = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 100)), st.booleans()), max_size=30)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a loaded machine is no fault
@given(commits=COMMITS, near=st.integers(0, 100), count_max=st.integers(0, 40))
def test_the_harmful_come_first_then_the_nearest_and_the_order_stays(
    commits: list[tuple[int | None, bool]], near: int, count_max: int
) -> None:
    made = [One(None if at is None else minute(at), number) for number, (at, _) in enumerate(commits)]
    harmful = [harm for _, harm in commits]
    chosen = pick_commits(made, harmful, minute(near), count_max)
    assert len(chosen) == min(count_max, len(made))
    assert list(chosen) == sorted(chosen, key=lambda one: one.number)
    left = [one for one in made if one not in chosen]

    def away(one: One) -> float:
        return abs((one.at - minute(near)).total_seconds()) if one.at else 0.0

    for kind in (True, False):
        kept = [away(one) for one in chosen if harmful[one.number] == kind]
        gone = [away(one) for one in left if harmful[one.number] == kind]
        assert not kept or not gone or max(kept) <= min(gone)
    if any(harmful[one.number] for one in left):
        assert all(harmful[one.number] for one in chosen)


@pytest.mark.parametrize(
    ("told", "wished", "same"),
    [
        ("app.public.items", "items", True),
        ("app.public.items", "public.items", True),
        ("items", "ITEMS", True),
        ("app.public.my_items", "items", False),
        ("5/16384", "items", False),
        ("items", "app.items", False),
    ],
)
def test_a_table_is_named_with_or_without_its_schema(told: str, wished: str, same: bool) -> None:
    assert names_table(told, wished) is same
