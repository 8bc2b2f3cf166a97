"""Which of the runs that are due begin now."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backupd.decide.schedule import Due
from backupd.decide.slots import Slot
from backupd.decide.turns import Candidate, Caps, choose_turns
from backupd.model.rules import Task

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
    turns = choose_turns(waiting, [("z", "s3://x")], Caps(9, 1))
    assert [one.database for one in turns.begin] == ["b"]
    assert turns.wait[0][1].code == "archive-cap"


names = st.sampled_from("abcdef")
places = st.sampled_from(["s3://x", "s3://y"])


@given(
    st.lists(st.builds(candidate, names, places, st.integers(0, 9), st.sampled_from(Task)), max_size=20),
    st.lists(st.tuples(names, places), max_size=4, unique_by=lambda one: one[0]),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_no_cap_is_broken_and_nobody_waits_without_a_reason(
    waiting: list[Candidate], running: list[tuple[str, str]], runs_max: int, per_archive: int
) -> None:
    turns = choose_turns(waiting, running, Caps(runs_max, per_archive))
    assert len(turns.begin) + len(turns.wait) == len(waiting)
    assert len(turns.begin) <= max(0, runs_max - len(running))
    after = [*running, *((one.database, one.archive) for one in turns.begin)]
    assert max(Counter(database for database, _ in after).values(), default=0) <= 1
    begun = {one.archive for one in turns.begin}
    assert all(Counter(archive for _, archive in after)[archive] <= per_archive for archive in begun)
    if not running and waiting:
        assert turns.begin
