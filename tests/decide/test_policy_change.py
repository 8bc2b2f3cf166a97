"""What a change of policies does is what is on one side only, in slots, keys, databases and backups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as some

from backupd.decide.policy_change import backups_changed, names_changed, places_changed, slots_changed
from backupd.decide.slots import Slot
from backupd.model.rules import Task

START = datetime(2026, 11, 22, tzinfo=UTC)
names = some.lists(some.sampled_from("abcdefgh"), unique=True)
slots = some.lists(
    some.builds(
        lambda hour, kind: Slot(START + timedelta(hours=hour), kind),
        some.integers(0, 20),
        some.sampled_from([Task.FULL, Task.INCREMENTAL]),
    ),
    unique_by=lambda slot: slot.at,
)


def slot(hour: int, kind: Task = Task.FULL) -> Slot:
    return Slot(START + timedelta(hours=hour), kind)


@given(slots, slots)
def test_what_comes_and_goes_makes_the_new_calendar_of_the_old(old: list[Slot], new: list[Slot]) -> None:
    change = slots_changed(old, new)
    assert (set(old) - set(change.go)) | set(change.come) == set(new)
    assert not set(change.come) & set(change.go)
    assert set(change.go) <= set(old)


@given(names, names)
def test_names_are_on_one_side_only(old: list[str], new: list[str]) -> None:
    come, go = names_changed(old, new)
    assert set(old) | set(come) == set(new) | set(go)
    assert not set(come) & set(old)
    assert not set(go) & set(new)
    assert list(come) == sorted(come)


@given(
    some.dictionaries(some.sampled_from("abc"), some.integers(0, 2)),
    some.dictionaries(some.sampled_from("abc"), some.integers(0, 2)),
)
def test_places_that_changed_are_those_whose_values_differ(old: dict[str, int], new: dict[str, int]) -> None:
    found = places_changed(old, new)
    assert set(found) == {place for place in "abc" if old.get(place) != new.get(place)}
    assert len(set(found)) == len(found)


@given(names, names)
def test_backups_that_both_plans_drop_are_no_change(old: list[str], new: list[str]) -> None:
    change = backups_changed(old, new)
    assert [one for one in new if one not in old] == list(change.would_drop)
    assert [one for one in old if one not in new] == list(change.would_keep)


def test_the_sentences_name_each_type_and_the_first_and_last_of_many() -> None:
    many = [slot(hour, Task.INCREMENTAL) for hour in range(1, 7)]
    change = slots_changed([slot(0), slot(9)], [slot(0), *many])
    assert [str(one) for one in change.sentences()] == [
        f"6 incrementals come: {', '.join(many[n].local for n in range(3))}, ..., {many[-1].local}",
        "1 full goes: Sun 2026-11-22 09:00 UTC",
    ]
    assert slots_changed(many, many).sentences() == ()


def test_a_slot_that_becomes_another_type_goes_and_comes() -> None:
    change = slots_changed([slot(1)], [slot(1, Task.INCREMENTAL)])
    assert [str(one) for one in change.sentences()] == [
        "1 incremental comes: Sun 2026-11-22 01:00 UTC",
        "1 full goes: Sun 2026-11-22 01:00 UTC",
    ]


def test_other_tasks_than_backups_have_slots_too() -> None:
    change = slots_changed([], [slot(1, Task.VERIFY), slot(2, Task.VERIFY), slot(3, Task.PRUNE)])
    words = [str(one).partition(":")[0] for one in change.sentences()]
    assert words == ["2 verifies come", "1 prune comes"]
