"""Stamps: written on the active, seen on the passive, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres import stamps
from backupd.engines.postgres.connect import Server, connect
from backupd.engines.postgres.stamps import read_stamps, wait_stamp_seen, write_stamp
from backupd.errors import ConfigInvalid, NotHealthy
from backupd.model.kinds import BackupType
from backupd.model.position import Position
from backupd.model.records import Stamp, Stamps
from tests.engines.postgres.wal_places import switch_over
from tests.pg_pairs import PairFactory, all_versions, server_of

pytestmark = pytest.mark.real
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FULL, INCREMENTAL = BackupType.FULL, BackupType.INCREMENTAL


def a_stamp(number: int, kind: BackupType = INCREMENTAL) -> Stamp:
    end = Position("1", 0x1_0000_0000 + number * (1 << 24))
    return Stamp(kind, f"shop-{number:04}", end, NOW + timedelta(minutes=number))


@pytest.fixture
def active(pg_pair: PgPair) -> Iterator[Server]:
    with server_of(pg_pair, "active") as server:
        server.run("DROP SCHEMA IF EXISTS backupd CASCADE")
        pg_pair.wait_caught_up()
        yield server
        server.run("DROP SCHEMA IF EXISTS backupd CASCADE")


@pytest.fixture
def passive(pg_pair: PgPair) -> Iterator[Server]:
    with server_of(pg_pair, "passive") as server:
        yield server


def test_before_the_first_stamp_there_is_none(active: Server, passive: Server) -> None:
    assert read_stamps(active) == read_stamps(passive) == Stamps()
    assert not wait_stamp_seen(passive, "shop-0001", 0)


def test_a_stamp_is_seen_on_the_passive_as_it_was_written(active: Server, passive: Server) -> None:
    stamp = a_stamp(1, FULL)
    write_stamp(active, stamp)
    assert wait_stamp_seen(passive, stamp.backup_id, 10)
    assert read_stamps(passive) == Stamps(full=stamp)
    assert not wait_stamp_seen(passive, "shop-0002", 0.2)


def test_writing_a_stamp_again_changes_nothing(active: Server) -> None:
    for stamp in (a_stamp(1, FULL), a_stamp(2), a_stamp(1, FULL), a_stamp(2)):
        write_stamp(active, stamp)
    assert read_stamps(active) == Stamps(a_stamp(1, FULL), a_stamp(2))


def test_a_full_begins_anew(active: Server) -> None:
    for stamp in (a_stamp(1, FULL), a_stamp(2), a_stamp(3, FULL)):
        write_stamp(active, stamp)
    assert read_stamps(active) == Stamps(full=a_stamp(3, FULL))
    write_stamp(active, a_stamp(4))
    assert read_stamps(active).last == a_stamp(4)


def test_few_are_kept_but_the_last_full_always(active: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "ROWS_KEPT", 3)
    for stamp in (a_stamp(1, FULL), a_stamp(2, FULL), *(a_stamp(n) for n in range(3, 12))):
        write_stamp(active, stamp)
    assert read_stamps(active) == Stamps(a_stamp(2, FULL), a_stamp(11))
    assert active.value("SELECT count(*) FROM backupd.stamps") == 4


def test_a_database_that_does_not_exist_is_the_policys_mistake(pg_pair: PgPair) -> None:
    with pytest.raises(ConfigInvalid, match="does not let us in"):
        connect(pg_pair.active.conninfo, dbname="nowhere")


def test_a_role_that_may_not_make_the_table_is_told_what_to_do(pg_pair: PgPair, active: Server) -> None:
    active.run("DROP ROLE IF EXISTS stamper; CREATE ROLE stamper LOGIN")
    try:
        with connect(pg_pair.active.conninfo.replace("user=postgres", "user=stamper")) as stamper:
            with pytest.raises(ConfigInvalid, match=r"backupd\.stamps") as caught:
                write_stamp(stamper, a_stamp(1, FULL))
            assert "CREATE SCHEMA backupd AUTHORIZATION" in caught.value.next_step
            active.run("CREATE SCHEMA backupd AUTHORIZATION stamper")
            write_stamp(stamper, a_stamp(1, FULL))
            assert read_stamps(stamper) == Stamps(full=a_stamp(1, FULL))
    finally:
        active.run("DROP SCHEMA IF EXISTS backupd CASCADE; DROP ROLE stamper")


def test_a_standby_takes_no_stamp(active: Server, passive: Server) -> None:
    write_stamp(active, a_stamp(1, FULL))
    assert wait_stamp_seen(passive, "shop-0001", 10)
    with pytest.raises(NotHealthy):
        write_stamp(passive, a_stamp(2))


def test_a_stamp_does_not_wait_for_a_passive_that_stands_still(
    pg_pair: PgPair, active: Server, passive: Server
) -> None:
    write_stamp(active, a_stamp(1, FULL))
    assert wait_stamp_seen(passive, "shop-0001", 10)
    name = pg_pair.passive.name
    active.run(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    active.run("ALTER SYSTEM SET synchronous_commit = 'remote_apply'")
    active.run("SELECT pg_reload_conf()")
    passive.run("SELECT pg_wal_replay_pause()")
    try:
        write_stamp(active, a_stamp(2))
        assert not wait_stamp_seen(passive, "shop-0002", 0.3)
        passive.run("SELECT pg_wal_replay_resume()")
        assert wait_stamp_seen(passive, "shop-0002", 10)
    finally:
        passive.run("SELECT pg_wal_replay_resume()")
        active.run("ALTER SYSTEM RESET synchronous_standby_names")
        active.run("ALTER SYSTEM RESET synchronous_commit")
        active.run("SELECT pg_reload_conf()")


@pytest.mark.slow
@pytest.mark.parametrize("major", all_versions())
def test_stamps_survive_a_failover(make_pair: PairFactory, major: int) -> None:
    pair = make_pair(major)
    with server_of(pair, "active") as active:
        write_stamp(active, a_stamp(1, FULL))
        write_stamp(active, a_stamp(2))
    switch_over(pair)
    with server_of(pair, "active") as active, server_of(pair, "passive") as passive:
        assert read_stamps(active) == Stamps(a_stamp(1, FULL), a_stamp(2))
        stamp = Stamp(INCREMENTAL, "shop-0003", Position("2", 0x2_0000_0000), NOW)
        write_stamp(active, stamp)
        assert wait_stamp_seen(passive, "shop-0003", 10)
        assert read_stamps(passive) == Stamps(a_stamp(1, FULL), stamp)
