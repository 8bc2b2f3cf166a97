"""Commits that are made while a seed or a comparison reads the database keep their own moments."""

from __future__ import annotations

import pytest

from backupd.engines.sqlite.logfile import read_header
from tests.engines.sqlite.pitfalls.world import World

# Two commits by another process, each between two blocks of the scan.
COMMITS = """
import subprocess
pulse, beats = capture.pulse, []
def beating():
    pulse()
    beats.append(1)
    if len(beats) in (2, 3):
        code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=9); c.execute(sys.argv[2]); c.commit()"
        sql = "CREATE TABLE beat%d (n)" % len(beats)
        subprocess.run([sys.executable, "-c", code, str(capture.config.db_path), sql], check=True)
capture.pulse = beating
"""


@pytest.mark.parametrize("scan", ["seed", "delta"])
def test_commits_inside_a_scan_have_marks_of_their_own(world: World, scan: str) -> None:
    app = world.writing_app()
    app.execute("CREATE TABLE big (b)")
    for _ in range(5):
        app.execute("INSERT INTO big VALUES (zeroblob(4000000))")
    agent = world.agent()
    if scan == "delta":
        agent.begin()
        agent.kill()
        app.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        app.write("unseen")
        agent = world.agent()
    agent.run("import sys" + COMMITS)
    assert agent.begin() == {"seed": "full seed", "delta": "delta"}[scan]
    assert len(agent.value("[mark.frame for mark in capture.hands.cutter.seen]")) == 2
    agent.ship()
    found = world.logs.history(world.logs.histories()[0])
    newest = found.newest()
    assert newest is not None
    header = read_header(found.path_of(newest))
    assert header.kind.name == "FRAMES"
    assert header.marks_count == 2
    world.assert_equal(app)
