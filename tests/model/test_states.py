"""The table of states is proven, not trusted."""

from __future__ import annotations

import copy

import pytest

from backupd.model import states
from backupd.model.states import EDGES, FINAL_STATES, FROZEN_STATES, Edge, IllegalMove, RunEvent, RunState, next_state

Table = dict[RunState, dict[RunEvent, Edge]]


def reachable(table: Table, start: RunState) -> set[RunState]:
    seen, todo = {start}, [start]
    while todo:
        for edge in table[todo.pop()].values():
            if edge.to not in seen:
                seen.add(edge.to)
                todo.append(edge.to)
    return seen


def frozen_for_ever(table: Table) -> list[str]:
    """Ways out of the frozen states that neither thaw nor say that they did."""
    return [
        f"{state} --{event}--> {edge.to}: {edge.says}"
        for state in FROZEN_STATES
        for event, edge in table[state].items()
        if edge.to not in FROZEN_STATES and event is not RunEvent.THAW and "thawed" not in edge.says
    ]


def test_every_state_has_a_row_and_every_event_a_use() -> None:
    assert set(EDGES) == set(RunState)
    assert {event for row in EDGES.values() for event in row} == set(RunEvent)


def test_every_state_can_be_reached() -> None:
    assert reachable(EDGES, RunState.PLANNED) == set(RunState)


def test_every_state_can_come_to_an_end() -> None:
    for state in RunState:
        assert reachable(EDGES, state) & FINAL_STATES, state


def test_the_only_circle_is_the_stamp_that_is_awaited() -> None:
    circle = {state for state in RunState if any(state in reachable(EDGES, edge.to) for edge in EDGES[state].values())}
    assert circle == {RunState.STAMPED, RunState.PENDING}


def test_every_way_out_of_a_freeze_is_a_thaw() -> None:
    assert {RunState.FROZEN, RunState.CAPTURED} == FROZEN_STATES
    assert frozen_for_ever(EDGES) == []
    for state in FROZEN_STATES:
        assert {edge.to for edge in EDGES[state].values()} <= FROZEN_STATES | {RunState.THAWED, RunState.ABORTED}
        assert any("thawed" in edge.says for edge in EDGES[state].values()), f"{state} has no way out by abort"


def test_a_way_out_without_a_thaw_would_be_seen() -> None:
    broken = copy.deepcopy(EDGES)
    broken[RunState.CAPTURED][RunEvent.CHECK] = Edge(RunState.CHECKED, "checked while it is frozen")
    assert frozen_for_ever(broken) == ["captured --check--> checked: checked while it is frozen"]


def test_only_a_freeze_leads_into_the_frozen_states() -> None:
    into = {event for row in EDGES.values() for event, edge in row.items() if edge.to is RunState.FROZEN}
    assert into == {RunEvent.FREEZE}


def test_nothing_is_complete_that_was_not_proven() -> None:
    """Without the edges that lead to proven, no way leads to complete or pending: promise 2 of the design."""
    unproven = {
        state: {event: edge for event, edge in row.items() if edge.to is not RunState.PROVEN}
        for state, row in EDGES.items()
    }
    assert not reachable(unproven, RunState.PLANNED) & {RunState.COMPLETE, RunState.PENDING, RunState.STAMPED}


def test_nothing_is_stored_that_was_not_checked() -> None:
    unchecked = {
        state: {event: edge for event, edge in row.items() if edge.to is not RunState.CHECKED}
        for state, row in EDGES.items()
    }
    assert not reachable(unchecked, RunState.PLANNED) & {RunState.STORED, RunState.PROVEN}


def test_every_edge_says_something_of_its_own() -> None:
    sentences = [edge.says for row in EDGES.values() for edge in row.values()]
    assert all(len(says) > 10 for says in sentences)
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize("state", list(RunState))
@pytest.mark.parametrize("event", list(RunEvent))
def test_a_move_is_in_the_table_or_changes_nothing(state: RunState, event: RunEvent) -> None:
    before = copy.deepcopy(states.EDGES)
    if event in EDGES[state]:
        assert next_state(state, event) is EDGES[state][event]
    else:
        with pytest.raises(IllegalMove, match=f"{state} cannot {event}"):
            next_state(state, event)
    assert before == states.EDGES
