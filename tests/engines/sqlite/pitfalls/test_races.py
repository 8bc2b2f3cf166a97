"""Pitfall 5: a commit that falls between two read marks; and what still holds when the write lock does not."""

from __future__ import annotations

import pytest

from tests.engines.sqlite.pitfalls.world import OrderFailed, World


def test_pitfall_05_rotation_race(world: World) -> None:
    """Ship, release the mark, and right there another process commits X, then Y after the checkpoint.

    The seal holds the write lock over the whole rotation, so X gets BUSY (the
    application has no busy timeout), comes again afterwards, and nothing is lost.
    """
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    app.write("shipped")
    agent.stop_at(2, "capture.checkpoint")  # the first one is before the lock, the second after the release
    agent.send(value="capture.seal(0.0)")
    agent.wait_stopped()
    with pytest.raises(OrderFailed) as busy:
        app.write("X")
    assert busy.value.because == "database is locked"
    agent.go_on()
    assert agent.answer() is True
    app.write("X")
    app.write("Y")
    agent.tick()
    assert world.kinds() == ["SEED", "FRAMES", "FRAMES"]
    world.assert_equal(app)
    assert app.words() == ["first", "shipped", "X", "Y"]


def test_pitfall_05_without_the_barrier_a_commit_is_lost(world: World) -> None:
    """The negative control: the same rotation without the write lock loses X, and nothing complains.

    This is what shows that the test above can fail.
    """
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    app.write("shipped")
    agent.ship()
    app.write("X")
    agent.run("capture.hands.marks.release_all()")
    agent.run("capture.hands.source.checkpoint_passive()")
    agent.run("cursor = capture.hands.cutter.cursor")
    assert agent.value("capture.hands.marks.stand().on_slot_zero")
    agent.run("capture.sealed = Sealed(cursor.salts, cursor.frame, True)")
    app.write("Y")
    agent.tick()
    assert world.kinds() == ["SEED", "FRAMES", "FRAMES"]
    world.passive.follow_anyway()
    assert world.passive.path.read_bytes() != world.content(app)


@pytest.mark.parametrize("restarts_too", [False, True], ids=["committed", "restarted"])
def test_pitfall_05_a_lock_that_does_not_hold_is_noticed(world: World, restarts_too: bool) -> None:
    """The write lock of the seal is lost (pitfall 31 is one way): the commit that slips in makes a gap, not a hole."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    app.write("shipped")
    agent.run("capture.hands.source.lock_write = exposed_barrier")
    agent.stop_at(2, "capture.checkpoint")
    agent.send(value="capture.seal(0.0)")
    agent.wait_stopped()
    app.write("X")
    if restarts_too:
        app.execute("PRAGMA wal_checkpoint(RESTART)")
        app.write("Y")
    agent.go_on()
    with pytest.raises(OrderFailed) as failed:
        agent.answer()
    assert failed.value.kind == "LogGapError"
    agent.run("del capture.hands.source.lock_write")
    assert agent.begin("after a gap") in {"go on", "delta"}
    app.write("Z")
    agent.tick()
    world.assert_equal(app)


def test_the_marks_never_leave_a_moment(world: World) -> None:
    """Between two seals the marks move hand over hand: no commit that was not acknowledged reaches the main file."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    agent.run("capture.acks_itself = False")
    for word in ("a", "b", "c"):
        app.write(word, rows=5)
        agent.tick()
        _, log, done = app.execute("PRAGMA wal_checkpoint(PASSIVE)")[0]
        assert done < log
        assert done <= agent.value("capture.acks.last[1]") or agent.value("capture.acks.last_number") <= 1
    assert agent.seal() is False  # nobody acknowledges, so the lock is given back and the marks stay
    assert agent.value("capture.hands.sealer.stats.abandoned") == 1
    app.write("d")
    agent.run("capture.acks.acknowledge(capture.hands.cutter.cursor.history, capture.hands.cutter.cursor.number)")
    agent.run("capture.acks_itself = True")
    agent.tick()
    assert agent.seal()
    _, log, done = app.execute("PRAGMA wal_checkpoint(PASSIVE)")[0]
    assert done == log
    world.assert_equal(app)
