"""SIGKILL at random moments of restores to the active: the next try goes through, and the pair heals."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from tests.soak import house, load
from tests.soak.crashes import Storm, leftovers

SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)


def storm(kills: int, tmp_path: Path, load_seconds: float) -> None:
    """Archive a load, damage the active, and let every restore but the last be killed."""
    house.say(f"\nreplay with: SOAK_SEED={SEED} pytest {__file__}")
    with house.installation(seal_wal_bytes="4MiB") as made:
        load.create(made.active)
        made.init()
        made.start_service()
        made.wait_healthy()
        running = load.Load(made.active, seed=SEED, seconds=3600, kinds=("singles", "big", "blobs", "savepoints"))
        made.ctl_json("backup", "orders", "--type", "full")
        time.sleep(load_seconds)
        running.stop()
        position = made.settle()
        expected = tmp_path / "expected.db"
        shutil.copyfile(made.passive, expected)
        made.ctl_json("backup", "orders", "--type", "incremental")
        with contextlib.closing(sqlite3.connect(made.active, timeout=30, isolation_level=None)) as application:
            application.execute("DELETE FROM orders")
        bad = Storm(made, SEED)
        words = ("restore", "orders", "--yes", "--to", str(position))
        while bad.count < kills and not bad.faults:
            bad.strike_run(words, 3.0)
        house.say(bad.told())
        assert bad.faults == []
        last = made.ctl(*words)
        assert last.returncode == 0, last.stderr
        assert house.different_pages(made.active, expected) == [], "the restore is not what was backed up"
        made.wait_healthy(120)
        made.settle()
        assert house.different_pages(made.active, made.passive) == []
        assert house.integrity(made.passive, tmp_path) == ["ok"]
        _judge_next(made, bad)


def _judge_next(made: house.Installation, bad: Storm) -> None:
    """An application writes again, and the next backup is whole."""
    with contextlib.closing(sqlite3.connect(made.active, timeout=30, isolation_level=None)) as application:
        application.execute("INSERT INTO visits VALUES(NULL, 1, 2)")
    assert made.ctl_json("backup", "orders", "--type", "full")["state"] == "complete"
    bad.judge_recovery()
    bad.judge_promise()
    assert bad.faults == []
    assert made.ctl("verify").returncode == 0
    assert leftovers(made) == []
    beside = {path.name for path in made.active.parent.iterdir()}
    assert beside <= {made.active.name + tail for tail in ("", "-wal", "-shm")}, "a dead restore left files"


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_restore_that_was_killed_is_done_by_the_next(tmp_path: Path) -> None:
    storm(4, tmp_path, 2.0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_restore_that_was_killed_twenty_five_times_is_done_by_the_next(tmp_path: Path) -> None:
    storm(25, tmp_path, 6.0)
