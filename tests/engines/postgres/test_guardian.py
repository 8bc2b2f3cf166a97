"""The guardian by itself: what it is told, what it must not show, and whose pause it never ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.connect import Server
from backupd.engines.postgres.guard import Guard
from backupd.engines.postgres.pauses import PauseKind, PauseMarker, marker_path, new_marker, write_marker
from backupd.engines.postgres.replay_pause import look
from backupd.errors import NotHealthy
from tests.engines.postgres.freezing import copy_of, marker_gone, replay, runs_soon, until
from tests.pg_pairs import PairFactory, a_pair, server_of


@pytest.fixture(scope="module")
def pair() -> Iterator[PgPair]:
    with a_pair() as pair:
        yield pair


@pytest.fixture
def control(pair: PgPair) -> Iterator[Server]:
    """A connection that stands for the one which holds the backup mode."""
    with server_of(pair, "b") as server:
        yield server


class Guarded:
    """A guardian, what it has told of itself, and the pause that it guards."""

    def __init__(self, copy: PgCopy, state_dir: Path, control: Server) -> None:
        self.ended: list[str] = []
        self.lost: list[str] = []
        self.control, self.state_dir, self.copy = control, state_dir, copy
        self.guard = Guard(copy, state_dir, on_ended=self.ended.append, on_lost=self.lost.append)

    def pause(self, limit_seconds: float = 30.0) -> PauseMarker:
        marker = new_marker(self.control, self.copy.name, look(self.control), PauseKind.FREEZE,
                            limit_seconds=limit_seconds)  # fmt: skip
        write_marker(self.state_dir, marker)
        self.guard.wait_ready()
        self.guard.pause(marker.token, limit_seconds, self.control.backend_pid)
        assert until(lambda: look(self.control).replay == "paused")
        return marker

    @property
    def gone(self) -> bool:
        return self.guard._process.poll() is not None


@pytest.fixture
def guarded(pair: PgPair, tmp_path: Path, control: Server) -> Iterator[Guarded]:
    found = Guarded(copy_of(pair.b), tmp_path, control)
    yield found
    found.guard.close()
    found.guard._process.kill()
    found.guard._process.wait()
    assert runs_soon(pair)


def test_it_goes_without_a_trace_when_there_was_no_pause(pair: PgPair, guarded: Guarded) -> None:
    guarded.guard.wait_ready()
    # Somebody else's: the guardian was told of none.
    pair.b.psql("SELECT pg_wal_replay_pause()")
    assert until(lambda: replay(pair.b) == "paused")
    guarded.guard.close()
    assert guarded.gone
    time.sleep(0.5)
    assert replay(pair.b) == "paused"
    assert (guarded.ended, guarded.lost) == ([], [])
    pair.b.psql("SELECT pg_wal_replay_resume()")


def test_it_ends_the_pause_when_its_input_closes(pair: PgPair, guarded: Guarded) -> None:
    guarded.pause()
    guarded.guard.abandon()
    assert runs_soon(pair)
    assert until(lambda: guarded.gone)
    assert guarded.ended == ["the run that froze it is gone"]
    assert not marker_path(guarded.state_dir).exists()


def test_told_that_replay_runs_it_touches_nothing(pair: PgPair, guarded: Guarded) -> None:
    guarded.pause(limit_seconds=1.0)
    pair.b.psql("SELECT pg_wal_replay_resume()")
    guarded.guard.disarm()
    pair.b.psql("SELECT pg_wal_replay_pause()")
    time.sleep(1.5)
    guarded.guard.close()
    assert until(lambda: guarded.gone)
    assert replay(pair.b) == "paused", "neither the limit nor the end of its input concerned it"
    assert (guarded.ended, guarded.lost) == ([], [])
    pair.b.psql("SELECT pg_wal_replay_resume()")


def test_it_ends_the_pause_when_the_limit_passes(pair: PgPair, guarded: Guarded) -> None:
    began = time.monotonic()
    guarded.pause(limit_seconds=1.0)
    assert runs_soon(pair, 3)
    assert time.monotonic() - began > 0.9
    assert until(lambda: guarded.ended != [])
    assert guarded.ended == ["the limit of 1 s has passed"]
    assert guarded.lost == []


def test_it_ends_the_pause_when_the_backup_mode_is_lost(pair: PgPair, guarded: Guarded) -> None:
    guarded.pause()
    pair.b.psql(f"SELECT pg_terminate_backend({guarded.control.backend_pid})")
    assert runs_soon(pair)
    assert until(lambda: guarded.ended == ["the connection that held the backup mode is gone"])


def _own_backend(pair: PgPair, control: Server) -> str:
    return pair.b.psql(
        f"SELECT pid FROM pg_stat_activity WHERE application_name = 'backupd' AND pid <> {control.backend_pid}"
    )


def test_it_ends_the_pause_when_its_own_connection_is_lost(pair: PgPair, guarded: Guarded) -> None:
    guarded.pause()
    pair.b.psql(f"SELECT pg_terminate_backend({_own_backend(pair, guarded.control)})")
    assert runs_soon(pair)
    assert until(lambda: guarded.ended != [])
    assert "lost its connection" in guarded.ended[0]


def test_signals_to_a_whole_service_do_not_stop_it(pair: PgPair, guarded: Guarded) -> None:
    guarded.pause()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(guarded.guard.pid, number)
    time.sleep(0.6)
    assert not guarded.gone
    assert replay(pair.b) == "paused"
    guarded.guard.abandon()
    assert runs_soon(pair)


def test_its_death_is_noticed(pair: PgPair, guarded: Guarded) -> None:
    guarded.pause()
    os.kill(guarded.guard.pid, signal.SIGKILL)
    assert until(lambda: guarded.lost == ["the guardian of the freeze died"])
    assert replay(pair.b) == "paused", "that is for the run to end"
    pair.b.psql("SELECT pg_wal_replay_resume()")


def test_the_marker_of_another_pause_is_not_its_own(pair: PgPair, guarded: Guarded) -> None:
    guarded.guard.wait_ready()
    write_marker(guarded.state_dir, new_marker(guarded.control, "b", look(guarded.control), PauseKind.SUSPEND))
    with pytest.raises(NotHealthy):
        guarded.guard.pause("another token", 5.0, guarded.control.backend_pid)
    assert replay(pair.b) == "not paused"
    assert marker_path(guarded.state_dir).exists()


def test_no_password_is_in_its_command_line(make_pair: PairFactory, tmp_path: Path) -> None:
    pair = make_pair()
    secret = "correct_horse"
    conninfo = pair.a.add_password_user("backup_admin", secret, options="LOGIN SUPERUSER")
    pair.wait_caught_up()
    pair.b.ask_password_of("backup_admin")
    guard = Guard(PgCopy("b", conninfo.replace(str(pair.a.port), str(pair.b.port)), pair.b.data), tmp_path,
                  on_ended=print, on_lost=print)  # fmt: skip
    try:
        guard.wait_ready()
        shown = Path(f"/proc/{guard.pid}/cmdline").read_bytes()
        assert b"guardian" in shown
        assert secret.encode() not in shown
        assert secret.encode() not in Path(f"/proc/{guard.pid}/environ").read_bytes()
    finally:
        guard.close()


def test_a_password_that_the_run_has_in_its_environment_is_enough(
    make_pair: PairFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make_pair()
    pair.a.add_password_user("backup_admin", "correct_horse", options="LOGIN SUPERUSER")
    pair.wait_caught_up()
    pair.b.ask_password_of("backup_admin")
    copy = PgCopy("b", f"host=127.0.0.1 port={pair.b.port} user=backup_admin", pair.b.data)
    for password, enough in (("wrong", False), ("correct_horse", True)):
        monkeypatch.setenv("PGPASSWORD", password)
        guard = Guard(copy, tmp_path, on_ended=print, on_lost=print)
        try:
            guard.wait_ready()
            assert enough
        except NotHealthy as told:
            assert not enough
            assert "password" in told.because  # noqa: PT017
        finally:
            guard.close()


def test_a_server_that_started_anew_has_no_pause_of_ours(make_pair: PairFactory, tmp_path: Path) -> None:
    pair = make_pair()
    with server_of(pair, "b") as control:
        guarded = Guarded(copy_of(pair.b), tmp_path, control)
        guarded.pause()
        # It must not get in before the other's pause is there.
        os.kill(guarded.guard.pid, signal.SIGSTOP)
        pair.b.restart()
        assert replay(pair.b) == "not paused"
        pair.b.psql("SELECT pg_wal_replay_pause()")
        os.kill(guarded.guard.pid, signal.SIGCONT)
        assert until(lambda: guarded.gone)
        assert marker_gone(tmp_path)
        assert until(lambda: replay(pair.b) == "paused"), "somebody else's"
        time.sleep(0.5)
        assert replay(pair.b) == "paused"


@pytest.mark.slow
def test_it_tries_until_the_server_answers_again(make_pair: PairFactory, tmp_path: Path) -> None:
    pair = make_pair()
    with server_of(pair, "b") as control:
        guarded = Guarded(copy_of(pair.b), tmp_path, control)
        guarded.pause()
        pair.b.freeze_process(frozen=True)
        guarded.guard._process.stdin.close()  # type: ignore[union-attr]
        time.sleep(9)
        assert not guarded.gone
        pair.b.freeze_process(frozen=False)
        assert until(lambda: guarded.gone, 15)
        assert runs_soon(pair)
        assert marker_gone(tmp_path)


def test_a_pause_that_the_server_does_not_take_is_told(make_pair: PairFactory, tmp_path: Path) -> None:
    pair = make_pair()
    with server_of(pair, "b") as control:
        guarded = Guarded(copy_of(pair.b), tmp_path, control)
        guarded.guard.wait_ready()
        marker = PauseMarker("b", "1", datetime.now(UTC), PauseKind.FREEZE, datetime.now(UTC), 5.0, "", os.getpid(),
                             0, "", "0123")  # fmt: skip
        write_marker(tmp_path, marker)
        pair.b.promote()
        with pytest.raises(NotHealthy, match="roles changed") as told:
            guarded.guard.pause("0123", 5.0, control.backend_pid)
        assert told.value.details["role_change"]
        assert until(lambda: guarded.gone)
        assert marker_gone(tmp_path)
        guarded.guard.close()
