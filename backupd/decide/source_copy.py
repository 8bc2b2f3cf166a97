"""Decides which copy a backup is taken from: the passive, when it is healthy and near enough."""

from __future__ import annotations

from dataclasses import dataclass

from backupd.decide.reasons import Reason
from backupd.model.pair import CopyRole, CopyState, CopyStatus, PairStatus
from backupd.model.rules import SourceRule, SourceRules

# States that end by themselves; waiting makes sense.
_PASSING_STATES = frozenset({CopyState.INITIALIZING, CopyState.SEEDING, CopyState.RESTORING})


@dataclass(frozen=True, slots=True)
class UseCopy:
    """Take the backup from this copy."""

    name: str
    role: CopyRole
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class WaitForCopy:
    """Not now, but soon: ask again in a moment."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class RefuseSource:
    """No copy may be used; a person has to act first."""

    reasons: tuple[Reason, ...]


def choose_source(
    rules: SourceRules,
    pair: PairStatus,
    *,
    waited_seconds: float = 0.0,
    lag_seconds: float | None = None,
    active_possible: bool = False,
) -> UseCopy | WaitForCopy | RefuseSource:
    """The copy to back up.

    Args:
        rules: the policy's wish.
        pair: both copies as they are now.
        waited_seconds: how long this run has waited for the passive already.
        lag_seconds: how far the passive is behind in time; None when not known.
        active_possible: whether this engine's writer can be backed up from the active at all.
    """
    passive = pair.passive
    problems = [*_state_problem(passive), *_lag_problems(rules, passive, lag_seconds)]
    if not problems:
        sentence = f"{passive.name} is the passive, healthy, and {_queue(passive)} log files behind"
        return UseCopy(passive.name, CopyRole.PASSIVE, (Reason("passive-healthy", sentence),))
    # A passive that is silent may be restarting; where it is the only choice, who calls asks it again anyway.
    silent = passive.seen_at is None and rules.rule is SourceRule.PREFER_PASSIVE and active_possible
    passing = passive.state in _PASSING_STATES or passive.state is CopyState.HEALTHY or silent
    if passing and waited_seconds < rules.wait_seconds_max:
        return WaitForCopy(tuple(problems))
    return _fall_back(rules, pair.active, problems, active_possible)


def _state_problem(passive: CopyStatus) -> list[Reason]:
    if passive.state is CopyState.HEALTHY:
        return []
    because = f": {passive.because}" if passive.because else ""
    code = "passive-" + passive.state.replace(" ", "-")
    return [Reason(code, f"the passive {passive.name} {passive.state.says}{because}")]


def _lag_problems(rules: SourceRules, passive: CopyStatus, lag_seconds: float | None) -> list[Reason]:
    problems = []
    queue = _queue(passive)
    if rules.lag_logs_max is not None and queue > rules.lag_logs_max:
        sentence = f"the passive is {queue} log files behind; the policy allows {rules.lag_logs_max}"
        problems.append(Reason("lag-logs", sentence))
    # A lag that is not known says nothing against the copy: the queues above are always known.
    if rules.lag_seconds_max is not None and lag_seconds is not None and not lag_seconds <= rules.lag_seconds_max:
        sentence = f"the passive is {lag_seconds:.0f} s behind; the policy allows {rules.lag_seconds_max:.0f} s"
        problems.append(Reason("lag-seconds", sentence))
    return problems


def _queue(passive: CopyStatus) -> int:
    return passive.copy_queue_logs + passive.replay_queue_logs


def _fall_back(
    rules: SourceRules, active: CopyStatus, problems: list[Reason], active_possible: bool
) -> UseCopy | RefuseSource:
    if rules.rule is SourceRule.PASSIVE_ONLY:
        return RefuseSource((*problems, Reason("passive-only", "the policy allows the passive only")))
    if not active_possible:
        return RefuseSource(
            (*problems, Reason("active-impossible", "the active cannot stand in for what was asked for"))
        )
    if active.state is not CopyState.HEALTHY:
        sentence = f"the active {active.name} is {active.state} and cannot stand in"
        return RefuseSource((*problems, Reason("active-unhealthy", sentence)))
    stands_in = Reason("active-instead", f"the policy lets the active {active.name} stand in")
    return UseCopy(active.name, CopyRole.ACTIVE, (*problems, stands_in))
