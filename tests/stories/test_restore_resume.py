"""A restore that is killed at every twentieth of its way goes on where it was: it reads what is missing, and no more.

``pytest -s -m slow tests/stories/test_restore_resume.py`` prints the bytes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.soak.house import say
from tests.stories.home import Home, digest, home
from tests.stories.pg_home import PgHome, pg_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TWENTIETHS = range(1, 20)
# What was under way when the process died: segments of each thread, fetched and not yet noted as written.
_UNDER_WAY_SHARE_MAX = 0.35


def written_bytes(directory: Path) -> int:
    """What lies below it by blocks, so that a hole counts nothing."""
    found = 0
    for path, _, names in os.walk(directory):
        for name in names:
            try:
                found += os.lstat(os.path.join(path, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return found


def killed_at(command: list[str], environment: dict[str, str], directory: Path, bytes_min: int) -> bool:
    """SIGKILL when so much was written; False when it ended before that."""
    running = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while running.poll() is None:
        if written_bytes(directory) >= bytes_min:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            return True
        time.sleep(0.002)
    return False


def judge(
    command: list[str], environment: dict[str, str], target: Path, again: Callable[[], Any], whole: dict[str, Any]
) -> None:
    """Kill at each twentieth, look that nothing can be taken for a database, and go on."""
    size_bytes = written_bytes(target)
    say(f"\nwhole: {whole['read_bytes']:,} bytes read, {size_bytes:,} bytes written")
    killed = []
    for twentieth in TWENTIETHS:
        shutil.rmtree(target)
        if not killed_at(command, environment, target, size_bytes * twentieth // 20):
            say(f"{twentieth * 5:3} %: it had ended before it was killed")
            continue
        there = written_bytes(target)
        assert not startable(target), f"killed at {twentieth * 5} %, it looks like a database"
        answer = again()
        share_there, share_read = there / size_bytes, answer["read_bytes"] / whole["read_bytes"]
        say(f"{twentieth * 5:3} %: {there:,} bytes were there, {answer['read_bytes']:,} read again ({share_read:.0%})")
        assert share_read <= 1 - share_there + _UNDER_WAY_SHARE_MAX
        killed.append(twentieth)
    assert len(killed) >= 15, f"only {killed} of the restores were killed"


def startable(target: Path) -> bool:
    """Whether an engine could open what is there."""
    return (target / "app.db").exists() or (target / "global" / "pg_control").exists()


@pytest.fixture
def sqlite(tmp_path: Path) -> Any:
    with home(tmp_path, rows=30_000, row_bytes=6000) as made:
        made.up()
        made.backup("full")
        made.commit()
        made.backup()
        yield made


def test_a_sqlite_database(sqlite: Home, tmp_path: Path) -> None:
    target = tmp_path / "out"
    words = ("restore", "orders", "--target", str(target), "--yes", "--json")

    def again() -> Any:
        answer = sqlite.ok(*words).json
        assert digest(target / "app.db") == expected
        return answer

    whole = sqlite.ok(*words).json
    expected = digest(target / "app.db")
    judge(sqlite.ctl_command(*words), sqlite.environment(), target, again, whole)


@pytest.fixture
def postgres() -> Any:
    with pg_home(scale=20) as made:
        made.backup("full")
        yield made


def test_a_postgres_cluster(postgres: PgHome) -> None:
    target = postgres.root / "out" / "data"
    target.parent.mkdir()
    shutil.chown(target.parent, "postgres")
    words = ("restore", "orders", "--target", str(target), "--yes", "--json")

    def again() -> Any:
        answer = postgres.ok(*words).json
        postgres.check_restored(target)
        return answer

    whole = postgres.ok(*words).json
    judge(postgres.command(*words), postgres.environment(), target, again, whole)
    with postgres.opened(target) as server:
        assert server.psql("SELECT count(*) FROM pgbench_accounts") == "2000000"
        postgres.check_opened(server)
