"""Starting, stopping and finding a real server, and what is said when it cannot be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.binaries import find_binaries, major_of, version_of
from backupd.engines.postgres.control_file import CONTROL_PATH, ClusterState, read_control
from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.postmaster import complaint, find_postmaster, find_strangers, log_file_of
from backupd.engines.postgres.server_control import PgControl, plain_environment
from backupd.errors import NotHealthy
from tests.pg_pairs import PairFactory, all_versions, bin_directory

pytestmark = pytest.mark.real


@pytest.mark.parametrize("major", all_versions())
def test_a_server_stops_and_starts_with_its_options(major: int, make_pair: PairFactory) -> None:
    with_pair = make_pair(major, standby=False)
    server = with_pair.a
    control = PgControl(server.data, bin_directory=server.bin_directory)
    assert control.major == major
    running = control.postmaster()
    assert running is not None
    assert running.ready
    assert running.port == server.port
    assert log_file_of(running) == server.home / "server.log"
    assert read_control(server.data / CONTROL_PATH).state is ClusterState.IN_PRODUCTION
    assert control.stop()
    assert not control.stop()
    assert read_control(server.data / CONTROL_PATH).state is ClusterState.SHUTDOWNED
    started = control.start(["-c", "work_mem=5MB", "-c", 'cluster_name=it\'s "a $HOME" name'], seconds_max=60)
    assert started is not None
    assert server.psql("SHOW work_mem") == "5MB"
    assert server.psql("SHOW cluster_name") == 'it\'s "a $HOME" name'
    assert control.start_options() == ["-c", "work_mem=5MB", "-c", 'cluster_name=it\'s "a $HOME" name']
    assert control.stop("immediate")


def test_the_programs_are_found_by_the_servers_own_words(pg_pair: PgPair) -> None:
    server = pg_pair.a
    assert find_binaries(server.major, chosen=server.bin_directory) == server.bin_directory
    assert version_of(find_binaries(server.major, data_directory=server.data) / "postgres") == server.major
    assert version_of(PgControl(server.data).bin_directory() / "postgres") == server.major


def test_programs_of_another_version_are_named(pg_pair: PgPair) -> None:
    with pytest.raises(NotHealthy) as caught:
        find_binaries(99, chosen=pg_pair.a.bin_directory)
    assert f"version {pg_pair.a.major}" in caught.value.because
    with pytest.raises(NotHealthy, match="were not found"):
        find_binaries(99)


def test_a_directory_without_a_cluster_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotHealthy, match="is not the data directory"):
        major_of(tmp_path)
    (tmp_path / "PG_VERSION").write_text("sixteen\n")
    with pytest.raises(NotHealthy, match="is not the data directory"):
        major_of(tmp_path)


def test_a_stale_pid_file_is_no_server(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n0\n5432\n/tmp\n\n0 0\nready\n")
    assert find_postmaster(tmp_path) is None
    (tmp_path / "postmaster.pid").write_text("rubbish")
    assert find_postmaster(tmp_path) is None


def test_a_running_server_has_no_strangers(pg_pair: PgPair) -> None:
    assert find_strangers(pg_pair.a.data) == ()


def test_a_server_that_cannot_start_says_why(make_pair: PairFactory) -> None:
    pair = make_pair(standby=False)
    control = PgControl(pair.a.data, bin_directory=pair.a.bin_directory)
    control.stop()
    with pytest.raises(NotHealthy, match="did not start") as caught:
        control.start(["-c", "shared_buffers=nonsense"], seconds_max=20)
    assert "shared_buffers" in caught.value.because
    shutil.rmtree(pair.a.data / "global")
    with pytest.raises(NotHealthy, match="did not start") as caught:
        control.start(seconds_max=20)
    assert "pg_control" in caught.value.because


def test_a_promotion_and_a_reload(make_pair: PairFactory) -> None:
    pair = make_pair()
    control = PgControl(pair.b.data, bin_directory=pair.b.bin_directory)
    control.reload()
    control.promote()
    for _ in range(200):
        if pair.b.psql("SELECT pg_is_in_recovery()") == "f":
            break
    with pytest.raises(NotHealthy, match="was not promoted"):
        control.promote()


def test_another_users_server_needs_that_user(pg_pair: PgPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(NotHealthy, match="cannot be started") as caught:
        Owner.of(pg_pair.a.data).run_as()
    assert "12345" in caught.value.because


def test_nothing_of_our_environment_changes_how_programs_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGDATA", "/elsewhere")
    monkeypatch.setenv("LC_MESSAGES", "de_DE.UTF-8")
    found = plain_environment({"PGPASSWORD": "x"})
    assert "PGDATA" not in found
    assert "LC_MESSAGES" not in found
    assert found["LC_ALL"] == "C"
    assert found["PGPASSWORD"] == "x"


def test_a_control_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pg_control"
    with pytest.raises(NotHealthy, match="cannot be read"):
        read_control(path)
    path.write_bytes(b"short")
    with pytest.raises(NotHealthy, match="cannot be read"):
        read_control(path)
    path.write_bytes(b"\xff" * 8192)
    with pytest.raises(NotHealthy, match="cannot be read"):
        read_control(path)


def test_the_last_complaint_of_a_log_is_told() -> None:
    log = "LOG:  starting\n2026-01-01 [7] FATAL:  first\nLOG:  x\nPANIC:  it is over\n"
    assert complaint(log) == "it is over"
    assert complaint("LOG:  fine\n") == ""


def test_a_version_that_is_asked_of_nothing_is_none(tmp_path: Path) -> None:
    assert version_of(tmp_path / "postgres") is None
    assert version_of(Path("/bin/true")) is None
    assert version_of(bin_directory() / "postgres") is not None
