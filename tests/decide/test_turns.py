"""Which of the runs that are due begin now."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.decide.schedule import Due
from backupd.decide.slots import Slot
from backupd.decide.turns import Candidate, Caps, choose_turns, lane_of, not_our_turn
from backupd.model.pair import CopyRole, CopyState, CopyStatus, PairStatus
from backupd.model.rules import SourceRule, Task

AT = datetime(2026, 11, 22, 2, tzinfo=UTC)


def candidate(database: str, archive: str = "file:///a", minute: int = 0, task: Task = Task.FULL) -> Candidate:
    return Candidate(database, archive, Due(task, Slot(AT + timedelta(minutes=minute), task), ()))


def test_what_has_waited_longest_goes_first() -> None:
    turns = choose_turns([candidate("a", minute=5), candidate("b", minute=1), candidate("c")], [], Caps(2, 2))
    assert [one.database for one in turns.begin] == ["c", "b"]
    ((late, reason),) = turns.wait
    assert late.database == "a"
    assert str(reason) == "2 runs go on on this host, and 2 may"


def test_a_full_goes_before_an_incremental_of_the_same_moment() -> None:
    turns = choose_turns([candidate("a", task=Task.INCREMENTAL), candidate("b")], [], Caps(1, 1))
    assert [one.database for one in turns.begin] == ["b"]


def test_an_archive_that_is_busy_does_not_hold_up_another_one() -> None:
    waiting = [candidate("a", "s3://x"), candidate("b", "s3://y", minute=9)]
    turns = choose_turns(waiting, [candidate("z", "s3://x")], Caps(9, 1))
    assert [one.database for one in turns.begin] == ["b"]
    assert turns.wait[0][1].code == "archive-cap"


def pair(*, passive: str = "b", answers: bool = True) -> PairStatus:
    active = "a" if passive == "b" else "b"
    return PairStatus(
        "orders",
        "postgres",
        CopyStatus(active, CopyRole.ACTIVE, CopyState.HEALTHY, "", seen_at=AT),
        CopyStatus(passive, CopyRole.PASSIVE, CopyState.HEALTHY, "", seen_at=AT if answers else None),
        None,
    )


@pytest.mark.parametrize("node", ["one", "two"])
@pytest.mark.parametrize("passive", ["a", "b"])
def test_a_schedule_runs_where_the_passive_is_and_a_failover_moves_it(node: str, passive: str) -> None:
    reason = not_our_turn(pair(passive=passive), {"a": "one", "b": "two"}, node, SourceRule.PASSIVE_ONLY)
    assert (reason is None) == ({"a": "one", "b": "two"}[passive] == node)
    if reason is not None:
        assert str(reason).endswith(f"and this is {node}")


def test_where_no_node_is_named_each_may_run_it() -> None:
    assert not_our_turn(pair(), {"a": None, "b": None}, "one", SourceRule.PASSIVE_ONLY) is None


def test_a_silent_passive_leaves_the_turn_to_the_active_where_that_may_be_read() -> None:
    nodes = {"a": "one", "b": "two"}
    silent = pair(answers=False)
    assert not_our_turn(silent, nodes, "one", SourceRule.PREFER_PASSIVE) is None
    assert not_our_turn(silent, nodes, "two", SourceRule.PREFER_PASSIVE) is not None
    assert not_our_turn(silent, nodes, "one", SourceRule.PASSIVE_ONLY) is not None


names = st.sampled_from("abcdef")
places = st.sampled_from(["s3://x", "s3://y"])


@given(
    st.lists(st.builds(candidate, names, places, st.integers(0, 9), st.sampled_from(Task)), max_size=20),
    st.lists(
        st.builds(candidate, names, places, task=st.sampled_from(Task)),
        max_size=4,
        unique_by=lambda one: lane_of(one.database, one.due.task),
    ),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_no_cap_is_broken_and_nobody_waits_without_a_reason(
    waiting: list[Candidate], running: list[Candidate], runs_max: int, per_archive: int
) -> None:
    turns = choose_turns(waiting, running, Caps(runs_max, per_archive))
    assert len(turns.begin) + len(turns.wait) == len(waiting)
    assert len(turns.begin) <= max(0, runs_max - len(running))
    after = [*running, *turns.begin]
    assert max(Counter(lane_of(one.database, one.due.task) for one in after).values(), default=0) <= 1
    begun = {one.archive for one in turns.begin}
    assert all(Counter(one.archive for one in after)[archive] <= per_archive for archive in begun)
    if any(one.due.task is Task.DRILL for one in turns.begin):
        assert sum(one.due.task is Task.DRILL for one in after) <= max(1, runs_max - 1)
    if not running and waiting:
        assert turns.begin


def test_backups_go_on_beside_a_drill_and_drills_leave_them_a_place() -> None:
    drill = candidate("a", task=Task.DRILL)
    assert choose_turns([candidate("a")], [drill], Caps(2, 2)).begin
    turns = choose_turns([candidate("b", task=Task.DRILL), candidate("c", minute=5)], [drill], Caps(2, 2))
    assert [one.database for one in turns.begin] == ["c"]
    assert turns.wait[0][1].code == "drill-cap"
    assert choose_turns([drill], [drill], Caps(9, 9)).wait[0][1].code == "running"
    assert choose_turns([drill], [], Caps(1, 1)).begin
