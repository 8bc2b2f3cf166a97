"""What people and disks do wrong: three lines, the status of the design, and nothing lost."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.demo.postgres_server import PgServer
from tests.faults.pg_house import BrokenHome, broken_home
from tests.faults.pg_processes import three_lines
from tests.faults.test_postgres_runs import FULL, INCREMENTAL

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def shared() -> Iterator[BrokenHome]:
    with broken_home("live") as home:
        home.forked_ok(*FULL)
        yield home


@contextlib.contextmanager
def _policy(home: BrokenHome, old: str, new: str) -> Iterator[None]:
    """The policy with a mistake in it, for a while."""
    text = home.home.policy.read_text(encoding="utf-8")
    assert old in text, text
    home.home.policy.write_text(text.replace(old, new), encoding="utf-8")
    try:
        yield
    finally:
        home.home.policy.write_text(text, encoding="utf-8")


def _refused(home: BrokenHome, *statuses: int, word: str, words: tuple[str, ...] = INCREMENTAL) -> None:
    told = three_lines(home.forked(*words), *statuses)
    assert word in " ".join(told), told
    home.archive_is_whole(word)


def test_a_wrong_password(shared: BrokenHome) -> None:
    server = shared.home.pair.passive
    shared.home.pair.active.psql("CREATE ROLE keeper SUPERUSER LOGIN PASSWORD 'right'")
    shared.home.pair.wait_caught_up()
    server.ask_password_of("keeper")
    secret = shared.home.root / "passwords"
    secret.write_text("*:*:*:keeper:wrong-one\n")
    secret.chmod(0o600)
    with _policy(shared, server.conninfo, f"host=127.0.0.1 port={server.port} user=keeper passfile={secret}"):
        _refused(shared, 3, word="password")
        answer = shared.forked(*INCREMENTAL)
        assert "wrong-one" not in answer.out + answer.err
        secret.write_text("*:*:*:keeper:right\n")
        shared.goes_on("the right password", restore=False)


def test_a_data_directory_of_another_cluster(shared: BrokenHome) -> None:
    like = shared.home.pair.a
    stranger = PgServer("c", shared.home.root / "c", like.bin_directory, like.sockets, like.person)
    stranger.initialize(checksums=True, settings={})
    with _policy(shared, str(shared.home.pair.passive.data), str(stranger.data)):
        for words in (INCREMENTAL, FULL):
            _refused(shared, 3, word=str(stranger.data), words=words)
    shared.goes_on("the right directory", restore=False)


def test_a_data_directory_that_is_not_there(shared: BrokenHome) -> None:
    with _policy(shared, str(shared.home.pair.passive.data), "/nowhere/data"):
        _refused(shared, 3, 7, word="/nowhere/data", words=FULL)


def test_the_two_data_directories_swapped(shared: BrokenHome) -> None:
    a, b = (str(server.data) for server in shared.home.pair.servers)
    text = shared.home.policy.read_text(encoding="utf-8")
    swapped = text.replace(a, "@").replace(b, a).replace("@", b)
    with _policy(shared, text, swapped):
        _refused(shared, 3, word="data_directory")
        _refused(shared, 3, word="data_directory", words=FULL)
    shared.goes_on("put right", restore=False)


@pytest.mark.slow
def test_an_archive_of_another_pair_is_not_written_to(shared: BrokenHome) -> None:
    with broken_home("live") as other, _policy(other, str(other.home.archive), str(shared.home.archive)):
        _refused(other, 4, word="orders", words=FULL)
    shared.goes_on("untouched", restore=False)


def test_a_file_that_cannot_be_read(shared: BrokenHome) -> None:
    """As root nothing is unreadable; a link that leads nowhere is."""
    passive = shared.home.pair.passive
    where = passive.data / "base" / "5" / "999999"
    where.symlink_to("/nowhere/at-all")
    try:
        answer = shared.forked(*FULL)
        if answer.status != 0:
            told = three_lines(answer, 3, 7)
            assert "999999" in " ".join(told), told
    finally:
        where.unlink()
    shared.goes_on("the file is gone", restore=False)


def test_a_directory_that_is_not_empty(shared: BrokenHome) -> None:
    target = shared.home.root / "full" / "data"
    shared.home.pair.a.person.own(target.parent)
    shared.home.pair.a.person.own(target)
    (target / "precious").write_text("mine")
    three_lines(shared.forked("restore", "orders", "--target", str(target), "--yes"), 4)
    assert (target / "precious").read_text() == "mine"
    assert [each.name for each in target.iterdir()] == ["precious"]
    for server in shared.home.pair.servers:
        answer = shared.forked("restore", "orders", "--target", str(server.data), "--yes")
        three_lines(answer, 2, 4)
    shared.goes_on("nothing was written over", restore=False)


def test_a_version_out_of_range(shared: BrokenHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says that it is of a version that nobody has tried."""
    from backupd.engines.postgres import connect

    monkeypatch.setattr(connect.Server, "version_number", property(lambda _: 130012))
    _refused(shared, 3, 4, 7, word="13")


# --- full disks -----------------------------------------------------------------------


@contextlib.contextmanager
def _small_disk(at: Path, mebibytes: int) -> Iterator[Path]:
    at.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=755", "tmpfs", str(at)]
    mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this machine cannot mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["live", "paused"])
def test_an_archive_that_fills_up_on_the_way(kind: str) -> None:
    with broken_home(kind) as home:
        home.home.pair.active.psql(
            "CREATE TABLE noise AS SELECT md5(i::text || random()) FROM generate_series(1, 300000) i"
        )
        home.home.pair.wait_caught_up()
        with _small_disk(home.home.archive, 8) as disk:
            told = three_lines(home.forked(*FULL), 8)
            assert "space" in " ".join(told).lower(), told
            home.replays("archive full")
            home.archive_is_whole("archive full")
            subprocess.run(["mount", "-o", "remount,size=300m", str(disk)], check=True)
            home.goes_on("there is room")


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("mebibytes", [16, 48])
def test_a_restore_onto_a_disk_that_is_too_small(shared: BrokenHome, mebibytes: int) -> None:
    with _small_disk(shared.home.root / "small", mebibytes) as disk:
        shared.home.pair.a.person.own(disk)
        target = disk / "data"
        told = three_lines(shared.forked("restore", "orders", "--target", str(target), "--yes"), 7)
        assert str(disk) in " ".join(told), told
        assert not target.exists() or not list(target.iterdir())
    shared.goes_on("a restore failed", restore=False)
