"""Fails, then kills, a run at its first step, its second, ... until it passes; the promises hold after each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from backupd import steps
from backupd.errors import BackupdError
from tests.dying import dies_at
from tests.faults.promises import before, judge
from tests.faults.step_stories import STORIES
from tests.faults.tries import Tries
from tests.s3_buckets import BOTH, Bucket
from tests.s3_servers import keys_of_nobody, memory_process, moto_process, moto_server

STEPS_MAX = 400

# Alone each takes a minute or three, and beside other work on two cores much longer.
pytestmark = pytest.mark.timeout(2400)

# The quick suite takes the run that has most to lose; `make test-all` takes them all.
QUICK = {"full"}
IN_DIRECTORIES = [
    pytest.param((name, ()), id=name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(STORIES)
]
# What lies in a bucket; the rest in directories.
_BUCKETS = {
    "full": BOTH,
    "incremental": BOTH,
    "prune": BOTH,
    "recover of a dead full": BOTH,
    "recover of a dead prune": BOTH,
    "copy to the second archive": ("second",),
}
IN_BUCKETS = [
    pytest.param((name, archives), id=f"{name}-s3", marks=pytest.mark.slow) for name, archives in _BUCKETS.items()
]
# moto takes four times as long as the server in memory.
_ON_MOTO = {"full"}


@pytest.fixture
def tries(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Tries]]:
    """The story's name, and its world."""
    name, archives = request.param
    if not archives:
        yield name, Tries.of(STORIES[name], tmp_path)
        return
    with keys_of_nobody(), (moto_process if name in _ON_MOTO else memory_process)() as server:
        yield name, Tries.of(STORIES[name], tmp_path, Bucket.made(server, archives))


@pytest.mark.parametrize("tries", IN_DIRECTORIES, indirect=True)
def test_failing_at_every_step_keeps_the_promises(tries: tuple[str, Tries]) -> None:
    story = STORIES[tries[0]]
    was = before(tries[1].again("before"))
    for number in range(1, STEPS_MAX):
        world = tries[1].again(f"fail-{number}")
        steps.arm("fail", number)
        failed = True
        with suppress(BackupdError):
            story.act(world)
            failed = False
        reached = steps.disarm() >= number
        world.clock.sleep(60)
        judge(world, was, f"failing at step {number}", deaths=story.deaths)
        if not failed and not reached:
            assert number > 10, "hardly any step was counted"
            return
    pytest.fail("the run never passed")


@pytest.mark.parametrize("tries", IN_DIRECTORIES + IN_BUCKETS, indirect=True)
def test_dying_at_every_step_keeps_the_promises(tries: tuple[str, Tries]) -> None:
    story = STORIES[tries[0]]
    was = before(tries[1].again("before"))
    for number in range(1, STEPS_MAX):
        world = tries[1].again(f"die-{number}")
        died = dies_at(number, partial(story.act, world))
        world.clock.sleep(60)
        judge(world, was, f"dying at step {number}", deaths=story.deaths)
        if not died:
            assert number > 10, "hardly any step was counted"
            return
    pytest.fail("the run never passed")


@pytest.mark.parametrize("where", ["directory", pytest.param("s3", marks=pytest.mark.slow)])
def test_a_fault_from_the_environment_kills_a_real_process(where: str, tmp_path: Path) -> None:
    with keys_of_nobody():
        bucket = Bucket.made(moto_server()) if where == "s3" else None
        tries = Tries.of(STORIES["full"], tmp_path, bucket)
        was = before(tries.again("before"))
        world = tries.again("environment")
        program = (
            "from pathlib import Path; from tests.runs.world import World; from backupd.runs.backup import run_backup;"
            " from tests.s3_buckets import Bucket; from backupd.model.records import BackupType;"
            f" run_backup(World(Path({str(world.root)!r}), elsewhere={bucket!r}).context(), BackupType.FULL)"
        )
        trace = tmp_path / "trace"
        faults = {"BACKUPD_FAULT": "die:1@archive.commit", "BACKUPD_STEP_TRACE": str(trace)}
        environment = {**os.environ, **faults, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
        assert done.returncode == -signal.SIGKILL
        last = trace.read_text().splitlines()[-1]
        assert last.endswith("archive.commit")
        world.clock.sleep(60)
        judge(world, was, "dying before the commit")
