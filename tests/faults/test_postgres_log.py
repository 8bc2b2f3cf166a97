"""Log leaves both copies up to the rule's bound and never past it, whatever is missing, down or in the way."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from backupd.model.position import Position
from backupd.model.records import Hold
from tests.faults.pg_house import BrokenHome, broken_home, oldest_segment
from tests.faults.pg_processes import three_lines
from tests.faults.test_postgres_runs import FULL, INCREMENTAL

pytestmark = pytest.mark.real
SEGMENT_BYTES = 16 << 20


@pytest.fixture(scope="module")
def shared() -> Iterator[BrokenHome]:
    with broken_home("live") as home:
        home.forked_ok(*FULL)
        yield home


def _fill(home: BrokenHome, segments: int = 4) -> None:
    """So many segments of log with something in each."""
    for _ in range(segments):
        home.write()
        home.home.pair.active.psql("SELECT pg_switch_wal()")
    home.write()
    home.home.pair.wait_caught_up()


def _oldest(home: BrokenHome) -> dict[str, int]:
    return {server.name: oldest_segment(server.data) for server in home.home.pair.servers}


def _bound(home: BrokenHome) -> int:
    """The segment up to which the rule lets log go, as it says itself."""
    told = _explained(home)["evidence"]
    places = [told[name] for name in ("archive_end", "passive_replayed", "passive_checkpointed", "active_checkpointed")]
    places += [hold["needs_from"] for hold in told["holds"]]
    return min(int(place.rpartition("/")[2]) for place in places) // SEGMENT_BYTES


def _explained(home: BrokenHome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(home.forked_ok("explain", "truncation", "orders", "--json").out)
    return found


def _nothing_went(home: BrokenHome, before: dict[str, int], when: str) -> None:
    for server in home.home.pair.servers:
        assert oldest_segment(server.data) <= before[server.name], f"{when}: {server.name}"


def test_after_an_incremental_the_log_shrinks_to_the_bound(shared: BrokenHome) -> None:
    _fill(shared)
    before = _oldest(shared)
    shared.forked_ok(*INCREMENTAL)
    bound = _bound(shared)
    for name, oldest in _oldest(shared).items():
        assert before[name] < oldest <= bound, (name, before, oldest, bound)
        # The server itself keeps the segment of its last checkpoint's REDO.
        assert oldest >= bound - 1, (name, oldest, bound)
    shared.judge("truncated", restore=False)


def test_a_hold_keeps_its_log(shared: BrokenHome) -> None:
    _fill(shared, 2)
    held = _oldest(shared)
    needs = Position("1", (max(held.values()) + 1) * SEGMENT_BYTES)
    with shared.context() as context:
        context.journal.place_hold(Hold("an audit", "orders", needs, "a person said so", datetime.now(UTC)))
    try:
        _fill(shared)
        shared.forked_ok(*INCREMENTAL)
        for name, oldest in _oldest(shared).items():
            assert oldest * SEGMENT_BYTES <= needs.offset, name
        assert "an audit" in json.dumps(_explained(shared))
    finally:
        with shared.context() as context:
            context.journal.release_hold("orders", "an audit")
    shared.judge("released", restore=False)
    assert all(oldest * SEGMENT_BYTES > needs.offset for oldest in _oldest(shared).values())


def test_a_passive_that_is_down_keeps_all_log(shared: BrokenHome) -> None:
    pair = shared.home.pair
    _fill(shared, 2)
    before, passive = _oldest(shared), pair.passive
    passive.stop()
    try:
        for _ in range(3):
            shared.write()
            pair.active.psql("SELECT pg_switch_wal()")
        three_lines(shared.forked(*INCREMENTAL), 7)
        answer = shared.forked("truncate", "orders")
        if answer.status != 0:
            three_lines(answer, 7)
        pair.active.psql("CHECKPOINT")
        _nothing_went(shared, before, "passive down")
    finally:
        passive.start()
        pair.wait_streaming()
    shared.judge("passive up again", restore=False)


def test_an_archive_out_of_reach_keeps_all_log(shared: BrokenHome) -> None:
    _fill(shared, 2)
    before = _oldest(shared)
    away = shared.home.archive.with_name("away")
    shared.home.archive.rename(away)
    try:
        three_lines(shared.forked(*INCREMENTAL), 8)
        three_lines(shared.forked("truncate", "orders"), 8)
        for server in shared.home.pair.servers:
            server.psql("CHECKPOINT")
        _nothing_went(shared, before, "archive away")
    finally:
        with contextlib.suppress(OSError):
            shared.home.archive.rmdir()
        away.rename(shared.home.archive)
    shared.judge("archive there again", restore=False)


@pytest.mark.slow
@pytest.mark.parametrize("copy", ["active", "passive"])
@pytest.mark.parametrize("step", ["2@pg.log.advance", "1@pg.log.checkpoint_active"])
def test_a_server_that_crashes_between_advance_and_checkpoint(shared: BrokenHome, step: str, copy: str) -> None:
    """The move of a slot is durable with a checkpoint only; a crash before that keeps more log, never less."""
    pair = shared.home.pair
    _fill(shared)
    with shared.stopped(step, *INCREMENTAL) as run:
        server = getattr(pair, copy)
        server.kill()
        server.start()
        if copy == "active":
            pair.wait_streaming()
        run.go_on()
        answer = run.ended()
    assert answer.status == 0, answer.told()
    bound = _bound(shared)
    assert all(oldest <= bound for oldest in _oldest(shared).values())
    shared.judge(f"{copy} crashed at {step}", restore=copy == "active")


def test_backupd_that_dies_between_advance_and_checkpoint(shared: BrokenHome) -> None:
    _fill(shared)
    running = shared.begin(*INCREMENTAL, BACKUPD_FAULT="die:1@pg.log.checkpoint_active", BACKUPD_FAULT_ROLE="run")
    assert running.ended().status == -signal.SIGKILL
    assert all(oldest <= _bound(shared) for oldest in _oldest(shared).values())
    shared.judge("died between", restore=False)


def test_an_idle_primary_is_backed_up_all_the_same(shared: BrokenHome) -> None:
    shared.judge("some writes", restore=False)
    for words in (INCREMENTAL, FULL, INCREMENTAL):
        answer = shared.forked(*words, "--json")
        assert answer.status == 0, answer.told()
        assert (answer.json["type"], answer.json["state"]) == (words[-1], "complete"), answer.told()
    shared.nothing_is_left("idle")
    shared.restores("idle")


@pytest.mark.slow
@pytest.mark.parametrize("copy", ["active", "passive"])
def test_a_slot_that_is_lost_is_told_and_the_next_is_a_full(copy: str) -> None:
    with broken_home("live", settings={"min_wal_size": "32MB", "max_wal_size": "48MB"}) as home:
        pair = home.home.pair
        home.forked_ok(*FULL)
        server = getattr(pair, copy)
        server.set(max_slot_wal_keep_size="32MB")
        # The other one's own slot must live, or it would be cut off.
        _fill(home, 8)
        for each in (pair.active, pair.passive):
            each.psql("CHECKPOINT")
        lost = server.psql("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'backupd'")
        assert lost == "lost", lost
        told = json.dumps(home.home.status()["alarms"])
        assert "lost" in told, told
        server.set(max_slot_wal_keep_size="-1")
        found = home.goes_on("slot lost")
        if copy == "passive":
            assert found["type"] == "full", found
        assert "lost" not in json.dumps(home.home.status()["alarms"])
        assert home.goes_on("and on")["type"] == "incremental"
