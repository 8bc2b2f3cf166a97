"""Letting log go, on real servers: what the copies say, what is removed, and what must never be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupd import steps
from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.connect import Server
from backupd.engines.postgres.slots import advance, drop_slot, ensure_slots, slot_facts
from backupd.engines.postgres.truncation import evidence, log_from, slot_alarms, truncate
from backupd.engines.postgres.wal_names import parse_segment_name
from backupd.errors import BackupdError, NotFound
from backupd.model.position import Position
from backupd.ports import TruncationEvidence
from tests.engines.postgres.wal_places import SLOT, Places, switch_over, wait_until
from tests.pg_pairs import PairFactory, a_pair, all_versions, server_of

pytestmark = [pytest.mark.real, pytest.mark.slow]
MIB = 1 << 20
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SMALL = {"min_wal_size": "2MB", "max_wal_size": "64MB", "autovacuum": "off"}


@contextmanager
def both(pair: PgPair) -> Iterator[tuple[Server, Server]]:
    with server_of(pair, "active") as active, server_of(pair, "passive") as passive:
        yield active, passive


@pytest.fixture(scope="module", params=all_versions())
def places(request: pytest.FixtureRequest) -> Iterator[Places]:
    with a_pair(request.param, segment_mib=1, settings=SMALL) as pair:
        yield Places.of(pair)


def ask(places: Places, active: Server, passive: Server) -> TruncationEvidence:
    return evidence(active, passive, places.place, passive_state="healthy", passive_because="", seen_at=NOW)


def on_disk(data_directory: Path) -> set[int]:
    """The numbers of the segments that a copy holds; without those that wait to be used again."""
    control = (parse_segment_name(path.name, MIB) for path in (data_directory / "pg_wal").iterdir())
    return {found[1] for found in control if found is not None}


def settle(places: Places, active: Server, passive: Server) -> Position:
    """Log that both copies have checkpointed past: the decision would allow all before the answer."""
    places.fill(2.2)
    end = places.close()
    places.fill(0.1)
    for server in (active, passive):
        places.pair.wait_caught_up()
        server.run("CHECKPOINT")
    said = ask(places, active, passive)
    assert said.active_checkpointed is not None
    assert said.passive_checkpointed is not None
    assert min(said.active_checkpointed, said.passive_checkpointed) >= end
    return end


def test_the_copies_say_where_their_log_is(places: Places) -> None:
    with both(places.pair) as (active, passive):
        ensure_slots(active, passive, SLOT)
        end = settle(places, active, passive)
        said = ask(places, active, passive)
        assert said.history == "1"
        assert said.passive_replayed is not None
        assert said.passive_replayed >= end
        assert said.oldest_held is not None
        assert said.oldest_held < end
        assert said.oldest_held.offset % MIB == 0
        held = [slot_facts(server, SLOT) for server in (active, passive)]
        assert said.oldest_held.offset == min(slot.restart_lsn or 0 for slot in held if slot) // MIB * MIB
        assert said.passive_log_from is not None
        assert said.passive_log_from <= said.oldest_held
        assert (said.passive_state, said.seen_at, said.ancestry) == ("healthy", NOW, ())


def test_log_leaves_both_copies_up_to_the_decision_and_not_further(places: Places) -> None:
    with both(places.pair) as (active, passive):
        ensure_slots(active, passive, SLOT)
        first = places.close()
        places.fill(1.2)
        end = settle(places, active, passive)
        newest = end.offset // MIB
        before = Position("1", end.offset - MIB)
        was = [on_disk(server.data) for server in places.pair.servers]
        assert all(n in held for held in was for n in range(first.offset // MIB, newest))
        done = truncate(active, passive, before, places.place, seconds_max=30)
        assert done.oldest_held == before
        left = [on_disk(server.data) for server in places.pair.servers]
        assert all(min(held) == newest - 1 for held in left), left
        assert done.removed_logs == sum(len({n for n in held if n < newest - 1}) for held in was)
        assert done.removed_bytes == done.removed_logs * MIB
        assert done.kept == ()
        assert ask(places, active, passive).passive_log_from == before
        # Once more: nothing is left to do.
        again = truncate(active, passive, before, places.place, seconds_max=30)
        assert (again.removed_logs, again.oldest_held) == (0, before)
        log = places.log()
        for one in log.closed(before, end):
            log.check(one)


def test_a_decision_further_back_lets_nothing_go(places: Places) -> None:
    with both(places.pair) as (active, passive):
        ensure_slots(active, passive, SLOT)
        end = settle(places, active, passive)
        truncate(active, passive, end, places.place, seconds_max=30)
        back = truncate(active, passive, Position("1", 2 * MIB), places.place, seconds_max=30)
        assert (back.removed_logs, back.oldest_held) == (0, end)


@pytest.mark.parametrize("number", range(1, 5))
def test_a_truncation_that_stops_anywhere_only_keeps_more(places: Places, number: int) -> None:
    with both(places.pair) as (active, passive):
        ensure_slots(active, passive, SLOT)
        end = settle(places, active, passive)
        steps.arm("fail", number, "pg.log.")
        try:
            truncate(active, passive, end, places.place, seconds_max=30)
            stopped = False
        except BackupdError:
            stopped = True
        finally:
            steps.disarm()
        assert stopped, "there are fewer steps than this test breaks"
        for server in places.pair.servers:
            assert end.offset // MIB in on_disk(server.data)
        said = ask(places, active, passive)
        assert said.oldest_held is not None
        assert said.oldest_held <= end
        assert truncate(active, passive, end, places.place, seconds_max=30).oldest_held == end


def test_without_a_slot_on_one_copy_nothing_goes(places: Places) -> None:
    with both(places.pair) as (active, passive):
        ensure_slots(active, passive, SLOT)
        drop_slot(passive, SLOT)
        assert ask(places, active, passive).oldest_held is None
        assert slot_alarms(active, passive, places.place) == (f"{passive.words} has no slot {SLOT}",)
        end = settle(places, active, passive)
        with pytest.raises(NotFound):
            truncate(active, passive, end, places.place, seconds_max=30)
        assert ensure_slots(active, passive, SLOT) != ()


def test_the_slot_that_the_passive_streams_with_is_respected(make_pair: PairFactory) -> None:
    pair = make_pair(segment_mib=1, settings=SMALL)
    places = Places.of(pair)
    with both(pair) as (active, passive):
        ensure_slots(active, passive, SLOT)
        behind = settle(places, active, passive)
        pair.passive.set(primary_conninfo="host=127.0.0.1 port=1")
        wait_until(lambda: active.value("SELECT count(*) FROM pg_stat_replication") == 0)
        places.fill(3)
        active.run("SELECT pg_switch_wal()")
        active.run("CHECKPOINT")
        end = int(active.value("SELECT (pg_current_wal_lsn() - '0/0')::bigint")) // MIB * MIB
        # No decision would ask for this: the passive has not replayed it. The slot still stops us.
        done = truncate(active, passive, Position("1", end), places.place, seconds_max=1)
        upstream = slot_facts(active, pair.passive.slot)
        ours = slot_facts(active, SLOT)
        assert upstream is not None
        assert ours is not None
        assert ours.held_from == (upstream.held_from or 0) // MIB * MIB
        assert ours.held_from >= behind.offset
        assert {*range(ours.held_from // MIB, end // MIB)} <= on_disk(pair.active.data)
        assert any(pair.passive.slot in why for why in done.kept)
        assert any("had not replayed" in why for why in done.kept)


@pytest.mark.parametrize("major", all_versions())
def test_a_crash_between_the_move_and_the_checkpoint_keeps_the_log(make_pair: PairFactory, major: int) -> None:
    pair = make_pair(major, segment_mib=1, settings=SMALL)
    places = Places.of(pair)
    with both(pair) as (active, passive):
        ensure_slots(active, passive, SLOT)
        for server in (active, passive):
            server.run("CHECKPOINT")
        began = ask(places, active, passive).oldest_held
        end = settle(places, active, passive)
        steps.arm("fail", 1, "pg.log.checkpoint_active")
        try:
            with pytest.raises(BackupdError):
                truncate(active, passive, end, places.place, seconds_max=30)
        finally:
            steps.disarm()
    for copy in pair.servers:
        copy.kill()
    for copy in pair.servers:
        copy.start()
    pair.wait_streaming()
    with both(pair) as (active, passive):
        said = ask(places, active, passive)
        assert began is not None
        assert said.oldest_held is not None
        assert began <= said.oldest_held <= end
        assert {*range(said.oldest_held.offset // MIB, end.offset // MIB)} <= on_disk(pair.active.data)
        assert truncate(active, passive, end, places.place, seconds_max=30).oldest_held == end


@pytest.mark.parametrize("major", all_versions())
def test_after_a_failover_all_is_said_in_the_new_history(make_pair: PairFactory, major: int) -> None:
    pair = make_pair(major, segment_mib=1, settings=SMALL)
    places = Places.of(pair)
    with both(pair) as (active, passive):
        ensure_slots(active, passive, SLOT)
        began = places.close()
        settle(places, active, passive)
    switch_over(pair)
    with both(pair) as (active, passive):
        ensure_slots(active, passive, SLOT)
        early = ask(places, active, passive)
        assert early.history == "2"
        assert {p.history for p in (early.oldest_held, early.passive_log_from) if p is not None} == {"2"}
        assert early.passive_log_from is not None
        assert early.passive_log_from.offset <= began.offset
        end = settle(places, active, passive)
        said = ask(places, active, passive)
        for place in (said.passive_replayed, said.passive_checkpointed, said.active_checkpointed):
            assert place is not None
            assert place.history == "2"
        assert end.history == "2"
        done = truncate(active, passive, end, places.place, seconds_max=30)
        assert done.oldest_held == end
        newest = end.offset // MIB
        assert min(on_disk(pair.active.data)) == newest
        # The old active still has the slot that its standby streamed with: it holds log for nobody, and that is told.
        stale = pair.active.slot
        assert min(on_disk(pair.passive.data)) < newest
        assert [stale in why for why in done.kept] == [True]
        drop_slot(passive, stale)
        assert truncate(active, passive, end, places.place, seconds_max=30).kept == ()
        assert min(on_disk(pair.passive.data)) == newest


def test_a_hole_in_the_passives_log_is_where_it_begins(make_pair: PairFactory) -> None:
    pair = make_pair(segment_mib=1, settings=SMALL)
    places = Places.of(pair)
    with both(pair) as (active, passive):
        ensure_slots(active, passive, SLOT)
        begins = places.close()
        places.fill(3)
        end = places.close()
        pair.wait_caught_up()
        began = log_from(passive, places.place)
        assert began is not None
        assert began <= begins
        (gone,) = (
            path
            for path in (pair.passive.data / "pg_wal").iterdir()
            if parse_segment_name(path.name, MIB) == (1, end.offset // MIB - 2)
        )
        gone.unlink()
        assert log_from(passive, places.place) == Position("1", end.offset - MIB)
        assert advance(active, SLOT, begins.offset) >= begins.offset
