"""The slots that hold log: made, moved on, read back, lost and made anew, on real servers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.connect import Server
from backupd.engines.postgres.slots import (
    advance,
    drop_slot,
    ensure_slots,
    reset_lost_slot,
    slot_facts,
)
from backupd.engines.postgres.truncation import oldest_held, slot_alarms
from backupd.errors import ConfigInvalid, NotFound, NotHealthy
from tests.engines.postgres.wal_places import SLOT, Places, wait_until
from tests.pg_pairs import PairFactory, all_versions, server_of

pytestmark = pytest.mark.real
MIB = 1 << 20


@pytest.fixture
def active(pg_pair: PgPair) -> Iterator[Server]:
    with server_of(pg_pair, "active") as server:
        yield server
        drop_slot(server, SLOT)


@pytest.fixture
def passive(pg_pair: PgPair) -> Iterator[Server]:
    with server_of(pg_pair, "passive") as server:
        yield server
        drop_slot(server, SLOT)


def held_from(server: Server) -> int:
    slot = slot_facts(server, SLOT)
    assert slot is not None
    assert slot.held_from is not None
    return slot.held_from


def test_both_copies_get_a_slot_that_holds_log_at_once(active: Server, passive: Server) -> None:
    notes = ensure_slots(active, passive, SLOT)
    assert [SLOT in note for note in notes] == [True, True]
    for server in (active, passive):
        redo = int(server.value("SELECT (redo_lsn - '0/0')::bigint FROM pg_control_checkpoint()"))
        assert held_from(server) <= redo
    assert ensure_slots(active, passive, SLOT) == ()


def test_a_slot_that_is_gone_is_made_again(active: Server, passive: Server) -> None:
    ensure_slots(active, passive, SLOT)
    assert drop_slot(passive, SLOT)
    assert not drop_slot(passive, SLOT)
    assert [passive.words in note for note in ensure_slots(active, passive, SLOT)] == [True]


def test_a_slot_that_holds_nothing_yet_is_made_to_hold(active: Server, passive: Server) -> None:
    active.run("SELECT pg_create_physical_replication_slot(%s)", SLOT)
    slot = slot_facts(active, SLOT)
    assert slot is not None
    assert slot.held_from is None
    with pytest.raises(NotHealthy, match="holds no log"):
        advance(active, SLOT, 1 << 40)
    ensure_slots(active, passive, SLOT)
    assert held_from(active) > 0


def test_a_slot_moves_on_and_never_back(pg_pair: PgPair, active: Server, passive: Server) -> None:
    ensure_slots(active, passive, SLOT)
    places = Places.of(pg_pair)
    places.fill(0.2)
    end = places.close().offset
    pg_pair.wait_caught_up()
    for server in (active, passive):
        began = held_from(server)
        assert advance(server, SLOT, end) == end == held_from(server)
        assert advance(server, SLOT, began) == end
        assert advance(server, SLOT, end) == end


def test_the_answer_is_what_the_server_did_and_not_what_was_asked(active: Server, passive: Server) -> None:
    ensure_slots(active, passive, SLOT)
    far = 1 << 50
    now = int(active.value("SELECT (pg_current_wal_lsn() - '0/0')::bigint"))
    assert now - MIB <= advance(active, SLOT, far) < far


def test_without_a_slot_nothing_can_be_moved(active: Server) -> None:
    with pytest.raises(NotFound, match="no slot backupd"):
        advance(active, SLOT, 1)


def test_a_slot_that_somebody_streams_with_is_not_moved(pg_pair: PgPair, active: Server, passive: Server) -> None:
    ensure_slots(active, passive, SLOT)
    server = pg_pair.active
    to = pg_pair.directory / "received"
    server.person.own(to)
    words = [str(server.bin_directory / "pg_receivewal"), "-d", server.conninfo, "-S", SLOT, "-D", str(to), "-n"]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as receiver:
        try:
            wait_until(lambda: bool(getattr(slot_facts(active, SLOT), "active", False)))
            end = int(active.value("SELECT (pg_current_wal_lsn() - '0/0')::bigint")) + 1000
            with pytest.raises(NotHealthy, match="cannot be moved") as caught:
                advance(active, SLOT, end)
            assert "its own" in caught.value.next_step
        finally:
            receiver.kill()
    wait_until(lambda: not getattr(slot_facts(active, SLOT), "active", True))


@pytest.mark.slow
@pytest.mark.parametrize("major", all_versions())
def test_a_slot_that_lost_its_log_says_so_until_it_is_made_anew(make_pair: PairFactory, major: int) -> None:
    pair = make_pair(major, segment_mib=1)
    places = Places.of(pair)
    with server_of(pair, "active") as active, server_of(pair, "passive") as passive:
        ensure_slots(active, passive, SLOT)
        assert slot_alarms(active, passive, places.place) == ()
        assert oldest_held(active, passive, places.place) is not None
        places.fill(6)
        pair.wait_caught_up()
        pair.active.set(max_slot_wal_keep_size="2MB")  # only now: the passive's own slot is not to be lost

        def is_lost() -> bool:
            active.run("CHECKPOINT")
            slot = slot_facts(active, SLOT)
            return slot is not None and slot.lost

        wait_until(is_lost)
        slot = slot_facts(active, SLOT)
        assert slot is not None
        assert slot.held_from is None
        # Nothing is let go anywhere until it is made anew.
        assert oldest_held(active, passive, places.place) is None
        assert any("max_slot_wal_keep_size" in alarm for alarm in slot_alarms(active, passive, places.place))
        with pytest.raises(NotHealthy, match="holds no log") as caught:
            advance(active, SLOT, 1 << 40)
        assert "max_slot_wal_keep_size" in caught.value.because
        assert ["made anew" in note for note in ensure_slots(active, passive, SLOT)] == [True]
        assert reset_lost_slot(active, SLOT) == ""
        assert held_from(active) > 0
        assert slot_alarms(active, passive, places.place) == ()


@pytest.mark.slow
@pytest.mark.parametrize("major", all_versions())
def test_a_move_that_a_crash_undid_only_keeps_more_log(make_pair: PairFactory, major: int) -> None:
    pair = make_pair(major, segment_mib=1)
    places = Places.of(pair)
    with server_of(pair, "active") as active, server_of(pair, "passive") as passive:
        ensure_slots(active, passive, SLOT)
        active.run("CHECKPOINT")
        began = held_from(active)
        places.fill(2)
        end = places.close().offset
        assert advance(active, SLOT, end) == end
    pair.active.kill()
    pair.active.start()
    with server_of(pair, "active") as active:
        assert held_from(active) == began, "the crash was to undo the move; otherwise this test shows nothing"
        names = {str(row["name"]) for row in active.rows("SELECT name FROM pg_ls_waldir()")}
        assert any(int(name[16:], 16) == began // MIB for name in names if len(name) == 24)
        assert advance(active, SLOT, end) == end
        active.run("CHECKPOINT")
    pair.active.kill()
    pair.active.start()
    with server_of(pair, "active") as active:
        assert held_from(active) == end


@pytest.mark.slow
def test_what_stands_in_the_way_of_a_slot_is_told(make_pair: PairFactory) -> None:
    pair = make_pair(settings={"max_replication_slots": "2", "wal_level": "logical"})
    with server_of(pair, "active") as active, server_of(pair, "passive") as passive:
        active.run("SELECT pg_create_physical_replication_slot('another')")
        with pytest.raises(NotHealthy, match="no room") as full:
            ensure_slots(active, passive, SLOT)
        assert "max_replication_slots" in full.value.next_step
        pair.passive.stop()
        active.run("SELECT pg_drop_replication_slot(%s)", pair.passive.slot)
        active.run("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", SLOT)
        with pytest.raises(ConfigInvalid, match="logical"):
            ensure_slots(active, active, SLOT)


@pytest.mark.slow
def test_a_slot_that_was_taken_away_for_standing_still_says_so(make_pair: PairFactory) -> None:
    pair = make_pair(18, settings={"idle_replication_slot_timeout": "1s"})
    with server_of(pair, "active") as active, server_of(pair, "passive") as passive:
        ensure_slots(active, passive, SLOT)

        def is_lost() -> bool:
            active.run("CHECKPOINT")
            slot = slot_facts(active, SLOT)
            return slot is not None and slot.lost

        wait_until(is_lost)
        slot = slot_facts(active, SLOT)
        assert slot is not None
        assert slot.held_from is None
        assert "idle_replication_slot_timeout" in slot.why_lost
        assert "made anew" in reset_lost_slot(active, SLOT)
