"""Drills of a real PostgreSQL pair: a private server that reaches nobody, each way to fail, and one that is killed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backupd.engines.postgres.postmaster import find_postmaster
from tests.faults.pg_house import BrokenHome
from tests.pg_pairs import binaries
from tests.stories.home import Answer
from tests.stories.pg_home import PgHome, pg_home
from tests.stories.test_full_disks import small_disk

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

CHECK = """
[[drill.checks]]
name = "{name}"
sql = "{sql}"
expect = {expect}
"""
ALONE = (
    "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN "
    "('archive_mode', 'listen_addresses', 'max_logical_replication_workers', 'transaction_read_only')"
)
ALONE_MEANS = "archive_mode=off listen_addresses= max_logical_replication_workers=0 transaction_read_only=on"


@pytest.fixture(scope="module")
def made() -> Iterator[PgHome]:
    """A pair with a full, an incremental, and a policy that says where drills happen."""
    with pg_home(scale=1) as home:
        home.backup("full")
        home.pair.active.pgbench("-c", 1, "-t", 50)
        home.backup("incremental")
        asking(home, ("rows", "SELECT count(*) FROM pgbench_history", str(home.rows())))
        yield home


def asking(home: PgHome, *checks: tuple[str, str, str], directory: Path | None = None) -> None:
    told = "".join(CHECK.format(name=name, sql=sql, expect=expect) for name, sql, expect in checks)
    home.write_policy(more=f'[drill]\ndirectory = "{directory or home.root / "s"}"\n{told}')


def alarm(home: PgHome) -> str:
    found = home.ok("status", "orders", "--json").json["databases"][0]["alarm_details"]
    return " ".join(one["sentence"] for one in found if one["code"] == "drill-failed")


def left(home: PgHome) -> list[Path]:
    return [*(home.root / "s" / "orders").glob("*")]


def failed(home: PgHome, answer: Answer, exit_status: int, phase: str, *words: str) -> dict[str, Any]:
    """It failed so, with an alarm that says why, and nothing of it stays."""
    assert answer.status == exit_status, answer.told()
    sentence = alarm(home)
    for word in (phase, *words):
        assert word in sentence, answer.told()
    for word in words:
        assert word in answer.err, answer.told()
    assert not left(home)
    assert not servers_below(home.root / "s")
    last: dict[str, Any] = home.status()["last_drill"]
    return last


def servers_below(directory: Path) -> list[str]:
    """PostgreSQL servers that work on a directory below this one."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"-D" in words and os.fsdecode(words[words.index(b"-D") + 1]).startswith(str(directory)):
            found.append(process.name)
    return found


def test_a_drill_restores_starts_and_asks_a_server_that_reaches_nobody(made: PgHome) -> None:
    before = [server.psql("SELECT timeline_id FROM pg_control_checkpoint()") for server in made.pair.servers]
    rows = str(made.rows())
    checks = [("rows", "SELECT count(*) FROM pgbench_history", rows), ("alone", ALONE, f'"{ALONE_MEANS}"')]
    checks += [("open", "SELECT NOT pg_is_in_recovery()", "true"), ("who", "SELECT rolsuper FROM pg_roles WHERE rolname = session_user", "false")]  # fmt: skip # noqa: E501
    asking(made, *checks)
    told = made.ok("drill", "orders", "--json").json
    assert told["passed"] is True
    assert "every database opens" in told["engine_checks"]
    # What could not be asked is said: these binaries may have no amcheck.
    assert ("pg_amcheck --heapallindexed" in told["engine_checks"]) is not bool(told["notes"])
    status = made.status()
    assert status["last_proven"]["position"] == told["position"]
    assert status["expected_restore_seconds"] == pytest.approx(told["restore_seconds"], abs=0.01)
    assert not alarm(made)
    assert not left(made)
    assert not servers_below(made.root / "s")
    assert [server.psql("SELECT timeline_id FROM pg_control_checkpoint()") for server in made.pair.servers] == before
    assert made.ok("backup", "orders", "--type", "incremental", "--json").json["type"] == "incremental"


@pytest.fixture(scope="module")
def with_amcheck() -> Iterator[PgHome]:
    """A pair of a PostgreSQL that brings the extension amcheck (Debian's does, the wheels' do not)."""
    found = [major for major, programs in binaries().items() if brings_amcheck(programs)]
    if not found:
        pytest.skip("no PostgreSQL here has the extension amcheck: apt-get install postgresql")
    with pg_home(found[-1], scale=1) as home:
        yield home


def brings_amcheck(programs: Path) -> bool:
    told = subprocess.run([programs / "pg_config", "--sharedir"], capture_output=True, text=True, check=False)
    return (Path(told.stdout.strip()) / "extension" / "amcheck.control").exists()


@pytest.mark.slow
def test_amcheck_compares_each_table_with_its_indexes(with_amcheck: PgHome) -> None:
    home, active = with_amcheck, with_amcheck.pair.active
    active.psql("CREATE FUNCTION lowered(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 - 1'")
    active.psql("CREATE INDEX by_lowered ON pgbench_tellers (lowered(tid))")
    home.backup("full")
    asking(home)
    told = home.ok("drill", "orders", "--json").json
    assert "pg_amcheck --heapallindexed" in told["engine_checks"], told["notes"]
    assert not told["notes"]
    # Page sums are right and nothing crashes, but the index no longer finds what the table holds.
    active.psql("CREATE OR REPLACE FUNCTION lowered(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 - 2'")
    home.backup("incremental")
    failed(home, home.run("drill", "orders"), 6, "engine checks", "by_lowered")


@pytest.mark.slow
def test_what_a_policy_asks_can_neither_write_nor_run_a_program(made: PgHome, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    statements = {
        "delete": "DELETE FROM pgbench_history",
        "program": f"COPY (SELECT 1) TO PROGRAM 'touch {trace}'",
        "escape": f"SELECT 1; RESET ROLE; COPY (SELECT 1) TO PROGRAM 'touch {trace}'",
        "function": "SELECT pg_read_file('/etc/passwd')",
        "long": "SELECT pg_sleep(600)",
        "unknown": "SELECT nothing FROM nowhere",
    }
    asking(made, *((name, sql, "1") for name, sql in statements.items()))
    made.policy.write_text(made.policy.read_text().replace("[drill]\n", '[drill]\ncheck_seconds_max = "3s"\n'))
    answer = made.run("drill", "orders", "--json")
    assert answer.status == 6, answer.told()
    assert {one["name"]: one["passed"] for one in answer.json["checks"]} == dict.fromkeys(statements, False)
    assert not trace.exists()
    assert (
        "must be superuser" in answer.json["answers"]["program"] or "syntax error" in answer.json["answers"]["program"]
    )
    assert "permission denied" in answer.json["answers"]["escape"], answer.told()


@pytest.mark.slow
def test_an_answer_that_differs(made: PgHome) -> None:
    asking(made, ("rows", "SELECT count(*) FROM pgbench_history", "7"), ("fine", "SELECT 1", "1"))
    last = failed(made, made.run("drill", "orders"), 6, "own checks", "rows", "another value")
    assert last["checks"] == [{"name": "rows", "passed": False}, {"name": "fine", "passed": True}]


@pytest.mark.slow
def test_missing_log_and_a_damaged_chunk(made: PgHome) -> None:
    asking(made)
    newest = made.status()["last_incremental"]["id"]
    named = made.ok("show", newest, "--json").json["record"]["logs"][0]["name"]
    log = made.archive / named
    away = log.rename(log.with_name("away"))
    failed(made, made.run("drill", "orders"), 6, "replay", named)
    away.rename(log)
    chunk = max(made.archive.glob("db/*/data/*/*"), key=lambda path: path.stat().st_size)
    whole = chunk.read_bytes()
    chunk.chmod(0o600)
    chunk.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    failed(made, made.run("drill", "orders"), 6, "fetch", str(chunk.relative_to(made.archive)))
    chunk.write_bytes(whole)
    made.ok("verify", *[one["id"] for one in made.ok("list", "orders", "--json").json["backups"]])
    made.ok("drill", "orders")
    assert not alarm(made)


@pytest.mark.slow
@pytest.mark.root
def test_a_scratch_disk_that_is_too_small(made: PgHome) -> None:
    with small_disk(made.root / "small") as disk:
        disk.chmod(0o711)
        asking(made, directory=disk)
        failed(made, made.run("drill", "orders"), 7, "plan", "no room")


@pytest.mark.slow
def test_a_socket_that_is_taken(made: PgHome) -> None:
    """Nobody but its owner gets into the directory of the socket; a lock file there stands for whoever does."""
    asking(made)
    broken = BrokenHome(made, "live")
    with broken.stopped("1@pg.drill.start", "drill", "orders") as running:
        [place] = left(made)
        other = find_postmaster(made.pair.active.data)
        assert other is not None
        lock = place / "data" / ".s.PGSQL.5432.lock"
        lock.write_text(f"{other.pid}\n{made.pair.active.data}\n0\n5432\n{place / 'data'}\n\n\n")
        lock.chmod(0o644)
        running.go_on()
        answer = running.ended()
    failed(made, answer, 7, "open", ".s.PGSQL.5432.lock")


@pytest.mark.slow
def test_the_usual_port_may_be_taken(made: PgHome) -> None:
    """A drill has no port: whoever listens on 5432, or sits at its socket in /tmp, is not in the way."""
    asking(made, ("rows", "SELECT count(*) > 0 FROM pgbench_history", "true"))
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 5432))
            taken.listen()
        except OSError:
            pass  # it is taken already, which is as good
        made.ok("drill", "orders")


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", ["pg.recovery.start", "pg.restore.configuration", "pg.connect.open", "pg.drill.look", "pg.drill.ask"]
)
def test_a_killed_drill_leaves_a_server_that_the_next_one_ends(made: PgHome, step: str) -> None:
    asking(made, ("rows", "SELECT count(*) > 0 FROM pgbench_history", "true"))
    died = subprocess.run(
        made.command("drill", "orders"),
        env=made.environment(BACKUPD_FAULT=f"die:{8 if step == 'pg.connect.open' else 1}@{step}"),
        cwd=made.root,
        capture_output=True,
        check=False,
    )
    assert died.returncode == -9, died.stderr
    assert left(made)
    if step.startswith("pg.drill"):
        assert servers_below(made.root / "s")
    began = time.monotonic()
    assert "which a drill had left that died" in made.ok("drill", "orders").out, began
    assert not left(made)
    assert not servers_below(made.root / "s")


@pytest.mark.slow
@pytest.mark.root
def test_a_place_that_the_servers_user_may_not_enter_is_refused_in_time(made: PgHome, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    asking(made, directory=closed)
    failed(made, made.run("drill", "orders"), 4, "plan", "may not enter")
    helps = [one["next_step"] for one in made.status()["alarm_details"] if one["code"] == "drill-failed"]
    assert "drill.directory in the policy" in helps[0]


@pytest.mark.slow
def test_a_subscription_of_the_restored_cluster_is_not_begun(made: PgHome) -> None:
    """Its publisher would take the scratch server for the subscriber, and let go of changes that this one never got."""
    active = made.pair.active
    with socket.create_server(("127.0.0.1", 0)) as publisher:
        where = f"host=127.0.0.1 port={publisher.getsockname()[1]} dbname=x connect_timeout=2"
        active.psql(
            f"CREATE SUBSCRIPTION of_another CONNECTION '{where}' PUBLICATION p WITH (connect = false, slot_name = 's')"
        )
        active.psql("ALTER SUBSCRIPTION of_another ENABLE")
        full = made.backup("full")
        active.psql("ALTER SUBSCRIPTION of_another DISABLE")
        active.psql("ALTER SUBSCRIPTION of_another SET (slot_name = NONE)")
        active.psql("DROP SUBSCRIPTION of_another")
        publisher.settimeout(3.0)
        asked_by_the_active = 0
        with contextlib.suppress(TimeoutError):
            while True:
                publisher.accept()[0].close()
                asked_by_the_active += 1
        assert asked_by_the_active
        asking(made, ("wait", "SELECT pg_sleep(4)::text", '""'))
        made.ok("drill", "orders", "--backup", full["id"])
        with pytest.raises(TimeoutError):
            publisher.accept()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as another user")
def test_check_says_beforehand_that_a_drill_s_server_could_not_enter(made: PgHome, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    try:
        asking(made, directory=tmp_path / "s")
        answer = made.run("check", "orders")
        assert answer.status == 4, answer.told()
        assert f"may not enter {tmp_path}" in answer.told()
        assert not list(tmp_path.glob("s/orders/*"))
    finally:
        asking(made)
    fine = made.ok("check", "orders").out
    assert f"a drill can restore to {made.root / 's' / 'orders'}" in fine
