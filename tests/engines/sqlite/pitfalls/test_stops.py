"""Pitfalls 24 to 27: somebody is the last to close, dies, or comes back later."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from backupd.durable import read_json
from backupd.engines.sqlite.control_client import ControlClient
from tests.engines.sqlite.pitfalls.world import ROOT, OrderFailed, World


def until(condition: Callable[[], object]) -> None:
    """Wait for it; the limit only ends a test that has failed."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_pitfall_24_the_last_application_closes(world: World) -> None:
    """The application opens, writes and closes again and again; without us the last close deletes the -wal.

    While the agent lives the -wal stays, and nothing that was in it is missed.
    """
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    app.close()
    salts = agent.salts()
    for word in ("again", "and again", "and once more"):
        app.open()
        app.write(word)
        app.close()
        assert world.wal.stat().st_size > 0
        agent.tick()
    assert agent.salts() == salts
    assert world.kinds() == ["SEED", "FRAMES", "FRAMES", "FRAMES"]
    app.open()
    world.assert_equal(app)


def test_pitfall_25_the_agent_is_the_last_to_close(world: World) -> None:
    """The application stops, then the agent is told to stop: the tail is shipped first, and the -wal stays.

    The next start recognises where it was and compares nothing.
    """
    options = json.loads(world.config.read_text())
    options["options"]["log_file_seconds_max"] = 3600.0  # only the end ships the tail
    world.config.write_text(json.dumps(options))
    app = world.writing_app()
    command = [sys.executable, "-m", "backupd.engines.sqlite.capture_process", str(world.config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as agent:
        until(lambda: (read_json(world.state / "capture.json") or {}).get("state") == "healthy")
        app.write("the tail")
        app.close()
        facts = read_json(world.state / "capture.json") or {}
        with ControlClient(world.state / "capture.sock", who="the capture") as client:
            client.call("ack", history=facts["history"], number=2)
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(20) == 0
    assert world.kinds() == ["SEED", "FRAMES"]
    assert world.wal.stat().st_size > 0
    again = world.agent()
    assert again.begin() == "go on"
    app.open()
    app.write("afterwards")
    again.ship()
    assert world.kinds() == ["SEED", "FRAMES", "FRAMES"]
    world.assert_equal(app)
    assert app.words() == ["first", "the tail", "afterwards"]


def steps_of_a_ship(world: World) -> int:
    """How many steps there are from a commit to the end of shipping it."""
    agent = world.agent()
    agent.begin()
    app = world.app()
    app.open("wal_autocheckpoint=0")
    app.write("counted")
    agent.run("steps.arm('none', 0, '')")
    agent.ship()
    counted = int(agent.value("steps.disarm()"))
    agent.kill()
    return counted


def test_pitfall_26_killed_at_every_step_of_shipping(world: World) -> None:
    """SIGKILL before and after each step between the commit and the end of shipping it.

    The newest closed log is the whole state, so nothing is cut twice and nothing is left out.
    """
    app = world.writing_app()
    steps = steps_of_a_ship(world)
    assert steps >= 6
    agent = world.agent()
    assert agent.begin() == "go on"
    for number in range(1, steps + 1):
        app.write(f"commit {number}")
        agent.run(f"steps.arm('die', {number}, '')")
        with pytest.raises(OrderFailed) as died:
            agent.ship()
        assert died.value.kind == "Died"
        agent = world.agent()
        assert agent.begin() == "go on"
        agent.ship()
    assert set(world.kinds()[1:]) == {"FRAMES"}
    assert len(world.kinds()) == 1 + 1 + steps
    world.assert_equal(app)
    (history,) = world.logs.histories()
    headers = [world.logs.history(history).header(number) for number in world.logs.history(history).numbers()]
    assert [one.frame_first for one in headers[2:]] == [one.frame_last + 1 for one in headers[1:-1]]


def test_pitfall_27_the_application_checkpoints_while_the_agent_is_down(world: World) -> None:
    """Agent down, the application restarts the log over unshipped commits and goes on; agent back.

    Every page is compared, and the chain from the first seed on is still restorable.
    """
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    agent.kill()
    app.write("never seen in the log", rows=20)
    app.execute("PRAGMA wal_checkpoint(RESTART)")
    app.write("overwrites it", rows=20)
    agent = world.agent()
    assert agent.begin() == "delta"
    app.write("afterwards")
    agent.tick()
    assert world.kinds() == ["SEED", "DELTA", "FRAMES"]
    world.assert_equal(app)
    world.assert_restorable(app)


def test_pitfall_27_one_restart_exactly_where_we_were(world: World) -> None:
    """The same, but all was shipped, and what lies behind the last shipped frame proves it: nothing is compared."""
    app, agent = world.writing_app(), world.agent()
    app.write("makes the log long", rows=60)
    agent.begin()
    assert agent.seal()
    app.write("restarts it", rows=30)
    agent.tick()
    agent.kill()
    app.execute("PRAGMA wal_checkpoint(RESTART)")
    app.write("restarts it again")
    agent = world.agent()
    assert agent.begin() == "go on after restart"
    agent.tick()
    assert world.kinds() == ["SEED", "FRAMES", "FRAMES"]
    world.assert_equal(app)


def test_a_new_history_that_was_closed_just_before_a_crash_is_not_forgotten(world: World) -> None:
    """SIGKILL between the first log of a new history and the note of its name: its logs stay one chain."""
    app, agent = world.writing_app(), world.agent()
    app.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    agent.begin()
    world.passive.follow()
    app.close()
    new = world.path.with_name("new.db")
    agent.end()
    for path in (world.wal, world.shm):
        path.unlink(missing_ok=True)
    new.write_bytes(world.path.read_bytes())
    new.rename(world.path)
    agent = world.agent()
    agent.run("steps.arm('die', 1, 'capture.state')")
    with pytest.raises(OrderFailed) as died:
        agent.begin()
    assert died.value.kind == "Died"
    again = world.agent()
    again.begin()
    app.open()
    app.write("afterwards")
    again.tick()
    firsts = [world.logs.history(one).header(1) for one in world.logs.histories()]
    parents = [(one.parent_history, one.parent_offset) for one in firsts]
    assert len(set(parents)) == len(parents)  # no fork: the passive could take the wrong one
    assert "SEED" not in world.kinds()[1:]
    world.assert_equal(app)
