"""Truncation never passes what the archive, both copies or a hold need; and it is not lazy either."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.decide.truncation import KeepLog, LogEvidence, SecondEnd, TruncateBefore, decide_truncation
from backupd.model.pair import CopyState
from backupd.model.position import Position
from backupd.model.records import Hold
from backupd.model.states import RunState
from tests.decide.builders import HISTORY, minute, place

OTHER = "0000000000000001"

GOOD = LogEvidence(
    database="orders",
    enabled=True,
    history=HISTORY,
    oldest_held=place(10),
    archive_end=place(50),
    last_backup="20261122T010000Z-F-1a2b3c4d",
    last_backup_state=RunState.COMPLETE,
    passive_state=CopyState.HEALTHY,
    passive_because="",
    passive_replayed=place(70),
    passive_checkpointed=place(65),
    active_checkpointed=place(60),
    holds=(),
    age_seconds=1.0,
    age_seconds_max=60.0,
)


def hold(offset: int, history: str = HISTORY) -> Hold:
    return Hold("standby-2", "orders", place(offset, history), "a restore reads it", minute(0))


def with_position(name: str, position: Position) -> LogEvidence:
    return replace(GOOD, **{name: position})  # type: ignore[arg-type]


def codes(answer: TruncateBefore | KeepLog) -> list[str]:
    return [reason.code for reason in answer.reasons]


def test_everything_good_truncates_up_to_the_archive() -> None:
    answer = decide_truncation(GOOD)
    assert isinstance(answer, TruncateBefore)
    assert answer.position == place(50)
    assert answer.blocked_by == ()


@pytest.mark.parametrize("limit", ["passive_replayed", "passive_checkpointed", "active_checkpointed"])
def test_the_lowest_limit_decides(limit: str) -> None:
    answer = decide_truncation(with_position(limit, place(33)))
    assert isinstance(answer, TruncateBefore)
    assert answer.position == place(33)


def test_a_hold_stops_it_where_the_hold_begins() -> None:
    answer = decide_truncation(replace(GOOD, holds=(hold(42), hold(48))))
    assert isinstance(answer, TruncateBefore)
    assert answer.position == place(42)
    assert any("standby-2 holds the log (a restore reads it)" in str(reason) for reason in answer.reasons)


def test_a_hold_on_the_oldest_log_keeps_all_and_is_named() -> None:
    answer = decide_truncation(replace(GOOD, holds=(hold(10),)))
    assert isinstance(answer, KeepLog)
    assert codes(answer) == ["hold"]


@pytest.mark.parametrize("state", [state for state in CopyState if state is not CopyState.HEALTHY])
def test_a_passive_that_is_not_healthy_keeps_all(state: CopyState) -> None:
    answer = decide_truncation(replace(GOOD, passive_state=state, passive_because="a person did it"))
    assert codes(answer) == ["passive-" + state.replace(" ", "-")]
    assert str(answer.reasons[0]) == f"the passive is {state}, not healthy: a person did it"


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (None, "no-backup"),
        (RunState.PLANNED, "backup-not-proven"),
        (RunState.FROZEN, "backup-not-proven"),
        (RunState.STORED, "backup-not-proven"),
        (RunState.PROVEN, "backup-not-proven"),
        (RunState.PENDING, "backup-pending"),
        (RunState.FAILED, "backup-failed"),
    ],
)
def test_a_backup_that_is_not_proven_and_stamped_keeps_all(state: RunState | None, code: str) -> None:
    assert codes(decide_truncation(replace(GOOD, last_backup_state=state))) == [code]


@pytest.mark.parametrize("state", [RunState.STAMPED, RunState.REFUSED, RunState.ABORTED])
def test_a_run_that_stored_nothing_new_does_not_block(state: RunState) -> None:
    assert isinstance(decide_truncation(replace(GOOD, last_backup_state=state)), TruncateBefore)


@pytest.mark.parametrize("age", [60.001, -1.0, math.nan, math.inf])
def test_old_evidence_keeps_all(age: float) -> None:
    assert codes(decide_truncation(replace(GOOD, age_seconds=age))) == ["evidence-old"]


def test_every_blocker_is_listed() -> None:
    answer = decide_truncation(
        replace(
            GOOD,
            enabled=False,
            last_backup=None,
            passive_state="suspended",
            age_seconds=99.0,
            archive_end=None,
            passive_replayed=place(9, OTHER),
            holds=(hold(1, OTHER),),
        )
    )
    assert isinstance(answer, KeepLog)
    assert codes(answer) == [
        "disabled",
        "no-backup",
        "passive-suspended",
        "evidence-old",
        "archive-end-unknown",
        "histories-differ",
        "histories-differ",
    ]
    assert "nothing is recorded" not in str(answer.reasons)
    assert answer.blocked_by[4]["because"].endswith("a full begins it")
    assert answer.blocked_by[2] == {"code": "passive-suspended", "because": "the passive is suspended, not healthy"}


def test_nothing_to_remove_is_a_reason() -> None:
    assert codes(decide_truncation(replace(GOOD, oldest_held=place(50)))) == ["nothing-to-remove"]
    assert codes(decide_truncation(replace(GOOD, oldest_held=None))) == ["nothing-to-remove"]


@pytest.mark.parametrize(
    "name",
    ["archive_end", "passive_replayed", "passive_checkpointed", "active_checkpointed", "oldest_held"],
)
def test_a_position_of_another_history_keeps_all(name: str) -> None:
    assert codes(decide_truncation(with_position(name, place(55, OTHER)))) == ["histories-differ"]


def test_an_unknown_history_keeps_all() -> None:
    assert codes(decide_truncation(replace(GOOD, history=None))) == ["history-unknown"]


# --- properties ---------------------------------------------------------------

offsets = st.integers(0, 12)
high_offsets = st.integers(6, 12)
spoilers: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"enabled": False},
        {"history": None},
        {"history": OTHER},
        {"last_backup": None},
        {"passive_because": "no spoiler at all"},
        *({"last_backup_state": state} for state in RunState),
        *({"passive_state": state} for state in CopyState),
        *({"age_seconds": age} for age in (60.0, 61.0, -1.0)),
        *(
            {name: position}
            for name in (
                "archive_end",
                "passive_replayed",
                "passive_checkpointed",
                "active_checkpointed",
                "oldest_held",
            )
            for position in (None, place(12, OTHER))
        ),
        {"holds": (hold(12), hold(12, OTHER))},
    ]
)


@st.composite
def evidences(draw: st.DrawFn) -> LogEvidence:
    """Mostly good, so that the answer is often a truncation; sometimes one or two things are off."""
    good = replace(
        GOOD,
        oldest_held=place(draw(st.integers(0, 8))),
        archive_end=place(draw(high_offsets)),
        passive_replayed=place(draw(high_offsets)),
        passive_checkpointed=place(draw(high_offsets)),
        active_checkpointed=place(draw(high_offsets)),
        holds=tuple(hold(offset) for offset in draw(st.lists(high_offsets | offsets, max_size=3))),
    )
    for spoiler in draw(st.lists(spoilers, max_size=2)) if draw(st.booleans()) else ():
        good = replace(good, **spoiler)
    return good


def may_remove_up_to(evidence: LogEvidence, offset: int) -> bool:
    """The slow oracle: whether promise 1 allows all log up to ``offset`` to go, said without a minimum."""
    if not evidence.enabled or evidence.history is None or evidence.last_backup is None:
        return False
    if evidence.last_backup_state not in (RunState.COMPLETE, RunState.STAMPED, RunState.REFUSED, RunState.ABORTED):
        return False
    if evidence.passive_state != "healthy" or evidence.age_seconds > 60 or evidence.age_seconds < 0:
        return False
    witnesses = [
        evidence.archive_end,
        evidence.passive_replayed,
        evidence.passive_checkpointed,
        evidence.active_checkpointed,
        *(each.needs_from for each in evidence.holds),
    ]
    if evidence.oldest_held is None or evidence.oldest_held.history != evidence.history:
        return False
    for witness in witnesses:
        if witness is None or witness.history != evidence.history or witness.offset < offset:
            return False
    return offset > evidence.oldest_held.offset


@settings(max_examples=400, deadline=None)
@given(evidences())
def test_the_answer_equals_the_slow_oracle(evidence: LogEvidence) -> None:
    allowed = [offset for offset in range(14) if may_remove_up_to(evidence, offset)]
    answer = decide_truncation(evidence)
    if allowed:
        assert isinstance(answer, TruncateBefore), answer
        assert answer.position == place(max(allowed))
    else:
        assert isinstance(answer, KeepLog), answer
        assert answer.reasons


@settings(max_examples=400, deadline=None)
@given(evidences())
def test_the_answer_is_never_past_any_witness(evidence: LogEvidence) -> None:
    answer = decide_truncation(evidence)
    if isinstance(answer, KeepLog):
        return
    assert evidence.archive_end is not None
    assert answer.position <= evidence.archive_end
    for hold_ in evidence.holds:
        assert answer.position <= hold_.needs_from
    for witness in (evidence.passive_replayed, evidence.passive_checkpointed, evidence.active_checkpointed):
        assert witness is not None
        assert answer.position <= witness


def with_second(end: Position | None, *lacks: str, because: str = "") -> LogEvidence:
    return replace(GOOD, second=SecondEnd("s3://other/site", end, lacks, because))


def test_where_both_archives_are_wanted_the_shorter_one_decides() -> None:
    answer = decide_truncation(with_second(place(30), "20261122T020000Z-I-1a2b3c4d"))
    assert isinstance(answer, TruncateBefore)
    assert answer.position == place(30)
    assert any("20261122T020000Z-I-1a2b3c4d" in str(reason) for reason in answer.reasons)
    longer = decide_truncation(with_second(place(60)))
    assert isinstance(longer, TruncateBefore)
    assert longer.position == place(50)


@pytest.mark.parametrize(
    ("second", "code", "says"),
    [
        (SecondEnd("s3://other/site", None, ("x-F",)), "second-archive-end-unknown", "lacks x-F"),
        (SecondEnd("s3://other/site", None, (), "it is away"), "second-archive-end-unknown", "it is away"),
        (SecondEnd("s3://other/site", place(10), ("x-I",)), "second-archive-end", "lacks x-I"),
        (SecondEnd("s3://other/site", place(30, OTHER)), "histories-differ", "second archive"),
    ],
)
def test_a_second_archive_that_lacks_the_backup_keeps_the_log_and_is_named(
    second: SecondEnd, code: str, says: str
) -> None:
    answer = decide_truncation(replace(GOOD, second=second))
    assert isinstance(answer, KeepLog)
    (reason,) = answer.reasons
    assert reason.code == code
    assert says in reason.sentence
    assert "s3://other/site" in reason.sentence


@given(first=st.integers(0, 100), second=st.none() | st.integers(0, 100))
def test_log_never_goes_past_what_both_archives_hold(first: int, second: int | None) -> None:
    end = SecondEnd("there", None if second is None else place(second))
    answer = decide_truncation(replace(with_position("archive_end", place(first)), second=end))
    if isinstance(answer, TruncateBefore):
        assert second is not None
        assert answer.position.offset <= min(first, second)
