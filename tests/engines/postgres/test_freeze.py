"""Frozen files stand still, on real pairs under load; and replay runs again, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backupd import durable, steps
from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres import backup_mode, frozen, guard, pauses, prepare, replay_pause
from backupd.engines.postgres.cluster import PgCopy, PgOptions
from backupd.engines.postgres.connect import Server, connect
from backupd.engines.postgres.freeze import PgMoving, begin_freeze
from backupd.engines.postgres.pauses import marker_path, recover_pauses, suspend
from backupd.errors import BackupdError, Busy, NotHealthy, Refused
from tests.engines.postgres.freezing import (
    Run,
    copy_of,
    digests,
    freeze,
    load,
    marker_gone,
    replay,
    runs_soon,
    until,
)
from tests.pg_pairs import PairFactory, a_pair, all_versions

STEPS_MAX = 60
OWN_MODULES = (replay_pause, prepare, backup_mode, pauses, guard, frozen, durable)


@pytest.fixture(scope="module")
def pair() -> Iterator[PgPair]:
    """A pair with some data; every test leaves it replaying."""
    with a_pair() as pair:
        pair.a.pgbench("-i", "-s", 2)
        pair.wait_caught_up()
        yield pair


@pytest.fixture(autouse=True)
def _nothing_stays_armed() -> Iterator[None]:
    yield
    steps.disarm()


def at_step(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object]) -> None:
    """Do something just before the first step of that name in this process."""
    todo = [act]

    def step(passed: str) -> None:
        if passed == name and todo:
            todo.pop()()
        steps.step(passed)

    for module in OWN_MODULES:
        monkeypatch.setattr(module, "step", step)


# --- what a freeze is --------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("major", all_versions())
def test_no_data_file_changes_from_freeze_to_thaw_under_load(
    major: int, make_pair: PairFactory, tmp_path: Path
) -> None:
    # Inside the data directory, for two servers of one host would share any other place.
    pair = make_pair(major, settings={"allow_in_place_tablespaces": "on"})
    pair.a.psql("CREATE TABLESPACE elsewhere LOCATION ''")
    # Four times the standby's shared buffers, so that readers push out what is dirty there.
    pair.a.pgbench("-i", "-s", 8, "--tablespace=elsewhere")
    pair.wait_caught_up()
    with load(pair.a), load(pair.b, "-c", 2, "-S"):
        for _ in range(2):
            still = freeze(pair, tmp_path)
            before = digests(pair.b.data)
            time.sleep(1.5)
            pair.b.psql("SELECT count(*), sum(abalance) FROM pgbench_accounts")
            after = digests(pair.b.data)
            assert still.still_held()
            end = still.thaw()
            assert after == before
            assert any("pg_tblspc" in name for name in before)
            assert end.held
            assert 1.5 < end.frozen_seconds < 15
            assert still.end is not None
            assert still.end.stop_lsn == still.position.offset
            assert still.end.start_lsn > still.end.stop_lsn - (64 << 20), "it starts at a checkpoint of just now"
            assert still.last_commit_at is not None
            assert still.thaw() == end
    assert runs_soon(pair)
    assert not marker_path(tmp_path).exists()


def test_an_idle_primary_is_frozen_too(pair: PgPair, tmp_path: Path) -> None:
    time.sleep(0.3)
    for _ in range(3):
        still = freeze(pair, tmp_path)
        assert replay(pair.b) == "paused"
        assert still.thaw().held
        assert still.stop().from_standby
        assert replay(pair.b) == "not paused"


def test_commits_go_on_while_the_passive_is_frozen(pair: PgPair, tmp_path: Path) -> None:
    still = freeze(pair, tmp_path)
    pair.a.psql("CREATE TABLE IF NOT EXISTS meanwhile (n int); INSERT INTO meanwhile VALUES (1)")
    assert still.still_held()
    assert still.thaw().held
    assert runs_soon(pair)
    assert int(pair.b.psql("SELECT count(*) FROM meanwhile")) >= 1


def test_a_restartpoint_that_comes_between_is_noticed(
    pair: PgPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, "pg.pauses.write_marker", lambda: pair.b.psql("CHECKPOINT"))
    taken: list[float] = []

    def take_checkpoint(server: Server, deadline: float) -> prepare.Checkpoint:
        taken.append(deadline)
        return prepare.take_checkpoint(server, deadline)

    monkeypatch.setattr(frozen, "take_checkpoint", take_checkpoint)
    still = freeze(pair, tmp_path)
    assert len(taken) == 2, "the first pause had nothing to restart from, so it was given up"
    assert still.thaw().held
    monkeypatch.setattr(frozen, "last_checkpoint", lambda _: prepare.Checkpoint(1 << 60, 1 << 60))
    with pytest.raises(NotHealthy, match="3 times in turn"):
        freeze(pair, tmp_path)
    assert runs_soon(pair)
    assert not marker_path(tmp_path).exists()


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_moving_copy_is_only_in_backup_mode(pair: PgPair, tmp_path: Path, side: str) -> None:
    copy = copy_of(getattr(pair, side))
    moving = begin_freeze(copy_of(pair.a), copy, PgOptions(), state_dir=tmp_path, label="moving", limit_seconds=5,
                          places=list, moving=True)  # fmt: skip
    assert isinstance(moving, PgMoving)
    assert replay(pair.b) == "not paused"
    assert moving.position.offset > 0
    assert (moving.thaw().frozen_seconds, moving.thaw().held) == (0.0, True)
    end = moving.stop()
    assert end.from_standby == (side == "b")
    assert end.start_lsn < end.stop_lsn


RIGHTS = """
CREATE ROLE backup_admin LOGIN REPLICATION;
GRANT pg_monitor, pg_checkpoint TO backup_admin;
GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_create_restore_point(text),
    pg_switch_wal(), pg_wal_replay_pause(), pg_wal_replay_resume() TO backup_admin;
"""


@pytest.mark.parametrize("major", all_versions())
def test_a_role_with_a_few_rights_can_freeze(major: int, make_pair: PairFactory, tmp_path: Path) -> None:
    pair = make_pair(major)
    pair.a.psql(RIGHTS)
    pair.wait_caught_up()
    a, b = (
        PgCopy(each.name, each.conninfo.replace("user=postgres", "user=backup_admin"), each.data)
        for each in (pair.a, pair.b)
    )
    with connect(a.conninfo, copy="a") as active, connect(b.conninfo, copy="b") as passive:
        prepare.prepare(active, passive, name="backupd", checkpoint=True, seconds_max=20, report=lambda _: None)
    words = {"state_dir": tmp_path, "label": "backupd", "limit_seconds": 20.0, "places": list}
    still = begin_freeze(a, b, PgOptions(), **words)  # type: ignore[arg-type]
    assert still.thaw().held
    suspend(b, tmp_path, "")
    assert pauses.resume_suspended(b, tmp_path)
    pair.a.psql("REVOKE pg_monitor FROM backup_admin; GRANT pg_read_all_settings TO backup_admin")
    pair.wait_caught_up()
    with pytest.raises(BackupdError):
        begin_freeze(a, b, PgOptions(), **words)  # type: ignore[arg-type]
    assert runs_soon(pair)
    assert marker_gone(tmp_path)


# --- refusals ----------------------------------------------------------------


def test_somebody_elses_pause_is_left_alone(pair: PgPair, tmp_path: Path) -> None:
    pair.b.psql("SELECT pg_wal_replay_pause()")
    try:
        assert until(lambda: replay(pair.b) == "paused")
        with pytest.raises(Refused, match="is paused"):
            freeze(pair, tmp_path)
        assert replay(pair.b) == "paused"
        assert recover_pauses(tmp_path, [copy_of(pair.a), copy_of(pair.b)]) == []
        assert replay(pair.b) == "paused"
    finally:
        pair.b.psql("SELECT pg_wal_replay_resume()")


def test_a_suspended_copy_is_not_frozen(pair: PgPair, tmp_path: Path) -> None:
    suspend(copy_of(pair.b), tmp_path, "a disk is being changed")
    with pytest.raises(Refused) as told:
        freeze(pair, tmp_path)
    assert told.value.because == "a disk is being changed"
    assert pauses.resume_suspended(copy_of(pair.b), tmp_path)
    assert runs_soon(pair)


def test_a_second_freeze_waits_its_turn(pair: PgPair, tmp_path: Path) -> None:
    still = freeze(pair, tmp_path)
    with pytest.raises(Busy, match="frozen right now"):
        freeze(pair, tmp_path)
    with pytest.raises(Busy):
        suspend(copy_of(pair.b), tmp_path, "")
    assert recover_pauses(tmp_path, [copy_of(pair.b)]) == []
    assert still.thaw().held


def test_remote_apply_with_this_standby_is_refused_unless_allowed(pair: PgPair, tmp_path: Path) -> None:
    pair.a.set(synchronous_standby_names="b", synchronous_commit="remote_apply")
    try:
        asked = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        assert until(lambda: pair.a.psql(asked) == "1")
        with pytest.raises(Refused, match="would stop commits"):
            freeze(pair, tmp_path)
        still = freeze(pair, tmp_path, options=PgOptions(allow_remote_apply=True, server_seconds_max=20))
        assert still.thaw().held
    finally:
        pair.a.set(synchronous_standby_names="", synchronous_commit="on")


def test_a_primary_is_not_frozen(pair: PgPair, tmp_path: Path) -> None:
    a, b = copy_of(pair.a), copy_of(pair.b)
    with pytest.raises(NotHealthy) as told:
        begin_freeze(b, a, PgOptions(), state_dir=tmp_path, label="swapped", limit_seconds=5, places=list)
    assert told.value.details["role_change"]


# --- ends that nobody wanted --------------------------------------------------


def test_when_the_limit_passes_replay_runs_and_the_freeze_says_so(pair: PgPair, tmp_path: Path) -> None:
    still = freeze(pair, tmp_path, limit_seconds=1.5)
    assert replay(pair.b) == "paused"
    assert runs_soon(pair, 3)
    assert not still.still_held()
    end = still.thaw()
    assert not end.held
    assert 1.4 < end.frozen_seconds < 4
    assert "limit" in still.because
    assert still.end is None
    with pytest.raises(NotHealthy, match="no backup"):
        still.stop()
    assert not marker_path(tmp_path).exists()


def test_a_limit_that_is_too_short_for_anything_leaves_nothing_paused(pair: PgPair, tmp_path: Path) -> None:
    for limit in (0.001, 0.01, 0.03):
        try:
            still = freeze(pair, tmp_path, limit_seconds=limit)
        except BackupdError:
            pass
        else:
            time.sleep(1)
            assert not still.thaw().held
        assert runs_soon(pair)
        assert marker_gone(tmp_path)


def test_somebody_else_who_resumes_breaks_the_freeze(pair: PgPair, tmp_path: Path) -> None:
    still = freeze(pair, tmp_path)
    pair.b.psql("SELECT pg_wal_replay_resume()")
    assert not still.still_held()
    assert not still.thaw().held
    still = freeze(pair, tmp_path)
    pair.a.psql("CREATE TABLE IF NOT EXISTS meanwhile (n int); INSERT INTO meanwhile VALUES (1)")
    pair.b.psql("SELECT pg_wal_replay_resume()")
    pair.wait_caught_up()
    pair.b.psql("SELECT pg_wal_replay_pause()")
    assert until(lambda: replay(pair.b) == "paused")
    assert not still.thaw().held, "it stands, but not where it stood"
    assert runs_soon(pair)


def test_a_killed_guardian_ends_the_freeze(pair: PgPair, tmp_path: Path) -> None:
    still = freeze(pair, tmp_path)
    os.kill(still._guard.pid, signal.SIGKILL)
    assert runs_soon(pair)
    end = still.thaw()
    assert not end.held
    assert "guardian" in still.because
    assert not marker_path(tmp_path).exists()


def test_a_guardian_that_hangs_does_not_keep_replay_frozen(pair: PgPair, tmp_path: Path) -> None:
    still = freeze(pair, tmp_path, limit_seconds=1.0)
    os.kill(still._guard.pid, signal.SIGSTOP)
    assert runs_soon(pair, 8)
    assert not still.thaw().held
    assert marker_gone(tmp_path)


def test_a_killed_run_is_thawed_by_its_guardian(pair: PgPair, tmp_path: Path) -> None:
    with Run(pair, tmp_path) as run:
        assert run.hears()["frozen"]
        run.signal(signal.SIGKILL)
        assert runs_soon(pair)
        assert marker_gone(tmp_path)


def test_a_killed_run_whose_forked_worker_lives_on_is_thawed_too(pair: PgPair, tmp_path: Path) -> None:
    with Run(pair, tmp_path, forks=True) as run:
        assert run.hears()["frozen"]
        run.signal(signal.SIGKILL)
        assert runs_soon(pair)
        assert marker_gone(tmp_path)


def test_a_run_that_hangs_is_thawed_by_the_limit(pair: PgPair, tmp_path: Path) -> None:
    with Run(pair, tmp_path, limit_seconds=2) as run:
        assert run.hears()["frozen"]
        run.signal(signal.SIGSTOP)
        assert runs_soon(pair)
        run.signal(signal.SIGCONT)
        assert run.thaw()["held"] is False


def test_when_both_are_killed_the_next_start_lets_replay_go_on(pair: PgPair, tmp_path: Path) -> None:
    with Run(pair, tmp_path) as run:
        assert run.hears()["frozen"]
        (guardian,) = run.guardians
        for pid in (guardian, run.process.pid):
            os.kill(pid, signal.SIGSTOP)
        for pid in (guardian, run.process.pid):
            os.kill(pid, signal.SIGKILL)
        run.process.wait()
        time.sleep(1)
        assert replay(pair.b) == "paused"
        told = recover_pauses(tmp_path, [copy_of(pair.a), copy_of(pair.b)])
        assert told == ["let replay of b go on, which a run that died had left paused"]
        assert runs_soon(pair)
        assert recover_pauses(tmp_path, [copy_of(pair.a), copy_of(pair.b)]) == []


def test_a_new_freeze_cleans_up_after_a_dead_one(pair: PgPair, tmp_path: Path) -> None:
    with Run(pair, tmp_path) as run:
        assert run.hears()["frozen"]
        (guardian,) = run.guardians
        os.kill(run.process.pid, signal.SIGSTOP)
        os.kill(guardian, signal.SIGKILL)
        os.kill(run.process.pid, signal.SIGKILL)
        run.process.wait()
    still = freeze(pair, tmp_path)
    assert still.thaw().held


SECRET_ENDS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backupd'"
MOMENTS = [
    "pg.freeze.restartpoint",
    "pg.prepare.checkpoint",
    "pg.pauses.write_marker",
    "pg.guard.pause",
    "pg.backup_mode.start",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_freeze_that_loses_all_its_connections_leaves_nothing_paused(
    pair: PgPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    at_step(monkeypatch, moment, lambda: (pair.b.psql(SECRET_ENDS), pair.a.psql(SECRET_ENDS)))
    with pytest.raises(NotHealthy):
        freeze(pair, tmp_path).thaw()
    assert runs_soon(pair)
    assert marker_gone(tmp_path)


def test_connections_lost_while_frozen_end_the_freeze_soon(pair: PgPair, tmp_path: Path) -> None:
    still = freeze(pair, tmp_path)
    pair.b.psql(SECRET_ENDS)
    assert runs_soon(pair)
    assert not still.thaw().held
    still = freeze(pair, tmp_path)
    pair.b.psql(f"SELECT pg_terminate_backend({still._mode.backend_pid})")
    assert runs_soon(pair)
    assert not still.thaw().held
    assert "backup mode is gone" in still.because
    still = freeze(pair, tmp_path)
    pair.b.psql(f"SELECT pg_terminate_backend({still._control.backend_pid})")
    with pytest.raises(NotHealthy, match="lost the connection"):
        still.thaw()
    assert not still.thaw().held
    assert runs_soon(pair)
    assert marker_gone(tmp_path)


@pytest.mark.parametrize("moment", ["pg.backup_mode.stop", "pg.freeze.resume", "pg.pauses.remove_marker"])
def test_a_thaw_that_loses_its_connections_still_thaws(
    pair: PgPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    still = freeze(pair, tmp_path)
    at_step(monkeypatch, moment, lambda: pair.b.psql(SECRET_ENDS))
    held = True
    try:
        held = still.thaw().held
    except NotHealthy:
        held = False
    assert held == (moment != "pg.backup_mode.stop"), "what was stopped before is a good backup"
    assert runs_soon(pair)
    assert marker_gone(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [*MOMENTS, "frozen", "pg.backup_mode.stop", "pg.freeze.resume"])
def test_a_promotion_at_any_moment_ends_as_a_role_change(
    make_pair: PairFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    pair = make_pair()
    copies = [copy_of(pair.a), copy_of(pair.b)]
    at_step(monkeypatch, moment, pair.b.promote)
    still = told = None
    try:
        still = freeze(pair, tmp_path)
        if moment == "frozen":
            pair.b.promote()
        end = still.thaw()
    except NotHealthy as error:
        told = error
    else:
        assert moment == "pg.freeze.resume", "the backup mode had ended before"
        assert end.held
    assert (told is None) == (moment == "pg.freeze.resume")
    assert told is None or told.details.get("role_change"), told
    if still is not None:
        assert still.thaw().held == (moment == "pg.freeze.resume")
    assert until(lambda: replay(pair.b) == "promoted")
    pair.b.psql("CREATE TABLE after_all (n int)")
    assert marker_gone(tmp_path)
    assert recover_pauses(tmp_path, copies) == []


# --- faults at every step ------------------------------------------------------


@pytest.mark.slow
def test_whatever_step_fails_replay_runs_afterwards(pair: PgPair, tmp_path: Path) -> None:
    for number in range(1, STEPS_MAX):
        steps.arm("fail", number, "pg.")
        still = None
        try:
            still = freeze(pair, tmp_path)
            still.thaw()
        except BackupdError:
            pass
        counted = steps.disarm()
        assert runs_soon(pair), f"step {number}"
        assert marker_gone(tmp_path), f"step {number}"
        if counted < number:
            assert still is not None
            assert still.thaw().held
            return
    pytest.fail("it never passed")


@pytest.mark.slow
@pytest.mark.parametrize("action", ["fail", "die"])
def test_whatever_step_of_the_guardian_fails_replay_runs_afterwards(
    pair: PgPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setenv("BACKUPD_FAULT_ROLE", "guardian")
    trace = tmp_path / "trace"
    monkeypatch.setenv("BACKUPD_STEP_TRACE", str(trace))
    for number in range(1, STEPS_MAX):
        monkeypatch.setenv("BACKUPD_FAULT", f"{action}:{number}")
        trace.write_text("")
        # The limit is what makes the guardian do all that it can do.
        with Run(pair, tmp_path, limit_seconds=1) as run:
            if run.hears():
                time.sleep(1.5)
                run.thaw()
            assert runs_soon(pair), f"step {number}"
            assert marker_gone(tmp_path), f"step {number}"
        if len(trace.read_text().splitlines()) < number:
            assert number > 3
            return
    pytest.fail("it never passed")


@pytest.mark.slow
def test_whatever_step_a_run_dies_at_replay_runs_soon_after(
    pair: PgPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [copy_of(pair.a), copy_of(pair.b)]
    for number in range(1, STEPS_MAX):
        with Run(pair, tmp_path, BACKUPD_FAULT=f"die:{number}@pg.", BACKUPD_FAULT_ROLE="run") as run:
            said = run.hears() and run.thaw()
            assert runs_soon(pair), f"step {number}"
            if said:
                assert said["held"]
                return
            run.process.wait(10)
        recover_pauses(tmp_path, copies)
        assert marker_gone(tmp_path), f"step {number}"
        assert replay(pair.b) == "not paused"
    pytest.fail("it never passed")
