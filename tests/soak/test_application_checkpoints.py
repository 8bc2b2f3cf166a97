"""An application that checkpoints by itself is kept waiting neither long nor with others behind it."""

from __future__ import annotations

import contextlib
import sqlite3
import time

import pytest

from tests.soak import house, load

MODES = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")


@pytest.mark.parametrize("mode", MODES)
def test_a_checkpoint_by_the_application_is_done_within_a_second(mode: str) -> None:
    """With Python's usual timeout a checkpoint would hold the write lock for 5 s while our read mark stands."""
    with house.installation() as made:
        load.create(made.active)
        made.init()
        made.start_service()
        made.wait_healthy()
        with contextlib.closing(sqlite3.connect(made.active, timeout=5, isolation_level=None)) as application:
            waits = []
            for number in range(6):
                application.execute("INSERT INTO visits VALUES(NULL, ?, 0)", (number,))
                time.sleep(number / 10)
                began = time.monotonic()
                busy, log, done = application.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
                waits.append(time.monotonic() - began)
                assert mode == "PASSIVE" or not busy, f"{mode} was refused after {waits[-1]:.2f} s ({log}, {done})"
        print(f"{mode}: at most {max(waits):.3f} s")
        assert max(waits) < 1.0
        made.settle()
        assert house.different_pages(made.active, made.passive) == []
