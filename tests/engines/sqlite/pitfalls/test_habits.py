"""Pitfalls 12, 20, 21, 23, 28 and the mark that steps aside: what applications and disks do that is not meant badly."""

from __future__ import annotations

import pytest

from backupd.engines.sqlite import wal
from backupd.engines.sqlite.control_client import ControlClient
from tests.engines.sqlite.pitfalls.world import Agent, OrderFailed, World


def flip(world: World, frame: int) -> None:
    """Flip one bit in the page of a frame of the -wal."""
    at = wal.frame_offset(frame, 4096) + wal.FRAME_HEADER_BYTES + 1000
    with world.wal.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def test_pitfall_12_a_frame_rots_before_it_is_cut(world: World) -> None:
    """Flip a bit of a committed frame in the -wal: it is read three times, nothing is shipped, and it is named.

    When the byte is right again (a bad read, not a bad disk) it goes on without a gap.
    """
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    app.write("rots")
    frame = agent.max_frame()
    flip(world, frame)
    for _ in range(2):
        with pytest.raises(OrderFailed, match=f"frame {frame} of its -wal does not match") as failed:
            agent.tick()
        assert failed.value.kind == "NotHealthy"
    assert world.kinds() == ["SEED"]
    flip(world, frame)
    agent.tick()
    assert world.kinds() == ["SEED", "FRAMES"]
    world.assert_equal(app)


@pytest.mark.parametrize("seeded", [False, True], ids=["full", "delta"])
def test_pitfall_12_a_frame_is_rotten_when_capture_begins(world: World, seeded: bool) -> None:
    """The same when every page must be read through the log: an alarm with a sentence, and no seed of rotten pages."""
    app = world.writing_app()
    if seeded:
        agent = world.agent()
        agent.begin()
        agent.kill()
        app.execute("PRAGMA wal_checkpoint(RESTART)")
        app.write("a new generation")
    app.write("rots", rows=3)
    flip(world, 2)
    with pytest.raises(OrderFailed, match="frame 2 of its -wal does not match") as failed:
        world.agent().begin()
    assert failed.value.kind == "NotHealthy"
    assert world.kinds() == ["SEED"] * seeded


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
def test_pitfall_20_the_application_checkpoints_by_itself(world: World, mode: str) -> None:
    """Commit, checkpoint, commit, checkpoint, with the agent looking in between, or not: busy or harmless, no loss."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    for turn in range(6):
        app.write(f"{turn}", rows=3)
        if turn % 2:
            agent.tick()
        app.execute(f"PRAGMA wal_checkpoint({mode})")
        app.write(f"{turn} after")
        if turn % 3:
            agent.tick()
        if turn == 4:
            agent.seal()
    agent.tick()
    assert set(world.kinds()[1:]) == {"FRAMES"}
    world.assert_equal(app)


def test_pitfall_21_a_reader_stays_for_hours(world: World) -> None:
    """A read transaction of the application holds the log: shipping and sealing go on, nothing waits for it."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    app.open("wal_autocheckpoint=0", name="reader")
    app.execute("BEGIN", name="reader")
    app.execute("SELECT count(*) FROM t", name="reader")
    for word in "abc":
        app.write(word, rows=5)
        agent.tick()
        assert agent.seal() is False  # not full: the reader needs the frames
    assert app.execute("SELECT count(*) FROM t", name="reader") == [[1]]
    app.execute("COMMIT", name="reader")
    assert agent.seal()
    world.assert_equal(app)


def test_pitfall_23_a_writer_holds_the_lock(world: World) -> None:
    """BEGIN IMMEDIATE for a long time: the seal gives up and says so, shipping goes on."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    app.write("shipped")
    app.execute("BEGIN IMMEDIATE")
    app.insert("not yet")
    agent.tick()
    assert agent.seal() is False
    assert agent.value("capture.hands.sealer.stats.abandoned") == 1
    assert world.kinds() == ["SEED", "FRAMES"]
    app.execute("COMMIT")
    agent.tick()
    assert agent.seal()
    world.assert_equal(app)


def test_pitfall_28_another_page_size_while_the_agent_is_down(world: World) -> None:
    """Agent down: journal_mode=DELETE, page_size and VACUUM, back to WAL.  No log leads there: a full seed."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    world.passive.follow()
    agent.kill()
    for statement in ("journal_mode=DELETE", "page_size=8192", "VACUUM", "journal_mode=WAL"):
        app.execute(statement if statement == "VACUUM" else f"PRAGMA {statement}")
    agent = world.agent()
    assert agent.begin() == "full seed"
    app.write("in bigger pages")
    agent.tick()
    assert world.kinds() == ["SEED", "SEED", "FRAMES"]
    assert len(world.logs.histories()) == 2
    world.assert_equal(app)


def pause(agent: Agent, where: str, call: str) -> None:
    """Stand still right before or after the next call of this hand of the source."""
    stop = "os.kill(os.getpid(), 19)"
    agent.run(
        f"real = capture.hands.source.{call}\n"
        "def paused(*words):\n"
        f"    del capture.hands.source.{call}\n"
        + (f"    {stop}\n    return real(*words)\n" if where == "before" else f"    real(*words)\n    {stop}\n")
        + f"capture.hands.source.{call} = paused"
    )


@pytest.mark.parametrize("checkpoint", ["PASSIVE", "TRUNCATE"])
@pytest.mark.parametrize(
    ("where", "call"),
    [("before", "begin_read"), ("after", "begin_read"), ("before", "end_read"), ("after", "end_read")],
)
def test_the_mark_steps_aside_while_others_write(world: World, where: str, call: str, checkpoint: str) -> None:
    """The mark moves to slot 0 when all is acknowledged and back-filled; a commit falls between each of its steps.

    Wherever it falls, it is shipped; and afterwards the application's own TRUNCATE is not kept waiting.
    """
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    app.write("shipped")
    agent.tick()
    agent.tick()
    app.execute("PRAGMA wal_checkpoint(PASSIVE)")
    pause(agent, where, call)
    agent.send(run="capture.tick()")
    agent.wait_stopped()
    app.write("in between")
    app.execute(f"PRAGMA wal_checkpoint({checkpoint})")
    app.write("and once more")
    agent.go_on()
    agent.answer()
    for _ in range(3):
        agent.tick()
    app.execute("PRAGMA wal_checkpoint(PASSIVE)")
    agent.tick()
    assert set(world.kinds()[1:]) == {"FRAMES"}
    world.assert_equal(app)
    agent.seal()
    assert app.execute("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0
    app.write("at last")
    agent.tick()
    assert set(world.kinds()[1:]) == {"FRAMES"}
    world.assert_equal(app)


def test_a_mark_that_stepped_aside_keeps_no_checkpoint_waiting(world: World) -> None:
    """All shipped and back-filled: the next tick gives the way free, without a seal, and the restart is accepted."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    app.write("shipped")
    agent.tick()
    agent.tick()
    app.execute("PRAGMA wal_checkpoint(PASSIVE)")
    assert app.execute("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 1
    agent.tick()
    assert app.execute("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0
    app.write("restarted")
    agent.tick()
    assert world.kinds() == ["SEED", "FRAMES", "FRAMES"]
    world.assert_equal(app)


def test_a_seed_that_waits_for_a_writer_answers_all_the_same(world: World) -> None:
    """A person asks for a seed while a long transaction holds the write lock: the capture waits, and can be asked."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    world.passive.follow()
    app.execute("BEGIN IMMEDIATE")
    app.insert("a long transaction")
    agent.run("from backupd.engines.sqlite.beginning import seed_again")
    agent.send(run="seed_again(capture, 'a person asked for it')")
    with ControlClient(world.state / "capture.sock", who="the capture") as client:
        assert client.call("status")["pid"] == agent.own_pid
    app.execute("COMMIT")
    agent.answer()
    assert world.kinds() == ["SEED", "FRAMES", "SEED"]
    world.assert_equal(app)
