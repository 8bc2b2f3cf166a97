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


def checkpoints(made: house.Installation, mode: str) -> list[float]:
    """Six commits, each with a checkpoint a little later; answers how long each checkpoint took."""
    waits = []
    with contextlib.closing(sqlite3.connect(made.active, timeout=2, isolation_level=None)) as application:
        for number in range(6):
            application.execute("INSERT INTO visits VALUES(NULL, ?, 0)", (number,))
            time.sleep(number / 10)
            began = time.monotonic()
            busy, log, done = application.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            waits.append(time.monotonic() - began)
            assert mode == "PASSIVE" or not busy, f"{mode} was refused after {waits[-1]:.2f} s ({log}, {done})"
    house.say(f"{mode}: at most {max(waits):.3f} s")
    return waits


@pytest.mark.parametrize("passive", ["answers", "hangs"])
@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_by_the_application_is_not_kept_waiting(mode: str, passive: str) -> None:
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
        checkpoints(made, mode)
        os.kill(replayer, signal.SIGCONT)
        made.settle()
        assert house.different_pages(made.active, made.passive) == []
