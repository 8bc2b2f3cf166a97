"""A capture that is killed at every step of its beginning, whatever it begins with: the next one makes it whole."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engines.sqlite.pitfalls.test_names import another_database
from tests.engines.sqlite.pitfalls.world import App, OrderFailed, Passive, World

STEPS_MAX = 60


def first_start(world: World) -> App:
    """Nothing was ever shipped: a full seed."""
    return world.writing_app()


def missed_a_restart(world: World) -> App:
    """The log was restarted while nobody looked: a comparison."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    world.passive.follow()
    agent.kill()
    app.execute("PRAGMA wal_checkpoint(RESTART)")
    app.write("after the restart", rows=5)
    return app


def another_file(world: World) -> App:
    """The file was replaced while all were stopped: a new history."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    world.passive.follow()
    agent.kill()
    app.close()
    another_database(world.directory / "new.db").rename(world.path)
    app.open("wal_autocheckpoint=0")
    app.execute("SELECT count(*) FROM t")
    return app


def follows(world: World, number: int, app: App) -> None:
    """A passive that stood at the first seed takes all that is there, and is equal."""
    passive = Passive(world.directory / f"passive-{number}", world.logs.root)
    seed = world.passive.seed_path if world.passive.seed_path.exists() else world.passive.kept_seed
    shutil.copy(seed, passive.seed_path)
    passive.follow()
    assert passive.path.read_bytes() == world.content(app)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "last_kind"), [(first_start, "SEED"), (missed_a_restart, "DELTA"), (another_file, "DELTA")]
)
def test_killed_at_every_step_of_beginning(world: World, prepare: Callable[[World], App], last_kind: str) -> None:
    """SIGKILL at step n of begin, for every n; then a capture that is left alone."""
    app = prepare(world)
    before: Path = world.directory / "state-before"
    shutil.copytree(world.state, before, ignore=shutil.ignore_patterns("*.sock"))
    died = 0
    for number in range(1, STEPS_MAX):
        shutil.rmtree(world.state)
        shutil.copytree(before, world.state)
        agent = world.agent()
        agent.run(f"steps.arm('die', {number}, '')")
        try:
            agent.begin()
        except OrderFailed as failed:
            if failed.kind != "Died":
                raise
            died += 1
        else:
            agent.kill()
            break
        agent = world.agent()
        agent.begin()
        agent.tick()
        follows(world, number, app)
        agent.kill()
    assert died >= 8
    assert world.kinds()[-1] == last_kind


def test_a_seed_that_was_being_written_is_removed(world: World) -> None:
    """SIGKILL at step n of a seed that a person asked for; the next capture needs no seed and leaves none."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    world.passive.follow()
    beside = {path.name for path in world.passive.path.parent.iterdir()}
    for number in range(1, STEPS_MAX):
        agent.run("from backupd.engines.sqlite.beginning import seed_again")
        agent.run(f"steps.arm('die', {number}, 'seed.')")
        try:
            agent.run("seed_again(capture, 'a person asked for it')")
        except OrderFailed as failed:
            if failed.kind != "Died":
                raise
        else:
            break
        app.execute("PRAGMA wal_checkpoint(RESTART)")
        app.write(f"after kill {number}")
        agent = world.agent()
        agent.begin()
        assert {path.name for path in world.passive.path.parent.iterdir()} - beside == set(), f"killed at {number}"
    assert number > 3
    world.assert_equal(app)


def test_a_seed_that_nobody_had_taken_is_offered_again(world: World) -> None:
    """SIGKILL of both processes between the end of a seed that was asked for and its adoption."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    world.passive.follow()
    agent.run("from backupd.engines.sqlite.beginning import seed_again")
    agent.run("seed_again(capture, 'a person asked for it')")
    number = agent.value("OFFERED")[-1]
    agent.kill()
    app.write("meanwhile")
    agent = world.agent()
    agent.begin()
    deadline = time.monotonic() + 20
    while agent.value("OFFERED") != [number] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert agent.value("OFFERED") == [number]
    agent.kill()
    world.passive.seed_path.unlink()
    agent = world.agent()
    agent.begin()
    assert agent.value("OFFERED") == []
