"""A restore in place by the command line: few bytes, no second copy; killed in the middle, the next restore ends it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.demo.postgres_server import PgServer
from backupd.errors import NotHealthy
from tests.stories.home import home
from tests.stories.pg_home import PgHome, pg_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def scene() -> Iterator[PgHome]:
    """A full, then a few rows that differ, and a table that is lost."""
    with pg_home(scale=5) as made:
        made.pair.active.psql("CREATE TABLE told(n int); INSERT INTO told VALUES (1)")
        made.backup("full")
        # What fills up a row that was loaded is no log: the standby's pages become the active's by a restore.
        made.ok("restore", "orders", "--yes")
        made.backup("full")
        made.pair.active.psql("UPDATE pgbench_accounts SET abalance = 7 WHERE aid < 1000")
        made.backup("incremental")
        made.pair.active.psql("INSERT INTO told VALUES (2)")
        yield made


def given_up(data: Path) -> bool:
    """Whether the journal says so and the first move was made."""
    try:
        journal = json.loads((data / ".backupd-restore" / "journal.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(journal["given_up"]) and not (data / "global").exists()


def passive_state(made: PgHome) -> str:
    copies = made.status()["copies"]
    found: str = next(each["state"] for each in copies if each["role"] == "passive")
    return found


def check_whole(made: PgHome) -> None:
    active: PgServer = made.pair.active
    assert active.psql("SELECT string_agg(n::text, ',') FROM told") == "1"
    assert active.psql("SELECT count(*), sum(abalance) FROM pgbench_accounts") == f"500000|{999 * 7}"
    made.check_opened(active)
    assert passive_state(made) == "healthy", made.status()
    assert not (active.data / ".backupd-restore").exists()


def test_only_what_differs_is_fetched_and_the_plan_says_what_is_given_up(scene: PgHome) -> None:
    full = scene.ok("restore", "orders", "--dry-run", "--json").json
    plan = scene.ok("restore", "orders", "--in-place", "--dry-run")
    assert "give up what is at" in plan.out
    assert "the way back" in plan.out
    assert scene.pair.active.psql("SELECT count(*) FROM told") == "2"
    answer = scene.ok("restore", "orders", "--in-place", "--yes", "--json").json
    assert answer["reused_pages"] > 0.6 * (answer["reused_pages"] + answer["fetched_pages"])
    assert answer["read_bytes"] < 0.5 * sum(each.stat().st_size for each in scene.archive.rglob("*") if each.is_file())
    assert answer["usable_seconds"] <= answer["seconds"]
    assert full["in_place"] is False
    check_whole(scene)


def test_killed_after_it_gave_up_what_was_there_the_next_restore_ends_it(scene: PgHome) -> None:
    data = scene.pair.active.data
    running = subprocess.Popen(
        scene.command("restore", "orders", "--in-place", "--yes"),
        env=scene.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while running.poll() is None and not given_up(data):
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert given_up(data)
    with pytest.raises(NotHealthy):
        scene.pair.active.start()
    plan = scene.ok("restore", "orders", "--dry-run")
    assert "what a restore in place has left" in plan.out
    answer = scene.ok("restore", "orders", "--yes", "--json").json
    assert answer["reused_pages"] > 0.6 * (answer["reused_pages"] + answer["fetched_pages"])
    check_whole(scene)


def test_what_cannot_be_restored_in_place_is_refused_and_an_object_that_is_gone_is_seen_before(scene: PgHome) -> None:
    answer = scene.refused(4, "restore", "orders", "--target", str(scene.root / "out"), "--in-place", "--yes")
    assert "leave --in-place out" in answer.err
    lost = max((each for each in scene.archive.rglob("*") if each.is_file()), key=lambda each: each.stat().st_size)
    lost.unlink()
    scene.refused(6, "restore", "orders", "--in-place", "--yes")
    assert scene.pair.active.psql("SELECT count(*) FROM told") == "2"
    assert passive_state(scene) == "healthy"


def test_a_file_of_sqlite_is_built_beside(tmp_path: Path) -> None:
    with home(tmp_path, rows=100) as made:
        made.up()
        made.backup("full")
        answer = made.run("restore", "orders", "--in-place", "--yes")
        assert answer.status == 4
        assert "only the active of a PostgreSQL cluster" in answer.err
