"""Pitfalls 9 and 10: the power fails, and what the passive holds must not be ahead of what the active still has."""

from __future__ import annotations

import shutil

import pytest

from backupd.engines.sqlite import wal
from tests.engines.sqlite.pitfalls.world import App, OrderFailed, World


def lose_power(world: World, app: App, keep_frames: int) -> App:
    """Everybody dies, memory is gone, and of the -wal only so many frames have reached the disk."""
    for one in world.driven:
        one.kill()
    world.shm.unlink()
    with world.wal.open("r+b") as file:
        file.truncate(wal.frame_offset(keep_frames + 1, 4096))
    again = world.app()
    again.open("wal_autocheckpoint=0", "synchronous=NORMAL")
    return again


@pytest.mark.parametrize("writes", [0, 1, 9], ids=["shorter", "same-length", "longer"])
def test_pitfall_09_power_loss_takes_what_was_shipped(world: World, writes: int) -> None:
    """A disk that lied about fsync loses shipped commits; new ones take their offsets, under the same salts.

    The sums at the last shipped frame tell, every page is compared, and the passive comes back to the active.
    """
    app, agent = world.writing_app("synchronous=NORMAL"), world.agent()
    agent.begin()
    app.write("kept")
    agent.tick()
    kept = agent.max_frame()
    for word in ("lost", "lost too"):
        app.write(word)
        agent.tick()
    world.passive.follow()
    salts = agent.salts()
    app = lose_power(world, app, kept)
    for number in range(writes):
        app.write(f"other {number}", rows=1 + number % 3)
    agent = world.agent()
    assert agent.begin() == "delta"
    assert agent.salts() == salts
    world.assert_equal(app)
    assert "lost" not in app.words()
    world.assert_restorable(app)


def test_pitfall_09_power_loss_takes_only_what_was_not_shipped(world: World) -> None:
    """The unsynced tail is gone, the shipped part is there (it was synced before): nothing to compare, it goes on."""
    app, agent = world.writing_app("synchronous=NORMAL"), world.agent()
    agent.begin()
    app.write("shipped")
    agent.tick()
    kept = agent.max_frame()
    app.write("visible, not shipped")
    app = lose_power(world, app, kept)
    app.write("other")
    agent = world.agent()
    assert agent.begin() == "go on"
    agent.tick()
    world.assert_equal(app)
    assert app.words() == ["first", "shipped", "other"]


def test_pitfall_10_synchronous_off(world: World) -> None:
    """The application never syncs; while our own fsync of the -wal fails nothing is shipped."""
    app, agent = world.writing_app("synchronous=OFF"), world.agent()
    agent.begin()
    app.write("not durable yet")
    agent.run("steps.arm('fail', 1, 'capture.sync_wal')")
    with pytest.raises(OrderFailed) as failed:
        agent.ship()
    assert failed.value.kind == "InjectedFault"
    assert world.kinds() == ["SEED"]
    agent.run("steps.disarm()")
    agent.ship()
    assert world.kinds() == ["SEED", "FRAMES"]
    world.assert_equal(app)


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here, and the order of system calls is the proof")
def test_pitfall_10_the_wal_is_synced_before_a_log_gets_its_name(world: World) -> None:
    """By the system calls themselves: between two closed logs there is an fsync of the -wal."""
    trace = world.directory / "trace"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2"
    app, agent = world.writing_app("synchronous=OFF"), world.agent(["strace", "-y", "-e", calls, "-o", str(trace)])
    agent.begin()
    for word in "abc":
        app.write(word)
        agent.ship()
    agent.end()
    order = []
    for line in trace.read_text().splitlines():
        if "sync(" in line and "app.db-wal>" in line:
            order.append("sync")
        elif line.startswith("rename") and ".wlog" in line:
            order.append("log")
    assert order == ["log"] + ["sync", "log"] * 3  # the first is the seed
    world.assert_equal(app)
