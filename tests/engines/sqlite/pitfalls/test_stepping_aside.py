"""Stepping aside for an application's checkpoint: every interleaving in which a commit could slip out of sight."""

from __future__ import annotations

import select

import pytest

from tests.engines.sqlite.pitfalls.world import Agent, App, World

STEP_ASIDE = "capture.hands.marks.step_aside(capture.acks.safe(capture.hands.cutter.cursor, 0.0))"
# Stand still (SIGSTOP) right before, or right after, the new mark begins.
PAUSE = """
import signal
real_begin = capture.hands.source.begin_read
def begin_read(reader):
    capture.hands.source.begin_read = real_begin
    {before}
    real_begin(reader)
    {after}
capture.hands.source.begin_read = begin_read
"""
STOP = "os.kill(os.getpid(), signal.SIGSTOP)"


def caught_up(world: World) -> tuple[App, Agent]:
    """All is shipped, acknowledged and back-filled, and the held mark is in the log: the moment to step aside."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    app.write("one")
    agent.run("capture.ship(); index = capture.hands.source.index()")
    for _ in range(2):
        agent.run("capture.hands.marks.advance(index, capture.acks.safe(capture.hands.cutter.cursor, 0.0))")
    app.execute("PRAGMA wal_checkpoint(PASSIVE)")
    assert agent.value("capture.hands.source.index().backfilled") == agent.max_frame()
    return app, agent


@pytest.mark.parametrize("mode", ["RESTART", "TRUNCATE"])
def test_a_checkpoint_that_was_busy_goes_through_and_nothing_is_lost(world: World, mode: str) -> None:
    app, agent = caught_up(world)
    assert app.execute(f"PRAGMA wal_checkpoint({mode})")[0][0] == 1  # our mark is in the way
    agent.tick()
    assert app.execute(f"PRAGMA wal_checkpoint({mode})")[0][0] == 0
    app.write("two")
    app.execute("PRAGMA wal_checkpoint(PASSIVE)")
    app.write("three")
    agent.tick()
    assert world.kinds() == ["SEED", "FRAMES", "FRAMES"]
    world.assert_equal(app)
    assert app.words() == ["first", "one", "two", "three"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("then", ["commit", "commit and restart"])
def test_a_commit_in_the_moment_of_stepping_aside_is_not_lost(world: World, when: str, then: str) -> None:
    """Between the look at the log and the new mark, or between that and the second look, X is committed."""
    app, agent = caught_up(world)
    agent.run(PAUSE.format(before=STOP if when == "before" else "", after=STOP if when == "after" else ""))
    agent.send(value=STEP_ASIDE)
    agent.wait_stopped()
    app.write("X")
    if then == "commit and restart":
        assert app.execute("PRAGMA wal_checkpoint(RESTART)")[0][0] == 1  # the held mark does not let X go
    agent.go_on()
    assert agent.answer() is False
    app.write("Y")
    app.execute("PRAGMA wal_checkpoint(RESTART)")
    app.write("Z")
    for _ in range(3):
        agent.tick()
    assert set(world.kinds()[1:]) == {"FRAMES"}
    world.assert_equal(app)
    assert app.words() == ["first", "one", "X", "Y", "Z"]


def test_what_is_not_acknowledged_is_not_let_go(world: World) -> None:
    app, agent = caught_up(world)
    agent.run("capture.acks_itself = False")
    app.write("two")
    agent.tick()
    app.execute("PRAGMA wal_checkpoint(PASSIVE)")
    agent.tick()
    assert app.execute("PRAGMA wal_checkpoint(RESTART)")[0][0] == 1
    agent.run("capture.acks.acknowledge(capture.hands.cutter.cursor.history, capture.hands.cutter.cursor.number)")
    agent.tick()
    app.execute("PRAGMA wal_checkpoint(PASSIVE)")
    agent.tick()
    assert app.execute("PRAGMA wal_checkpoint(RESTART)")[0][0] == 0
    app.write("three")
    agent.tick()
    world.assert_equal(app)


def test_a_mark_that_shares_the_slot_of_a_reader_that_left_does_not_stay_in_the_way(world: World) -> None:
    """All four slots were taken as the mark began; without commits, nothing else would make it begin anew."""
    app, agent = caught_up(world)
    readers = ("one reader", "another reader", "a third reader")
    for name in readers:
        app.write(name)
        app.open(name=name)
        app.execute("BEGIN", name=name)
        app.execute("SELECT count(*) FROM t", name=name)
    app.write("two")
    for _ in range(2):
        agent.tick()
    for name in readers:
        app.execute("COMMIT", name=name)
    app.open(name="patient", timeout=5.0)
    app.send(do="execute", name="patient", sql="PRAGMA wal_checkpoint(RESTART)", values=[])
    assert app.process.stdout is not None
    while not select.select([app.process.stdout], [], [], 0.02)[0]:
        agent.tick()
    assert app.answer()[0][0] == 0
    app.write("three")
    agent.tick()
    assert set(world.kinds()[1:]) == {"FRAMES"}
    world.assert_equal(app)


PREPARE = "capture_requests.SEAL_TRIES = 10**6; capture.requests._prepare({'checkpoint': True}, None)"
SEED = "seed_again(capture, 'asked for')"


@pytest.mark.parametrize("mode", ["FULL", "RESTART", "TRUNCATE"])
@pytest.mark.parametrize("work", [PREPARE, SEED])
def test_long_work_does_not_keep_a_checkpoint_waiting(world: World, mode: str, work: str) -> None:
    """The work wants the write lock that the checkpoint has, and the checkpoint wants our mark to go: it goes first."""
    app, agent = caught_up(world)
    app.write("two")
    agent.run("from backupd.engines.sqlite import capture_requests; from backupd.engines.sqlite.beginning import *")
    app.open(name="patient", timeout=20.0)
    app.send(do="execute", name="patient", sql=f"PRAGMA wal_checkpoint({mode})", values=[])
    while not agent.value("capture.hands.source.blocking_checkpoint()"):
        assert app.process.stdout is not None
        assert not select.select([app.process.stdout], [], [], 0.01)[0], "it did not wait for our mark"
    agent.send(run=work)
    assert app.answer()[0][0] == 0
    agent.answer()
    app.write("three")
    agent.tick()
    world.assert_equal(app)
    assert app.words() == ["first", "one", "two", "three"]
