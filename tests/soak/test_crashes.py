"""SIGKILL for every process of backupd at random moments, while applications work: nothing is lost unnoticed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.soak import house, load
from tests.soak.crashes import Storm, leftovers
from tests.soak.watch import Seen, Watch

SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
WAIT_SECONDS_MAX = 1.0


EVERYBODY = {"capture", "replayer", "service", "run"}


def storm(kills: int, tmp_path: Path) -> Seen:
    """Kill ``kills`` times under load, then judge everything; how long anybody waited is for the caller to judge."""
    house.say(f"\nreplay with: SOAK_SEED={SEED} pytest {__file__}")
    with house.installation(seal_wal_bytes="4MiB") as made:
        load.create(made.active)
        schema = load.schema_of(made.active)
        made.init()
        made.start_service()
        made.wait_healthy()
        watch = Watch(made.active, str(made.root))
        running = load.Load(made.active, seed=SEED, seconds=3600)
        bad = Storm(made, SEED)
        made.ctl_json("backup", "orders", "--type", "full")
        while (bad.count < kills or not bad.victims >= EVERYBODY) and not bad.faults:
            bad.strike()
            if bad.count % 5 == 4:
                bad.judge_recovery()
                bad.judge_promise()
        tallies = running.stop()
        house.say(load.told(tallies))
        house.say(bad.told())
        made.wait_healthy(120)
        position = made.settle()
        seen = watch.stop()
        house.say(seen.told())
        bad.judge_recovery()
        bad.judge_promise()
        assert bad.faults == []
        _judge_copies(made, tmp_path, position.history)
        assert load.schema_of(made.active) == schema
        _judge_archive(made, tmp_path)
        assert leftovers(made) == []
        assert [error for tally in tallies for error in tally.errors if not error.startswith("skipped")] == []
        return seen


def _judge_copies(made: house.Installation, tmp_path: Path, history: str) -> None:
    oracle = house.as_sqlite_would_have_it(made.active, tmp_path)
    assert house.different_pages(oracle, made.passive) == [], "a gap that nobody noticed"
    assert house.integrity(made.passive, tmp_path) == ["ok"]
    for copy in ("a", "b"):
        chain = house.walk_chain(made.logs(copy), history)
        assert chain.faults == []
        house.say(f"copy {copy}: {chain.logs} logs held, {chain.restarts} restarts, {chain.deltas} deltas")


def _judge_archive(made: house.Installation, tmp_path: Path) -> None:
    """The next run works, all that is listed is sound, and the latest state is what both copies are."""
    done = made.ctl_json("backup", "orders", "--type", "incremental")
    assert done["state"] == "complete"
    verified = made.ctl("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    made.ctl_json("restore", "orders", "--yes", "--target", str(tmp_path / "restored"))
    assert house.different_pages(tmp_path / "restored" / made.active.name, made.passive) == []


@pytest.mark.timeout(280)
def test_nothing_is_lost_when_processes_are_killed(tmp_path: Path) -> None:
    storm(8, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_is_lost_when_processes_are_killed_fifty_times(tmp_path: Path) -> None:
    assert storm(50, tmp_path).waited_for_us <= WAIT_SECONDS_MAX, "an application waited for us"
