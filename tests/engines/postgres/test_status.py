"""What a person sees of a pair, from facts and notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backupd.engines.postgres.cluster import PgOptions
from backupd.engines.postgres.facts import SlotSeen
from backupd.engines.postgres.marks import CopyMark, Marks, clear_suspect, mark_suspect, read_marks
from backupd.engines.postgres.roles import Seen
from backupd.engines.postgres.status import pair_status
from backupd.model.pair import CopyRole, CopyState, PairStatus
from backupd.model.position import Position
from tests.engines.postgres.fact_builders import COPIES, DOWN, END, SEGMENT, SLOT, primary, standby

OPTIONS = PgOptions()


def status(seen: Seen, marks: Marks | None = None) -> PairStatus:
    return pair_status("shop", COPIES, seen, OPTIONS, marks or Marks({}))


def test_a_healthy_pair() -> None:
    pair = status({"a": primary(), "b": standby()})
    assert (pair.engine, pair.history, pair.alarms) == ("postgres", "1", ())
    assert [(copy.name, copy.role, copy.state) for copy in pair.copies] == [
        ("a", CopyRole.ACTIVE, CopyState.HEALTHY),
        ("b", CopyRole.PASSIVE, CopyState.HEALTHY),
    ]
    assert pair.active.path == "/data/a"
    assert pair.active.closed == Position("1", 100 * SEGMENT)
    assert pair.active.held_log_bytes == END - 98 * SEGMENT
    assert (pair.active.held_log_count, pair.active.held_log_seconds) == (2, 600.0)
    assert pair.passive.replayed == Position("1", END)
    assert pair.passive.inspected == Position("1", 100 * SEGMENT)
    assert pair.passive.checkpointed == Position("1", 99 * SEGMENT)
    assert dict(pair.passive.facts)["lag_bytes"] == "0"


def test_queues_are_counted_in_segments_and_told_in_bytes() -> None:
    behind = standby(receive_lsn=END - 2 * SEGMENT, replay_lsn=END - 5 * SEGMENT)
    passive = status({"a": primary(), "b": behind}).passive
    assert (passive.copy_queue_logs, passive.replay_queue_logs) == (2, 3)
    assert dict(passive.facts)["replay_queue_bytes"] == str(3 * SEGMENT)


@pytest.mark.parametrize(
    ("seen", "state", "says"),
    [
        ({"a": primary(), "b": standby(receiver=None)}, CopyState.INITIALIZING, "does not stream"),
        ({"a": primary(), "b": standby(replay_pause_state="paused")}, CopyState.SUSPENDED, "not by backupd"),
        ({"a": primary(), "b": standby(recovery_min_apply_delay_seconds=60.0)}, CopyState.SUSPENDED, "on purpose"),
        ({"a": primary(full_page_writes=False), "b": standby()}, CopyState.FAILED, "full_page_writes"),
        ({"a": primary(), "b": DOWN}, CopyState.FAILED, "connection refused"),
    ],
)
def test_the_state_of_the_passive(seen: Seen, state: CopyState, says: str) -> None:
    pair = status(seen)
    assert pair.passive.state is state
    assert says in pair.passive.because
    assert (state is CopyState.INITIALIZING) == (not pair.alarms)


def test_one_copy_that_is_down_is_shown_and_the_other_too() -> None:
    pair = status({"a": DOWN, "b": standby()})
    assert (pair.active.name, pair.active.state) == ("a", CopyState.FAILED)
    assert pair.passive.replayed == Position("1", END)
    assert pair.passive.state is CopyState.INITIALIZING
    assert "copy a (active) is failed: connection refused" in pair.alarms


def test_what_is_no_pair_is_shown_with_its_reason() -> None:
    pair = status({"a": primary(), "b": primary()})
    assert {copy.state for copy in pair.copies} == {CopyState.FAILED}
    assert pair.history is None
    assert pair.alarms[0].startswith("shop has two active copies")
    both = status({"a": DOWN, "b": DOWN})
    assert "neither copy of shop answers" in both.alarms[0]


def test_notes_of_ours_come_before_what_the_server_says(tmp_path: Path) -> None:
    mark_suspect(tmp_path, "b", "block 3 of base/5/1259 is bad")
    marks = read_marks(tmp_path, ("a", "b"))
    assert marks.copies == {"b": CopyMark(CopyState.SUSPECT, "block 3 of base/5/1259 is bad")}
    pair = status({"a": primary(), "b": standby()}, marks)
    assert pair.passive.state is CopyState.SUSPECT
    assert "block 3 of base/5/1259 is bad" in pair.alarms[0]
    clear_suspect(tmp_path, "b")
    clear_suspect(tmp_path, "b")
    assert read_marks(tmp_path, ("a", "b")) == Marks({})


def test_a_note_that_cannot_be_read_still_counts(tmp_path: Path) -> None:
    (tmp_path / "suspect-b.json").write_text("{")
    (tmp_path / "must-seed.json").write_text('{"reason": "restored to 10:00"}')
    marks = read_marks(tmp_path, ("a", "b"))
    assert marks.copies["b"].state is CopyState.SUSPECT
    assert marks.passive == CopyMark(CopyState.MUST_SEED, "restored to 10:00")
    assert status({"a": primary(), "b": DOWN}, marks).passive.state is CopyState.MUST_SEED


def test_a_suspension_does_not_follow_a_copy_that_was_promoted() -> None:
    marks = Marks({"b": CopyMark(CopyState.SUSPENDED, "maintenance")}, our_pause=True)
    assert status({"a": primary(), "b": standby(replay_pause_state="paused")}, marks).passive.because == "maintenance"
    assert status({"a": standby(), "b": primary()}, marks).active.state is CopyState.HEALTHY


def slot(wal_status: str, kept: int = 2) -> tuple[SlotSeen, ...]:
    return (replace(SLOT, wal_status=wal_status, restart_lsn=END - kept * SEGMENT if kept else None),)


@pytest.mark.parametrize(
    ("slots", "budget", "says"),
    [
        ((), None, "copy a has no slot backupd"),
        (slot("extended"), None, "keeps more log than max_wal_size"),
        (slot("unreserved"), 16 << 20, "about to lose its log"),
        (slot("lost", 0), 16 << 20, "has lost log"),
        (slot("reserved", 9), 10 * SEGMENT, "keeps 144 MiB of log; at 160 MiB"),
    ],
)
def test_what_a_slot_alarms_about(slots: tuple[SlotSeen, ...], budget: int | None, says: str) -> None:
    pair = status({"a": primary(slots=slots, max_slot_wal_keep_bytes=budget), "b": standby()})
    assert len(pair.alarms) == 1
    assert says in pair.alarms[0]


def test_pages_that_nobody_can_check_are_told() -> None:
    pair = status({"a": primary(data_checksums=False), "b": standby(data_checksums=False)})
    assert [alarm.split(":")[0] for alarm in pair.alarms] == ["data checksums are off"]


@pytest.mark.parametrize("name", ["a", "b"])
def test_what_is_noted_stands_while_neither_answers(name: str) -> None:
    """Else a prune on that day would take away the chain that is held because of it."""
    marks = Marks({name: CopyMark(CopyState.SUSPECT, "block 7 is bad")})
    pair = status({"a": DOWN, "b": DOWN}, marks)
    assert (pair.passive.name, pair.passive.state, pair.passive.because) == (name, CopyState.SUSPECT, "block 7 is bad")
    assert pair.active.state is CopyState.FAILED
