"""A PostgreSQL pair of which only the archive is left: restored, looked at on a socket, and a standby made of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loop_mounts import bound
from tests.stories.home import Answer, eventually, three_lines
from tests.stories.pg_home import ROOT, PgHome, pg_home

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def home() -> Iterator[PgHome]:
    with pg_home(16, scale=1) as made:
        made.backup("full")
        made.pair.active.psql("CREATE TABLE told AS SELECT generate_series(1, 100) AS n")
        made.backup("incremental")
        yield made


def command(home: PgHome, *words: str) -> list[str]:
    source = ("restore", "--from", str(home.archive), "--bin-directory", str(home.pair.a.bin_directory))
    return [sys.executable, "-m", "backupd.cli.main", *source, *words]


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"}


def bare(home: PgHome, *words: str) -> Answer:
    done = subprocess.run(
        command(home, *words), env=environment(), capture_output=True, text=True, check=False, cwd="/", timeout=300
    )
    answer = Answer(words, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in answer.err, answer.told()
    return answer


@pytest.fixture
def target(home: PgHome) -> Iterator[Path]:
    place = home.root / "look" / "data"
    home.pair.a.person.own(place.parent)
    yield place
    shutil.rmtree(place.parent, ignore_errors=True)


@pytest.mark.slow
def test_it_is_restored_opened_on_a_private_socket_and_stopped(home: PgHome, target: Path) -> None:
    server = subprocess.Popen(
        command(home, "--target", str(target), "--open"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        eventually("the restored server to be open", (target / ".s.PGSQL.5432").exists, 240)
        time.sleep(1)
        psql = [
            str(home.pair.a.bin_directory / "psql"),
            "-h",
            str(target),
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-At",
            "-c",
        ]
        counted = subprocess.run([*psql, "SELECT count(*) FROM told"], capture_output=True, text=True, check=True)
        assert counted.stdout.strip() == "100"
        listens = subprocess.run([*psql, "SHOW listen_addresses"], capture_output=True, text=True, check=True)
        assert listens.stdout.strip() == "", "nothing listens on TCP"
        changed = subprocess.run([*psql, "DELETE FROM told"], capture_output=True, text=True, check=False)
        assert "read-only transaction" in changed.stderr
        assert (target.stat().st_mode & 0o077) == 0
    finally:
        server.send_signal(signal.SIGINT)
        said = server.communicate(timeout=60)
    assert server.returncode == 0, said
    assert "pg_dump" in said[0]
    assert not (target / "postmaster.pid").exists()
    assert "nothing runs there" in bare(home, "--target", str(target), "--stop").out


@pytest.mark.slow
def test_a_host_without_its_programs_says_which_version_before_anything_is_fetched(home: PgHome, target: Path) -> None:
    answer = bare(home, "--target", str(target), "--bin-directory", "/usr/bin")
    assert answer.status == 7, answer.told()
    problem, _, next_step = three_lines(answer)
    assert "PostgreSQL 16" in problem
    assert "--bin-directory" in next_step
    assert not list(target.glob("*")), "what was begun is undone"


@pytest.mark.slow
def test_the_passive_is_no_target_by_any_name(home: PgHome, target: Path) -> None:
    passive = home.pair.passive.data
    link = home.root / "link"
    link.symlink_to(passive)
    for name in (home.pair.passive.name, str(passive), str(passive / "base"), str(link), str(link / "new")):
        answer = home.refused(4, "restore", "orders", "--target", name, "--yes")
        assert "passive copy" in answer.err
    with bound(passive, home.root / "bound") as place:
        for below in (place, place / "base"):
            assert "passive copy" in home.refused(4, "restore", "orders", "--target", str(below), "--yes").err
    del target


@pytest.mark.slow
def test_the_plan_counts_the_transactions_that_would_be_lost(home: PgHome) -> None:
    for number in range(3):
        home.pair.active.psql(f"INSERT INTO told VALUES ({number})")
    plan = home.ok("restore", "orders", "--dry-run", "--json").json
    [said] = [sentence for sentence in plan["lost"] if "transactions" in sentence]
    assert int(said.split()[0]) >= 3
    assert plan["good_before"]["backup"] != plan["good_after"]


@pytest.mark.slow
def test_a_standby_is_made_from_the_archive_alone(home: PgHome) -> None:
    answer = home.ok("copy", "seed", "orders", "--from", "archive")
    assert "seeded from the archive" in answer.out
    assert "healthy" in answer.out
    home.pair.wait_streaming()
    kept = home.archive.with_name("away")
    home.archive.rename(kept)
    try:
        failed = home.run("copy", "seed", "orders", "--from", "archive")
        assert failed.status == 8, failed.told()
    finally:
        kept.rename(home.archive)
    home.pair.wait_streaming()
