"""Promotes the passive, or cuts our connections, in each state of a run; and follows the log over a failover."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from backupd.demo.postgres_server import PgServer
from tests.faults.pg_house import BrokenHome, broken_home
from tests.faults.pg_processes import three_lines
from tests.faults.test_postgres_runs import FULL, INCREMENTAL

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

# A run stands at the n-th move in its journal: everything of the state before has been done.
FULL_STATES = {
    1: "planned",
    2: "prepared",
    3: "frozen",
    4: "captured",
    5: "thawed",
    6: "checked",
    7: "stored",
    8: "proven",
    9: "stamped",
}
INCREMENTAL_STATES = {1: "planned", 2: "prepared", 3: "checked", 4: "stored", 5: "proven", 6: "stamped"}
# In the middle of an act, with connections open.
ACTS = [
    (FULL, "1@pg.prepare.close_log"),
    (FULL, "1@pg.freeze.restartpoint"),
    (FULL, "1@pg.guard.pause"),
    (FULL, "1@pg.backup_mode.start"),
    (FULL, "2@pipeline.segment"),
    (FULL, "1@pg.backup_mode.stop"),
    (FULL, "2@pg.prepare.close_log"),
    (FULL, "1@pg.stamp.write"),
    (FULL, "1@pg.log.advance"),
    (INCREMENTAL, "1@pg.prepare.restartpoint"),
    (INCREMENTAL, "1@pg.log.checkpoint_active"),
]
PLACES = [(FULL, f"{n}@journal.move") for n in FULL_STATES]
PLACES += [(INCREMENTAL, f"{n}@journal.move") for n in INCREMENTAL_STATES]
PLACES += ACTS
QUICK_CUT = {(FULL, "2@pipeline.segment")}
QUICK_PROMOTION = {(FULL, "3@journal.move"), (INCREMENTAL, "2@journal.move")}


def _places(quick: set[tuple[tuple[str, ...], str]]) -> list[object]:
    return [
        pytest.param(words, step, id=f"{words[-1]}-{step}", marks=() if (words, step) in quick else pytest.mark.slow)
        for words, step in PLACES
    ]


@pytest.fixture(scope="module", params=["paused", pytest.param("live", marks=pytest.mark.slow)])
def shared(request: pytest.FixtureRequest) -> Iterator[BrokenHome]:
    with broken_home(request.param) as home:
        home.forked_ok(*FULL)
        yield home


@pytest.mark.slow
@pytest.mark.parametrize("copy", ["active", "passive"])
@pytest.mark.parametrize(("words", "step"), _places(QUICK_CUT))
def test_a_cut_connection(shared: BrokenHome, words: tuple[str, ...], step: str, copy: str) -> None:
    if shared.provider == "live" and step.partition("@")[2].startswith(("pg.guard", "pg.freeze")):
        pytest.skip("no freeze in a live run")
    shared.write()
    server: PgServer = getattr(shared.home.pair, copy)
    with shared.stopped(step, *words) as run:
        server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backupd'")
        if copy == "passive" and words is FULL:
            shared.replays(f"cut at {step}")  # the guardian needs no run for that
        run.go_on()
        answer = run.ended()
    if answer.status != 0:
        three_lines(answer, 7)
    shared.judge(f"{copy} cut off at {step}", restore=False)


# --- promotion ----------------------------------------------------------------------


def _fail_over(home: BrokenHome) -> PgServer:
    """The old active is stopped first, as a careful person does; it stays down."""
    old = home.home.pair.active
    home.home.pair.fail_over()
    return old


def _promote(home: BrokenHome) -> PgServer:
    """The old active runs on for a while: for that time there are two."""
    old, new = home.home.pair.active, home.home.pair.passive
    new.psql("SELECT pg_promote()")
    return old


@pytest.mark.parametrize("promote", [_fail_over, pytest.param(_promote, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("words", "step"), _places(QUICK_PROMOTION))
def test_a_promotion_ends_the_run_as_a_role_change(
    shared: BrokenHome, words: tuple[str, ...], step: str, promote: Callable[[BrokenHome], PgServer]
) -> None:
    if shared.provider == "live" and step.partition("@")[2].startswith(("pg.guard", "pg.freeze")):
        pytest.skip("no freeze in a live run")
    shared.write()
    pair = shared.home.pair
    with shared.stopped(step, *words) as run:
        new, old = pair.passive, promote(shared)
        run.go_on()
        answer = run.ended()
    if answer.status == 0:
        # It was committed already, and its log waits.
        assert "truncation  deferred" in answer.out, answer.told()
    else:
        problem, because, _ = three_lines(answer, 7)
        assert problem == "the roles changed during the run", answer.told()
        assert because
    assert shared.connections(new.name) == 0
    shared.archive_is_whole(step)
    # Without any edit: the old active becomes the standby, and the next run reads it.
    old.stop()
    pair.seed(old, new)
    shared.replays(f"promoted at {step}")
    after = shared.goes_on(f"promoted at {step}", restore=False)
    assert after["source_copy"] == old.name


# --- the log over a failover --------------------------------------------------------


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
