"""The marker of a pause, what a later start makes of it, and suspending a copy by a person's word."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupd import steps
from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.pauses import (
    PauseKind,
    PauseMarker,
    marker_path,
    new_marker,
    read_marker,
    recover_pauses,
    remove_marker,
    resume_suspended,
    suspend,
    suspended,
    write_marker,
)
from backupd.engines.postgres.replay_pause import look
from backupd.errors import Busy, InjectedFault, NotHealthy, Refused
from tests.engines.postgres.freezing import copy_of, replay, runs_soon, until
from tests.pg_pairs import PairFactory, a_pair, server_of

NOW = datetime(2026, 11, 22, 6, 0, 0, 123456, tzinfo=UTC)
MARKER = PauseMarker("b", "7000", NOW, PauseKind.FREEZE, NOW, 20.0, "", 1, 1, "no such boot", "feed")


@pytest.fixture(scope="module")
def pair() -> Iterator[PgPair]:
    with a_pair() as pair:
        yield pair


@pytest.fixture(autouse=True)
def _nothing_stays_armed() -> Iterator[None]:
    yield
    steps.disarm()


def dead_freeze(pair: PgPair, state_dir: Path) -> PauseMarker:
    """A pause of replay as a killed run with a killed guardian leaves it."""
    with server_of(pair, "b") as server:
        marker = new_marker(server, "b", look(server), PauseKind.FREEZE, limit_seconds=20)
        marker = dataclasses.replace(marker, pid=1, started_ticks=1)
        write_marker(state_dir, marker)
        server.run("SELECT pg_wal_replay_pause()")
    assert until(lambda: replay(pair.b) == "paused")
    return marker


def test_a_marker_is_read_as_it_was_written_and_is_its_owners(tmp_path: Path) -> None:
    state_dir = tmp_path / "new" / "state"
    assert read_marker(state_dir) is None
    write_marker(state_dir, MARKER)
    assert read_marker(state_dir) == MARKER
    assert marker_path(state_dir).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in state_dir.iterdir()] == ["replay-paused.json"]
    remove_marker(state_dir, "another token")
    assert read_marker(state_dir) == MARKER
    remove_marker(state_dir, "feed")
    remove_marker(state_dir, "feed")
    assert read_marker(state_dir) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "{", '{"copy": "b"}', '{"since": 4, "server_started_at": "x"}'])
def test_a_marker_that_is_no_marker_is_told(tmp_path: Path, text: str) -> None:
    marker_path(tmp_path).write_text(text)
    with pytest.raises(NotHealthy, match="cannot read"):
        read_marker(tmp_path)
    with pytest.raises(NotHealthy):
        recover_pauses(tmp_path, [])


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotHealthy, match="cannot write"):
        write_marker(tmp_path / "file", MARKER)


def test_nothing_is_recovered_where_nothing_is(pair: PgPair, tmp_path: Path) -> None:
    assert recover_pauses(tmp_path, [copy_of(pair.a), copy_of(pair.b)]) == []


def test_what_a_dead_run_left_paused_goes_on(pair: PgPair, tmp_path: Path) -> None:
    dead_freeze(pair, tmp_path)
    (told,) = recover_pauses(tmp_path, [copy_of(pair.a), copy_of(pair.b)])
    assert "let replay of b go on" in told
    assert runs_soon(pair)
    assert read_marker(tmp_path) is None


def test_a_recovery_that_fails_at_any_step_is_done_by_the_next(pair: PgPair, tmp_path: Path) -> None:
    for number in range(1, 20):
        dead_freeze(pair, tmp_path)
        steps.arm("fail", number, "pg.")
        with contextlib.suppress(InjectedFault):
            recover_pauses(tmp_path, [copy_of(pair.b)])
        counted = steps.disarm()
        recover_pauses(tmp_path, [copy_of(pair.b)])
        assert runs_soon(pair), f"step {number}"
        assert read_marker(tmp_path) is None, f"step {number}"
        if counted < number:
            assert number > 3
            return
    pytest.fail("it never passed")


def test_a_pause_that_ended_by_itself_only_leaves_a_marker(pair: PgPair, tmp_path: Path) -> None:
    dead_freeze(pair, tmp_path)
    pair.b.psql("SELECT pg_wal_replay_resume()")
    (told,) = recover_pauses(tmp_path, [copy_of(pair.b)])
    assert "not paused any more" in told
    assert read_marker(tmp_path) is None


@pytest.mark.parametrize(
    "other", [{"system_identifier": "1"}, {"server_started_at": NOW}], ids=["another cluster", "started anew"]
)
def test_the_pause_of_a_server_that_is_not_ours_any_more_is_not_touched(
    pair: PgPair, tmp_path: Path, other: dict[str, object]
) -> None:
    marker = dead_freeze(pair, tmp_path)
    write_marker(tmp_path, dataclasses.replace(marker, **other))  # type: ignore[arg-type]
    recover_pauses(tmp_path, [copy_of(pair.b)])
    assert replay(pair.b) == "paused"
    assert read_marker(tmp_path) is None
    pair.b.psql("SELECT pg_wal_replay_resume()")


def test_a_freeze_of_a_living_process_is_not_touched(pair: PgPair, tmp_path: Path) -> None:
    marker = dead_freeze(pair, tmp_path)
    parent = os.getppid()
    ticks = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19])
    write_marker(tmp_path, dataclasses.replace(marker, pid=parent, started_ticks=ticks))
    assert recover_pauses(tmp_path, [copy_of(pair.b)]) == []
    assert replay(pair.b) == "paused"
    with pytest.raises(Busy):
        suspend(copy_of(pair.b), tmp_path, "")
    write_marker(tmp_path, marker)
    recover_pauses(tmp_path, [copy_of(pair.b)])
    assert runs_soon(pair)


def test_a_server_that_does_not_answer_is_asked_again_later(pair: PgPair, tmp_path: Path) -> None:
    dead_freeze(pair, tmp_path)
    (told,) = recover_pauses(tmp_path, [PgCopy("b", "host=127.0.0.1 port=1", pair.b.data)])
    assert "is not known" in told
    (told,) = recover_pauses(tmp_path, [copy_of(pair.a)])
    assert "no such copy" in told
    assert read_marker(tmp_path) is not None
    assert recover_pauses(tmp_path, [copy_of(pair.b)])
    assert runs_soon(pair)


def test_a_suspension_lasts_until_it_is_taken_back(pair: PgPair, tmp_path: Path) -> None:
    copy = copy_of(pair.b)
    assert not resume_suspended(copy, tmp_path)
    suspend(copy, tmp_path, "a disk is being changed")
    suspend(copy, tmp_path, "and another")
    assert until(lambda: replay(pair.b) == "paused")
    marker = suspended(tmp_path)
    assert marker is not None
    assert marker.comment == "and another"
    assert recover_pauses(tmp_path, [copy]) == []
    assert replay(pair.b) == "paused"
    assert resume_suspended(copy, tmp_path)
    assert runs_soon(pair)
    assert suspended(tmp_path) is None


def test_what_somebody_else_paused_is_neither_suspended_nor_resumed(pair: PgPair, tmp_path: Path) -> None:
    pair.b.psql("SELECT pg_wal_replay_pause()")
    for act in (lambda: suspend(copy_of(pair.b), tmp_path, ""), lambda: resume_suspended(copy_of(pair.b), tmp_path)):
        with pytest.raises(Refused, match="is paused"):
            act()
    assert replay(pair.b) == "paused"
    pair.b.psql("SELECT pg_wal_replay_resume()")


def test_the_active_is_not_suspended(pair: PgPair, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be suspended"):
        suspend(copy_of(pair.a), tmp_path, "")
    assert read_marker(tmp_path) is None


def test_a_suspension_outlives_its_server_and_ends_with_its_role(make_pair: PairFactory, tmp_path: Path) -> None:
    pair = make_pair()
    copy = copy_of(pair.b)
    suspend(copy, tmp_path, "maintenance")
    pair.b.restart()
    assert replay(pair.b) == "not paused"
    (told,) = recover_pauses(tmp_path, [copy])
    assert "again" in told
    assert until(lambda: replay(pair.b) == "paused")
    marker = suspended(tmp_path)
    assert marker is not None
    assert marker.comment == "maintenance"
    pair.b.promote()
    (told,) = recover_pauses(tmp_path, [copy])
    assert "suspended no more" in told
    assert suspended(tmp_path) is None
