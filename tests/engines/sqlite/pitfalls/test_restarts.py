"""Pitfalls 1 to 4: the log begins again at its first frame, and every way in which that can be misread."""

from __future__ import annotations

import pytest

from tests.engines.sqlite.pitfalls.world import OrderFailed, World


def test_pitfall_01_slot_0_reader_log_restarts_under_it(world: World) -> None:
    """Checkpoint fully, begin the read mark, write: SQLite restarts the log under the mark.

    The new generation is accepted, without a gap and without a comparison, because all before it was sealed.
    """
    app, agent = world.writing_app(), world.agent()
    app.execute("PRAGMA wal_checkpoint(PASSIVE)")
    agent.begin()
    assert agent.value("capture.sealed.full")
    before = agent.salts()
    app.write("after the restart")
    assert agent.salts() != before
    assert agent.max_frame() == 1  # the first frame again
    agent.tick()
    assert world.kinds() == ["SEED", "FRAMES"]
    world.assert_equal(app)


def test_pitfall_01_without_the_seal_the_same_restart_is_a_gap(world: World) -> None:
    """The same interleaving, with the memory of the seal taken away: the salts alone prove nothing."""
    app, agent = world.writing_app(), world.agent()
    app.execute("PRAGMA wal_checkpoint(PASSIVE)")
    agent.begin()
    agent.run("capture.sealed = None")
    app.write("after the restart")
    with pytest.raises(OrderFailed) as failed:
        agent.tick()
    assert failed.value.kind == "LogGapError"
    assert agent.begin("after a gap") == "delta"
    assert world.kinds() == ["SEED", "DELTA"]
    world.assert_equal(app)


def test_pitfall_02_unsealed_restart(world: World) -> None:
    """Drop the read mark, let the application checkpoint and write: frames are gone before they were cut.

    A gap is raised, every page is compared, and the chain of logs has no hole.
    """
    app, agent = world.writing_app("wal_autocheckpoint=10"), world.agent()
    agent.begin()
    app.write("shipped")
    agent.tick()
    agent.run("capture.hands.marks.release_all()")
    for word in "abcdef":
        app.write(word, rows=20)
    with pytest.raises(OrderFailed) as failed:
        agent.tick()
    assert failed.value.kind == "LogGapError"
    assert agent.begin("after a gap") == "delta"
    app.write("after the gap")
    agent.tick()
    assert world.kinds() == ["SEED", "FRAMES", "DELTA", "FRAMES"]
    world.assert_equal(app)
    world.assert_restorable(app)


def test_pitfall_03_agent_down_over_several_restarts(world: World) -> None:
    """With the agent dead the application restarts the log, truncates it, and a fresh process writes: random salts.

    What happened is unknown, so every page is compared.
    """
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    agent.kill()
    for word in ("one", "two"):
        app.write(word, rows=5)
        app.execute("PRAGMA wal_checkpoint(RESTART)")
    app.write("three")
    app.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other = world.app()
    other.open("wal_autocheckpoint=0")
    other.write("by a fresh process")
    assert world.agent().begin() == "delta"
    world.assert_equal(app)
    world.assert_restorable(app)


@pytest.mark.parametrize("looks_between", [False, True], ids=["not-seen", "seen"])
def test_pitfall_03_agent_up_and_sealed(world: World, looks_between: bool) -> None:
    """The same truncation while the agent lives and has sealed: accepted, although both salts are random."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    assert agent.seal()
    assert app.execute("PRAGMA wal_checkpoint(TRUNCATE)") == [[0, 0, 0]]
    assert world.wal.stat().st_size == 0
    if looks_between:
        agent.tick()
    other = world.app()
    other.open("wal_autocheckpoint=0")
    other.write("by a fresh process")
    agent.tick()
    assert world.kinds() == ["SEED", "FRAMES"]
    world.assert_equal(app)


def test_pitfall_04_salts_and_size_unchanged(world: World) -> None:
    """After a restart commits reuse the space of the -wal: neither its size nor its salts move, only mxFrame does."""
    app, agent = world.writing_app(), world.agent()
    app.write("makes the log long", rows=60)
    agent.begin()
    assert agent.seal()
    app.write("restarts it")
    agent.tick()
    size, salts = world.wal.stat().st_size, agent.salts()
    for word in ("small", "and small"):
        app.write(word)
        agent.tick()
        assert (world.wal.stat().st_size, agent.salts()) == (size, salts)
    assert world.kinds() == ["SEED", "FRAMES", "FRAMES", "FRAMES"]
    world.assert_equal(app)
