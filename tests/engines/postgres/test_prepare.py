"""Closing the log of a real active, also an idle one, and bringing the passive past it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.connect import Server
from backupd.engines.postgres.prepare import (
    ClosedAt,
    close_log,
    closed_end,
    last_checkpoint,
    prepare,
    wait_received,
    wait_replayed,
)
from backupd.engines.postgres.replay_pause import look
from backupd.errors import NotHealthy
from backupd.model.records import Progress
from backupd.ports import Prepared
from tests.engines.postgres.freezing import load, replay, until
from tests.pg_pairs import PairFactory, a_pair, all_versions, server_of

MIB = 1 << 20


@pytest.fixture(scope="module")
def pair() -> Iterator[PgPair]:
    with a_pair(segment_mib=1, settings={"track_commit_timestamp": "on"}) as pair:
        yield pair


@pytest.fixture
def active(pair: PgPair) -> Iterator[Server]:
    with server_of(pair, "a") as server:
        yield server


@pytest.fixture
def passive(pair: PgPair) -> Iterator[Server]:
    with server_of(pair, "b") as server:
        yield server


def prepared(active: Server, passive: Server, *, seconds_max: float = 20.0, checkpoint: bool = True) -> Prepared:
    return prepare(active, passive, name="backupd_test", checkpoint=checkpoint, seconds_max=seconds_max,
                   report=lambda _: None)  # fmt: skip


@pytest.mark.parametrize(
    ("switched", "end"),
    [
        (3 * MIB, 3 * MIB),  # there was nothing to switch
        (3 * MIB + 40, 3 * MIB),  # the record ended with its segment; the header of the next was skipped
        (3 * MIB + 48, 4 * MIB),  # the record lies over the boundary
        (3 * MIB + 64, 4 * MIB),  # the first record of its segment
        (3 * MIB + 4711 * 8, 4 * MIB),
        (4 * MIB - 8, 4 * MIB),
    ],
)
def test_the_end_of_a_closed_segment(switched: int, end: int) -> None:
    assert closed_end(switched, MIB) == end


@pytest.mark.parametrize("major", all_versions())
def test_an_idle_active_closes_one_segment_each_time(major: int, make_pair: PairFactory) -> None:
    pair = make_pair(major)
    segment = 16 * MIB
    with server_of(pair, "a") as active, server_of(pair, "b") as passive:
        ends = [close_log(active, f"backupd_{n}") for n in range(4)]
        assert {later.lsn_end - earlier.lsn_end for earlier, later in itertools.pairwise(ends)} == {segment}
        assert all(end.lsn_end % segment == 0 and end.timeline == 1 for end in ends)
        assert [end.at for end in ends] == sorted(end.at for end in ends)
        wait_received(passive, ends[-1].lsn_end, 10)
        wait_replayed(passive, ends[-1].lsn_end, time.monotonic() + 10, lambda _: None)
        # Nothing of the next segment was needed for that.
        assert look(passive).replayed == ends[-1].lsn_end
        for checkpoint in (False, True, True):
            done = prepared(active, passive, checkpoint=checkpoint)
            assert look(passive).replayed >= done.position.offset
            assert done.position.history == "1"
            if checkpoint:
                assert last_checkpoint(passive).redo >= last_checkpoint(active).redo


def _insert_lsn(active: Server) -> int:
    return int(active.value("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"))


def _fill_up_to(active: Server, goal: int) -> bool:
    """Write records until the insert position is exactly ``goal``; False when somebody else wrote meanwhile."""
    write = "SELECT pg_logical_emit_message(false, 'x', repeat('x', %s))"
    # A record costs 56 bytes and its payload in steps of 8, and each page that it goes through 24 more.
    while (left := goal - _insert_lsn(active)) > 4096:
        active.run(write, (left - 3000) * 99 // 100 // 8 * 8)
    active.run(write, left - 56)
    return _insert_lsn(active) == goal


def test_at_every_place_before_the_boundary_the_right_end_is_told(active: Server, passive: Server) -> None:
    """The restore point's record ends 8, 16, … bytes before the boundary; then the switch record fits or not."""
    probe = _insert_lsn(active)
    active.run("SELECT pg_create_restore_point('backupd_probe')")
    point_bytes = _insert_lsn(active) - probe
    tried = 0
    for left in (8, 16, 24, 32, 40, 48, 0):
        boundary = (_insert_lsn(active) // MIB + 2) * MIB
        if not _fill_up_to(active, boundary - left - point_bytes):
            continue
        tried += 1
        closed = close_log(active, "backupd_probe")
        # What is written next says what was closed: it begins behind the header of the segment after it.
        assert _insert_lsn(active) // MIB * MIB == closed.lsn_end, left
        wait_replayed(passive, closed.lsn_end, time.monotonic() + 10, lambda _: None)
        name = active.value("SELECT pg_walfile_name((%s::bigint + '0/0'::pg_lsn) - 1)", closed.lsn_end)
        last = active.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
        assert name < last or _insert_lsn(active) == closed.lsn_end
    assert tried >= 3, "the records could not be placed"


def test_under_load_what_was_committed_before_is_in_the_closed_log(pair: PgPair, passive: Server) -> None:
    """Every commit whose time is not after ``at`` has been replayed when the passive stands at the closed end."""
    pair.a.psql("CREATE TABLE IF NOT EXISTS ticks (n bigserial, at timestamptz)")
    asked = "SELECT count(*) FROM public.ticks WHERE pg_xact_commit_timestamp(xmin) <= %s"
    script = pair.directory / "tick.sql"
    script.write_text("INSERT INTO ticks (at) VALUES (clock_timestamp());\n")
    script.chmod(0o644)
    with load(pair.a, "-c", 4, "-f", str(script)), server_of(pair, "a") as active:
        for _ in range(5):
            closed: ClosedAt = close_log(active, "backupd_ticks")
            # Replayed up to there, or some more; what lacks later has not been in the closed log.
            wait_replayed(passive, closed.lsn_end, time.monotonic() + 10, lambda _: None)
            seen = int(passive.value(asked, closed.at))
            time.sleep(0.2)
            assert int(active.value(asked, closed.at)) == seen
            assert seen > 0


def test_progress_is_told_while_the_passive_is_behind(pair: PgPair, active: Server, passive: Server) -> None:
    told: list[Progress] = []
    for _ in range(10):  # a quick machine may have replayed it all before it is looked at
        passive.run("SELECT pg_wal_replay_pause()")
        assert until(lambda: replay(pair.b) == "paused")
        active.run("SELECT pg_logical_emit_message(false, 'x', repeat('x', 100000000))")
        passive.run("SELECT pg_wal_replay_resume()")
        prepare(active, passive, name="backupd_test", checkpoint=True, seconds_max=60, report=told.append)
        if told:
            break
    assert told
    assert all(0 <= each.done_bytes <= each.total_bytes for each in told)


def test_somebody_elses_pause_ends_it_at_once(pair: PgPair, active: Server, passive: Server) -> None:
    passive.run("SELECT pg_wal_replay_pause()")
    try:
        assert until(lambda: replay(pair.b) == "paused")
        began = time.monotonic()
        with pytest.raises(NotHealthy, match="does not replay") as told:
            prepared(active, passive, seconds_max=60)
        assert time.monotonic() - began < 5
        assert "somebody paused" in told.value.because
        assert replay(pair.b) == "paused"
    finally:
        passive.run("SELECT pg_wal_replay_resume()")


def test_a_passive_that_does_not_get_there_is_given_up_with_its_place(
    pair: PgPair, active: Server, passive: Server
) -> None:
    pair.b.set(recovery_min_apply_delay="1h")
    try:
        # Replay waits at the first commit.
        pair.a.psql("CREATE TABLE delayed (n int)")
        with pytest.raises(NotHealthy, match="has not replayed the log in time") as told:
            prepared(active, passive, seconds_max=2)
        assert "it stands at 0/" in told.value.because
        with pytest.raises(NotHealthy, match="has not received"):
            wait_received(passive, _insert_lsn(active) + 100 * MIB, 0.2)
        wait_received(passive, close_log(active, "backupd_received").lsn_end, 10)
    finally:
        pair.b.set(recovery_min_apply_delay="0")
    assert until(lambda: int(pair.b.psql("SELECT count(*) FROM pg_class WHERE relname = 'delayed'")) == 1)


def test_swapped_servers_and_a_promoted_passive_are_a_role_change(make_pair: PairFactory) -> None:
    pair = make_pair()
    with server_of(pair, "a") as active, server_of(pair, "b") as passive:
        with pytest.raises(NotHealthy) as told:
            close_log(passive, "backupd_swapped")
        assert told.value.details["role_change"]
        pair.b.promote()
        for act in (
            lambda: prepared(active, passive),
            lambda: wait_received(passive, 1 << 50, 5),
            lambda: wait_received(passive, 1, 5),
        ):
            with pytest.raises(NotHealthy) as told:
                act()
            assert told.value.details["role_change"]
        assert close_log(passive, "backupd_after").timeline == 2
