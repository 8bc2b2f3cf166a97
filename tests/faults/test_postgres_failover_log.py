"""Follows the log over a failover: one chain where the log is whole, and a full where it is not."""

from __future__ import annotations

import time

import pytest

from backupd.demo.postgres_server import PgServer
from tests.faults.pg_house import broken_home
from tests.faults.test_postgres_runs import FULL, INCREMENTAL

pytestmark = pytest.mark.real


def _rejoin(old: PgServer) -> None:
    """A clean stop lost nothing: the old active follows the new one with its own files."""
    assert old.follows is not None
    old.follows.psql(
        f"SELECT pg_create_physical_replication_slot('{old.slot}', true) "
        f"WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{old.slot}')"
    )
    old.start()


@pytest.mark.slow
@pytest.mark.parametrize("segments", [0, 3])
def test_an_incremental_crosses_a_failover(segments: int) -> None:
    """One chain; a restore to a moment before and to one after has the rows of each."""
    with broken_home("live") as home:
        pair = home.home.pair
        home.forked_ok(*FULL)
        home.write()
        for _ in range(segments):
            pair.active.psql("SELECT pg_switch_wal()")
            home.write()
        before, rows_before = home.home.now(), home.rows
        time.sleep(0.3)
        home.write()
        old = pair.active
        pair.fail_over()
        home.write()
        _rejoin(old)
        pair.wait_streaming()
        middle, rows_middle = home.home.now(), home.rows
        time.sleep(0.3)
        found = home.goes_on("after the failover", restore=False)
        assert found["type"] == "incremental", found["notes"]
        assert found["source_copy"] == old.name
        home.restores("latest")
        home.restores("before", rows=rows_before, at=before.isoformat())
        home.restores("after", rows=rows_middle, at=middle.isoformat())


@pytest.mark.slow
def test_incrementals_cross_failover_after_failover() -> None:
    with broken_home("live") as home:
        pair = home.home.pair
        home.forked_ok(*FULL)
        moments = []
        for number in range(3):
            home.write()
            moments.append((home.home.now(), home.rows))
            time.sleep(0.3)
            old = pair.active
            pair.fail_over()
            home.write()
            _rejoin(old)
            pair.wait_streaming()
            found = home.goes_on(f"failover {number}", restore=False)
            assert found["type"] == "incremental", found["notes"]
        home.restores("latest")
        for moment, rows in moments:
            home.restores("a moment", rows=rows, at=moment.isoformat())


@pytest.mark.slow
def test_log_that_is_gone_over_a_failover_raises_to_a_full() -> None:
    with broken_home("live") as home:
        pair = home.home.pair
        home.forked_ok(*FULL)
        home.write()
        old = pair.active
        pair.fail_over()
        pair.seed(old, pair.active)  # by pg_basebackup: the log from before is on no passive any more
        found = home.goes_on("seeded by pg_basebackup")
        assert found["type"] == "full", found
        assert any("raised" in note for note in found["notes"]), found["notes"]


@pytest.mark.slow
def test_log_that_was_lost_by_a_failover_raises_to_a_full() -> None:
    """What the old active had written and archived was never on the new one: its backups end where that began."""
    with broken_home("live") as home:
        pair = home.home.pair
        home.forked_ok(*FULL)
        home.write()
        home.forked_ok(*INCREMENTAL)
        archived = home.rows
        pair.passive.stop("immediate")
        home.write()
        pair.active.psql("CHECKPOINT")
        old, new = pair.active, pair.passive
        old.kill()
        old.follows = new
        old.person.write(old.data / "standby.signal", "")
        new.start()
        new.promote()
        home.rows = archived
        pair.seed(old, new)
        found = home.goes_on("what was written last is lost")
        assert found["type"] == "full", found
