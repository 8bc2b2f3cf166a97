"""Replica equality under real load: what the passive is, byte for byte, after minutes of applications at work."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from backupd.durable import read_json
from tests.soak import house, load
from tests.soak.watch import Watch

SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
WAIT_SECONDS_MAX = 1.0  # no application may wait longer because of us


def soak(seconds: float, tmp_path: Path) -> None:
    """The whole story; prints what it measured."""
    house.say(f"\nreplay with: SOAK_SEED={SEED} pytest {__file__}")
    with house.installation(seal_wal_bytes="4MiB") as made:
        load.create(made.active)
        schema = load.schema_of(made.active)
        made.init()
        made.start_service()
        made.wait_healthy()
        with_us = Watch(made.active, str(made.root))
        running = load.Load(made.active, seed=SEED, seconds=seconds)
        time.sleep(seconds / 3)
        base, at = _copy_of_passive(made, tmp_path)
        time.sleep(max(0.0, running.stop_at - time.time()))
        tallies = running.stop()
        position = made.settle()
        seen = with_us.stop()
        seals = (read_json(made.writer().active_files().capture_state) or {})["seals"]
        house.say(load.told(tallies))
        _judge_copies(made, tmp_path)
        assert load.schema_of(made.active) == schema, "something was added to the application's schema"
        _judge_chain(made, position.history, base, at)
        house.say(f"{seen.told()}\nseals {seals}")
        errors = [error for tally in tallies for error in tally.errors if not error.startswith("skipped")]
        assert not errors
        assert seen.waited_for_us <= WAIT_SECONDS_MAX, "an application waited for us"
        assert seals["locked_seconds_max"] <= WAIT_SECONDS_MAX


def _copy_of_passive(made: house.Installation, tmp_path: Path) -> tuple[Path, int]:
    """The passive as it is at some exact position in the middle of the load, and that offset."""
    freeze = made.writer().freeze(20)
    base = tmp_path / "base.db"
    shutil.copyfile(made.passive, base)
    end = freeze.thaw()
    assert end.held
    return base, freeze.position.offset


def _judge_copies(made: house.Installation, tmp_path: Path) -> None:
    oracle = house.as_sqlite_would_have_it(made.active, tmp_path)
    assert house.different_pages(oracle, made.passive) == [], "the passive is not what SQLite makes of the active"
    assert house.different_pages(made.active, made.passive) == [], "active and passive differ"
    assert house.integrity(made.passive, tmp_path) == ["ok"]


def _judge_chain(made: house.Installation, history: str, base: Path, at: int) -> None:
    """Every log since the copy in the middle is there, follows the one before, and leads to the same bytes."""
    for copy in ("a", "b"):
        assert made.logs(copy).histories() == [history]
        chain = house.walk_chain(made.logs(copy), history)
        assert chain.faults == []
        assert chain.deltas == 0, "a gap was healed by comparing pages, while capture never stopped"
    house.replay_all(base, made.logs("a"), history, at)
    assert house.different_pages(base, made.passive) == [], "the closed logs lead elsewhere"
    house.say(f"history {history}: {chain.logs} logs, {chain.restarts} restarts of the -wal, replayed from offset {at}")


@pytest.mark.slow
def test_the_passive_is_the_active_byte_for_byte_after_real_load(tmp_path: Path) -> None:
    soak(15, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_passive_is_the_active_byte_for_byte_after_five_minutes_of_load(tmp_path: Path) -> None:
    soak(300, tmp_path)
