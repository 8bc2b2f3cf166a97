"""The passive is backed up when it is healthy and near; otherwise the policy decides, with reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.decide.source_copy import RefuseSource, UseCopy, WaitForCopy, choose_source
from backupd.model.pair import CopyRole, CopyState, CopyStatus, PairStatus
from backupd.model.rules import SourceRule, SourceRules

ACTIVE = CopyStatus("a", CopyRole.ACTIVE, CopyState.HEALTHY, "/data/app.db")
PASSIVE = CopyStatus("b", CopyRole.PASSIVE, CopyState.HEALTHY, "/data/passive/app.db")
PAIR = PairStatus("orders", "sqlite", ACTIVE, PASSIVE, "5f3a9c21d0e47b86")
ONLY = SourceRules()
PREFER = SourceRules(rule=SourceRule.PREFER_PASSIVE)


def with_passive(state: CopyState = CopyState.HEALTHY, copy_queue: int = 0, replay_queue: int = 0) -> PairStatus:
    passive = replace(PASSIVE, state=state, copy_queue_logs=copy_queue, replay_queue_logs=replay_queue)
    return replace(PAIR, passive=passive)


def test_a_healthy_passive_is_used() -> None:
    answer = choose_source(ONLY, PAIR)
    assert isinstance(answer, UseCopy)
    assert (answer.name, answer.role) == ("b", CopyRole.PASSIVE)


@pytest.mark.parametrize("state", [state for state in CopyState if state is not CopyState.HEALTHY])
def test_a_passive_that_is_not_healthy_is_refused_with_its_state(state: CopyState) -> None:
    answer = choose_source(ONLY, with_passive(state))
    assert isinstance(answer, RefuseSource)
    assert [reason.code for reason in answer.reasons] == ["passive-" + state.replace(" ", "-"), "passive-only"]


@pytest.mark.parametrize("state", [CopyState.INITIALIZING, CopyState.SEEDING, CopyState.RESTORING])
def test_a_state_that_passes_is_waited_for(state: CopyState) -> None:
    rules = replace(ONLY, wait_seconds_max=10)
    assert isinstance(choose_source(rules, with_passive(state), waited_seconds=9), WaitForCopy)
    assert isinstance(choose_source(rules, with_passive(state), waited_seconds=10), RefuseSource)


@pytest.mark.parametrize("state", [CopyState.SUSPENDED, CopyState.SUSPECT, CopyState.FAILED, CopyState.MUST_SEED])
def test_a_state_that_does_not_pass_is_not_waited_for(state: CopyState) -> None:
    assert isinstance(choose_source(replace(ONLY, wait_seconds_max=10), with_passive(state)), RefuseSource)


def test_lag_counts_both_queues_and_every_problem_is_told() -> None:
    rules = SourceRules(lag_logs_max=5, lag_seconds_max=30)
    assert isinstance(choose_source(rules, with_passive(copy_queue=2, replay_queue=3), lag_seconds=30), UseCopy)
    answer = choose_source(rules, with_passive(copy_queue=3, replay_queue=3), lag_seconds=31)
    assert isinstance(answer, RefuseSource)
    assert [reason.code for reason in answer.reasons] == ["lag-logs", "lag-seconds", "passive-only"]


def test_lag_is_waited_for() -> None:
    rules = SourceRules(lag_logs_max=0, wait_seconds_max=10)
    assert isinstance(choose_source(rules, with_passive(copy_queue=1)), WaitForCopy)


def test_a_silent_passive_is_waited_for_before_the_active_stands_in() -> None:
    silent = with_passive(CopyState.FAILED)
    silent = replace(silent, passive=replace(silent.passive, seen_at=None))
    rules = replace(PREFER, wait_seconds_max=10)
    assert isinstance(choose_source(rules, silent, waited_seconds=9, active_possible=True), WaitForCopy)
    late = choose_source(rules, silent, waited_seconds=10, active_possible=True)
    assert isinstance(late, UseCopy)
    assert late.role is CopyRole.ACTIVE
    assert isinstance(choose_source(replace(ONLY, wait_seconds_max=10), silent), RefuseSource)


def test_the_active_stands_in_when_the_policy_and_the_engine_allow_it() -> None:
    broken = with_passive(CopyState.FAILED)
    answer = choose_source(PREFER, broken, active_possible=True)
    assert isinstance(answer, UseCopy)
    assert (answer.name, answer.role) == ("a", CopyRole.ACTIVE)
    assert [reason.code for reason in answer.reasons] == ["passive-failed", "active-instead"]
    assert isinstance(choose_source(PREFER, broken), RefuseSource)
    assert isinstance(choose_source(ONLY, broken, active_possible=True), RefuseSource)
    sick = replace(broken, active=replace(ACTIVE, state=CopyState.MISSING))
    assert isinstance(choose_source(PREFER, sick, active_possible=True), RefuseSource)
