"""The servers of the demo run as a user who is not root, and touch nobody's home."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.demo.postgres_binaries import Person, choose_binaries, within_reach
from backupd.demo.postgres_servers import PgPair
from backupd.errors import NotHealthy
from tests.pg_pairs import a_pair


@pytest.fixture
def closed() -> Iterator[Path]:
    """A directory that lets only us through."""
    directory = Path(tempfile.mkdtemp(prefix="pgt-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.root
def test_what_is_closed_is_opened_only_in_the_scratch_directory(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Person().own(closed / "here")
    assert mode(closed) == 0o701
    assert (mode(closed / "here"), (closed / "here").stat().st_uid) == (0o700, Person().uid)
    closed.chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    with pytest.raises(NotHealthy, match=f"cannot run below {closed}") as refused:
        PgPair.start(closed / "there")
    assert "/var/tmp" in refused.value.next_step
    assert mode(closed) == 0o700


@pytest.mark.root
def test_programs_in_somebodys_home_are_copied_with_their_libraries(closed: Path, tmp_path: Path) -> None:
    programs = closed / "site" / "wheel" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (closed / "site" / "wheel.libs").mkdir()
    (closed / "site" / "wheel.libs" / "libpq.so").touch()
    (programs / "initdb").write_text("#!/bin/sh\ncat $(dirname $0)/../../../wheel.libs/libpq.so\n")
    (programs / "initdb").chmod(0o755)
    beside = Path(tempfile.mkdtemp(prefix="pgt-", dir="/tmp"))
    try:
        Person().own(beside)
        found = within_reach(Person(), programs, beside)
        assert found == beside / "programs" / "wheel" / "pginstall" / "bin"
        assert within_reach(Person(), programs, beside) == found
        closed.chmod(0o755)
        assert within_reach(Person(), programs, beside) == programs
    finally:
        shutil.rmtree(beside)


def test_a_version_that_is_not_there_is_told() -> None:
    with pytest.raises(NotHealthy, match="no PostgreSQL 9 to start") as missing:
        choose_binaries(9)
    assert "pip install" in missing.value.next_step


@pytest.mark.real
def test_a_pair_streams_fails_over_and_leaves_nothing_behind() -> None:
    with a_pair() as pair:
        assert (pair.active.name, pair.passive.name) == ("a", "b")
        pair.active.pgbench("-i", "-s", 1, "-q")
        pair.active.pgbench("-c", 2, "-t", 50)
        pair.wait_caught_up()
        assert len(set(pair.passive.pgbench_sums())) == 1
        pair.fail_over(kill=True)
        assert (pair.active.name, pair.a.pid) == ("b", None)
        pair.seed(pair.passive, pair.active)
        pair.wait_caught_up()
        assert pair.passive.name == "a"
        processes = [server.pid for server in pair.servers]
        directory = pair.directory
        assert all(os.stat(f"/proc/{pid}").st_uid != 0 for pid in processes)
    assert not directory.exists()
    assert [server.pid for server in pair.servers] == [None, None]


@pytest.mark.slow
@pytest.mark.real
def test_a_pair_that_is_struck_leaves_no_shared_memory() -> None:
    with a_pair() as pair:
        kept = {int((server.data / "postmaster.pid").read_text().splitlines()[6].split()[1]) for server in pair.servers}
        assert kept <= shared_memory()
        pair.passive.freeze_process(frozen=True)
    assert not kept & shared_memory()


def shared_memory() -> set[int]:
    return {int(line.split()[1]) for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}
