"""Pitfalls 29 and 30: a name leads to another file than the one that is open."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.engines.sqlite.pitfalls.world import Agent, OrderFailed, World


def another_database(path: Path) -> Path:
    """A database that nobody uses, in WAL mode, with no log beside it."""
    made = sqlite3.connect(path, isolation_level=None)
    made.execute("PRAGMA journal_mode=WAL")
    made.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, word TEXT, wide TEXT)")
    made.execute("INSERT INTO t(word) VALUES ('of the new file')")
    made.close()
    assert not path.with_name(path.name + "-wal").exists()
    return path


def refuses(agent: Agent, what: str = "begin") -> str:
    """The reason for which it stops."""
    with pytest.raises(OrderFailed) as failed:
        agent.tick() if what == "tick" else agent.begin()
    assert failed.value.kind in {"FileLostError", "NotHealthy"}
    return failed.value.because


def test_pitfall_29_the_database_is_replaced_by_mv(world: World) -> None:
    """``mv new.db app.db`` under a live application and a live agent: both go on with the old file.

    Shipping stops with an alarm; as long as the application holds the old file no capture begins, and the
    alarm names it.  Nor while the old file's log lies beside the new one, for SQLite would read it into that.
    Then the new file gets a new history that goes on from the old one.
    """
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    world.passive.follow()
    app.write("of the old file")
    another_database(world.directory / "new.db").rename(world.path)
    assert "replaced" in refuses(agent, "tick")
    agent.end()
    assert f"pid {app.pid})" in refuses(world.agent())
    app.close()  # SQLite sees that the file was moved, and leaves the log of the old one behind
    assert "the log of the old file" in refuses(world.agent())
    world.wal.unlink()
    world.shm.unlink()
    agent = world.agent()
    assert agent.begin() == "new history"
    assert world.kinds() == ["SEED", "DELTA"]
    assert len(world.logs.histories()) == 2
    app.open("wal_autocheckpoint=0")
    app.write("after the change")
    agent.tick()
    world.assert_equal(app)
    assert app.words() == ["of the new file", "after the change"]
    world.assert_restorable(app)


def test_pitfall_29_the_database_is_removed(world: World) -> None:
    """``rm app.db``: the same alarm, and no capture begins from nothing."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    world.path.unlink()
    assert "removed" in refuses(agent, "tick")
    agent.end()
    app.end()
    with pytest.raises(OrderFailed) as failed:
        world.agent().begin()
    assert failed.value.kind == "NotFound"


@pytest.mark.parametrize("end", ["wal", "shm"])
def test_pitfall_30_the_log_is_deleted_under_live_processes(world: World, end: str) -> None:
    """``rm app.db-wal`` (or ``-shm``): the application goes on with a file that has no name.

    The agent stops with an alarm, and no capture begins beside that application: it would open a second log of
    one database.  When the application has started again, every page is compared.
    """
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    app.write("shipped")
    agent.tick()
    (world.wal if end == "wal" else world.shm).unlink()
    app.write("into the lost log")
    assert f"app.db-{end} was removed" in refuses(agent, "tick")
    agent.end()
    because = refuses(world.agent())
    assert f"app.db-{end} was removed" in because
    assert f"pid {app.pid})" in because
    app.close()
    app.open("wal_autocheckpoint=0")
    agent = world.agent()
    assert agent.begin() in {"delta", "go on"}
    app.write("afterwards")
    agent.tick()
    world.assert_equal(app)
    assert app.words() == ["first", "shipped", "into the lost log", "afterwards"]
