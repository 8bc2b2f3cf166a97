"""Bad input and a bad world: three lines with their status, nothing lost, and the same command works afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stories.home import Home, digest, eventually, home, sums_of


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with home(tmp_path_factory.mktemp("bad")) as made:
        made.up()
        made.backup("full")
        yield made


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Home]:
    """A new installation without a database and without a service."""
    with home(tmp_path / "home", rows=50) as made:
        made.init()
        yield made


# --- the database ---------------------------------------------------------------------


def test_a_database_that_is_missing(fresh: Home) -> None:
    problem, because, next_step = fresh.fails(5, "backup", "orders", "--type", "full")
    assert problem == f"no database at {fresh.active}"
    assert because == "the file does not exist"
    assert next_step
    assert not fresh.active.exists(), "the missing database was made"
    row = fresh.ok("status", "--json").json["databases"][0]
    assert row["copies"][0]["state"] == "missing"
    fresh.create()
    fresh.backup("full")


def test_a_database_that_is_not_in_wal_mode(fresh: Home) -> None:
    with fresh.connected() as database:
        database.execute("CREATE TABLE ledger(id INTEGER PRIMARY KEY, amount INTEGER, body BLOB)")
        database.execute("INSERT INTO ledger VALUES (1, 7, NULL)")
    before = digest(fresh.active)
    problem, because, next_step = fresh.fails(7, "backup", "orders", "--type", "full")
    assert problem == f"cannot capture {fresh.active}"
    assert "not in WAL mode" in because
    assert digest(fresh.active) == before
    # The next step is a command that helps.
    assert subprocess.run(["sh", "-c", next_step], check=False, capture_output=True).returncode == 0
    fresh.backup("full")
    fresh.ok("restore", "orders", "--target", str(fresh.root / "out"))
    assert sums_of(fresh.root / "out" / "app.db") == (1, 7)


def test_a_file_that_is_no_database(fresh: Home) -> None:
    fresh.active.write_bytes(b"nothing of the kind" * 100)
    _, because, _ = fresh.fails(7, "backup", "orders", "--type", "full")
    assert because == "it is not an SQLite database"


@pytest.mark.slow
def test_a_database_that_another_program_holds_exclusively(fresh: Home) -> None:
    fresh.create()
    with fresh.program("PRAGMA locking_mode=EXCLUSIVE", "INSERT INTO ledger(amount) VALUES (5)"):
        problem, because, next_step = fresh.fails(7, "backup", "orders", "--type", "full")
        assert problem == f"cannot capture {fresh.active}"
        assert "another program holds it locked" in because
        assert "locking_mode=NORMAL" in next_step
    fresh.backup("full")
    fresh.ok("restore", "orders", "--target", str(fresh.root / "out"))
    assert sums_of(fresh.root / "out" / "app.db") == (51, 50 * 51 // 2 + 5)


@pytest.mark.slow
def test_the_service_takes_a_bad_database_up_when_it_becomes_good(fresh: Home) -> None:
    fresh.start_service()
    eventually("the service to say so", lambda: f"no database at {fresh.active}" in fresh.service_log())
    fresh.create()
    fresh.wait_same()
    assert "Traceback" not in fresh.service_log()


# --- somebody uses the active ---------------------------------------------------------


def test_a_restore_while_a_program_has_the_file_open(pair: Home) -> None:
    entry = pair.commit()
    pair.wait_replayed()
    before = digest(pair.passive)
    with pair.program() as program:
        problem, because, next_step = pair.fails(4, "restore", "orders", "--yes")
        assert problem == f"{pair.active} is in use"
        assert f"(pid {program.pid})" in because
        assert f"(pid {program.pid})" in next_step
        assert "restore.stop_command" in next_step
        planned = pair.ok("restore", "orders", "--dry-run", "--json").json
        assert [user["pid"] for user in planned["users"]] == [program.pid]
        assert planned["blockers"]
        with pair.connected() as database:
            assert database.execute("SELECT count(*) FROM ledger").fetchone() == (entry.rows,)
    assert pair.leftovers() == []
    pair.wait_same()
    assert digest(pair.passive) == before


APPLICATION = """
import os, signal, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
ending = []
signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
open(sys.argv[2], "w").write(str(os.getpid()))
while not ending:
    connection.execute("INSERT INTO ledger(amount) VALUES (1)")
    time.sleep(0.02)
connection.close()
os.unlink(sys.argv[2])
"""
STOP = 'kill $(cat "$1") && while [ -e "$1" ]; do sleep 0.05; done'
START = '"$1" "$2" "$3" "$4" >/dev/null 2>&1 </dev/null & while [ ! -e "$4" ]; do sleep 0.05; done'


@pytest.mark.slow
def test_the_policys_commands_free_the_file_and_start_the_application_again(pair: Home, tmp_path: Path) -> None:
    program, pid = tmp_path / "application.py", tmp_path / "application.pid"
    program.write_text(APPLICATION)
    stop = ["sh", "-c", STOP, "stop", str(pid)]
    start = ["sh", "-c", START, "start", sys.executable, str(program), str(pair.active), str(pid)]
    entry = pair.commit()
    pair.backup()
    with pair.policy_with(more=_toml(stop, start)):
        subprocess.run(start, check=True)
        first = int(pid.read_text())
        try:
            answer = pair.ok("restore", "orders", "--to", entry.position, "--yes")
            assert "was not started" not in answer.out
            eventually("the application to run again", pid.exists)
            second = int(pid.read_text())
            assert second != first
            assert not Path(f"/proc/{first}").exists() or b"application.py" not in _command(first)
            with pair.connected() as database:
                rows, total = database.execute("SELECT count(*), sum(amount) FROM ledger").fetchone()
                # The application of before wrote rows that are gone; that of now writes on after the restored ones.
                assert rows >= entry.rows
                assert total - entry.total == rows - entry.rows
        finally:
            subprocess.run(stop, check=False)
    pair.wait_same()
    pair.backup("full")


def _toml(stop: list[str], start: list[str]) -> str:
    return f"\n[restore]\nstop_command = {json.dumps(stop)}\nstart_command = {json.dumps(start)}\n"


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@pytest.mark.slow
def test_a_stop_command_that_fails_and_one_that_does_not_help(pair: Home) -> None:
    with pair.program() as program:
        for command, status in ((["false"], 7), (["true"], 4), (["/no/such/program"], 7)):
            with pair.policy_with(more=_toml(command, ["true"])):
                problem, because, next_step = pair.fails(status, "restore", "orders", "--yes")
                assert all((problem, because, next_step))
                assert status != 4 or f"(pid {program.pid})" in because
    assert pair.leftovers() == []
    pair.wait_same()


# --- the archive ------------------------------------------------------------------------


@pytest.mark.slow
def test_an_archive_directory_that_is_away(pair: Home) -> None:
    away = pair.archive.with_name("unmounted")
    pair.archive.rename(away)
    try:
        for words in (["backup", "orders", "--type", "full"], ["list"], ["verify"], ["restore", "orders", "--yes"]):
            problem, _, next_step = pair.fails(8, *words)
            assert problem == f"the archive {pair.archive} is not there", words
            assert next_step
        assert not pair.archive.exists(), "an archive that is only unmounted was made anew"
        alarms = pair.ok("status", "--json").json["databases"][0]["alarms"]
        assert any(str(pair.archive) in alarm for alarm in alarms)
    finally:
        if pair.archive.exists():
            shutil.rmtree(pair.archive)
        away.rename(pair.archive)
    pair.backup()
    pair.wait_same()


def test_an_archive_whose_disk_is_not_mounted(pair: Home) -> None:
    away = pair.archive.with_name("unmounted")
    pair.archive.rename(away)
    pair.archive.mkdir(mode=0o700)
    try:
        problem, because, next_step = pair.fails(8, "backup", "orders", "--type", "full")
        assert problem == f"the archive file://{pair.archive} is empty now"
        assert "not mounted" in because
        assert "mount it" in next_step
        assert list(pair.archive.iterdir()) == []
        assert all(pair.fails(5, "restore", "orders", "--yes"))
    finally:
        shutil.rmtree(pair.archive)
        away.rename(pair.archive)
    pair.backup()


@pytest.mark.slow
def test_an_archive_of_another_database(pair: Home, tmp_path: Path) -> None:
    with home(tmp_path / "other", rows=10) as other:
        other.create()
        other.archive = pair.archive
        other.init()
        before = {path: path.stat().st_mtime_ns for path in pair.objects()}
        problem, because, next_step = other.fails(4, "backup", "orders", "--type", "full")
        assert all((problem, because, next_step))
        assert "another database" in problem + because
        # With a retention of its own it would have pruned what is not its own.
        for words in (("prune", "orders", "--yes"), ("prune", "orders", "--dry-run")):
            assert "another database" in "".join(other.fails(4, *words))
        assert {path: path.stat().st_mtime_ns for path in pair.objects()} == before
        other.policy.write_text(other.policy.read_text().replace(str(pair.archive), str(tmp_path / "own")))
        other.backup("full")
        other.archive = tmp_path / "own"


def test_an_archive_without_permission(pair: Home) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    pair.archive.chmod(0)
    try:
        problem, because, _ = pair.fails(8, "backup", "orders", "--type", "full")
        assert str(pair.archive) in problem
        assert "ermission" in because
    finally:
        pair.archive.chmod(0o700)
    pair.backup()


# --- the policy ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("= = not TOML", "it is not TOML"),
        ("archiv =", "did you mean archive?"),
        ("keep_day =", "did you mean retention.keep_days?"),
        ("\0\1\2", "it is not TOML"),
    ],
    ids=["not-toml", "unknown-key", "unknown-key-in-a-table", "garbage"],
)
def test_a_policy_that_cannot_be_used(pair: Home, text: str, says: str) -> None:
    before = pair.policy.read_text()
    right = {"archiv =": "archive =", "keep_day =": "keep_days ="}.get(text, "database =")
    pair.policy.write_text(before.replace(right, text))
    try:
        for words in (["backup", "orders", "--type", "full"], ["status"], ["policy", "check"]):
            problem, because, next_step = pair.fails(3, *words)
            assert str(pair.policy) in problem + because + next_step
            assert says in because + problem or words == ["policy", "check"]
    finally:
        pair.policy.write_text(before)
    pair.ok("policy", "check")
    pair.wait_healthy()


def test_a_policy_without_permission(pair: Home, tmp_path: Path) -> None:
    words = ("backup", "orders", "--type", "full")
    if os.geteuid() != 0:
        pair.policy.chmod(0)
        try:
            _, because, _ = pair.fails(3, *words)
        finally:
            pair.policy.chmod(0o600)
    else:
        # root may read everything; a directory in the policy's place cannot be read by anybody
        kept = pair.policy.rename(tmp_path / "kept")
        pair.policy.mkdir()
        try:
            _, because, _ = pair.fails(3, *words)
        finally:
            pair.policy.rmdir()
            kept.rename(pair.policy)
    assert "it cannot be read" in because
    pair.ok("policy", "check")


def test_no_config_and_an_unknown_database(pair: Home, tmp_path: Path) -> None:
    _, because, next_step = pair.fails(3, "status", "--config", str(tmp_path / "none.toml"))
    assert because == "there is no such file"
    assert "backupctl init" in next_step
    problem, _, next_step = pair.fails(5, "backup", "order", "--type", "full")
    assert "'order'" in problem
    assert next_step == "did you mean orders?"
    for words in (["show", "20200101T000000Z-F-00000000"], ["restore", "orders", "--backup", "nothing", "--yes"]):
        assert all(pair.fails(5, *words))
    _, because, next_step = pair.fails(5, "restore", "orders", "--at", "2020-01-01T00:00:00Z", "--yes")
    assert "what can be restored is" in because
    assert "restore" in next_step
