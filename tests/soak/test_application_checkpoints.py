"""An application that checkpoints by itself is kept waiting neither long nor with others behind it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time

import pytest

from tests.soak import house, load

MODES = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")


def checkpoints(made: house.Installation) -> None:
    """In each mode a few commits, each with a checkpoint a little later."""
    with contextlib.closing(sqlite3.connect(made.active, timeout=2, isolation_level=None)) as application:
        for mode in MODES:
            longest = 0.0
            for number in range(4):
                application.execute("INSERT INTO visits VALUES(NULL, ?, 0)", (number,))
                time.sleep(number / 8)
                began = time.monotonic()
                busy, log, done = application.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
                longest = max(longest, time.monotonic() - began)
                assert mode == "PASSIVE" or not busy, f"{mode} was refused after {longest:.2f} s ({log}, {done})"
            house.say(f"{mode}: at most {longest:.3f} s")


@pytest.mark.parametrize("passive", ["answers", "hangs"])
def test_a_checkpoint_by_the_application_is_not_kept_waiting(passive: str) -> None:
    """It would hold the write lock until its timeout (Python: 5 s; here: 2 s) while our read mark stands.

    A passive that hangs does not change that: what is closed and durable on the active is enough to step aside.
    """
    with house.installation() as made:
        load.create(made.active)
        made.init()
        made.start_service()
        made.wait_healthy()
        replayer = made.processes()["replayer"]
        if passive == "hangs":
            os.kill(replayer, signal.SIGSTOP)
        checkpoints(made)
        os.kill(replayer, signal.SIGCONT)
        made.settle()
        assert house.different_pages(made.active, made.passive) == []
