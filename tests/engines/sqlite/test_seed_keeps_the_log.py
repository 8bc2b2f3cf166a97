"""A passive that is made anew still has the log that the next increment takes, and knows the stamps in it."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupd.bootstrap import SystemClock
from backupd.engines.sqlite.writer import SqliteWriter
from backupd.model.pair import CopyState
from backupd.model.records import BackupType, LogKind, Progress, Stamp


def quiet(_progress: Progress) -> None:
    """Report to nobody."""


@pytest.fixture
def writer(tmp_path: Path) -> SqliteWriter:
    active, passive = tmp_path / "app.db", tmp_path / "passive" / "app.db"
    passive.parent.mkdir()
    with sqlite3.connect(active, isolation_level=None) as app:
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("CREATE TABLE t (n)")
    return SqliteWriter(
        database="orders",
        copies={"a": active, "b": passive},
        first_active="a",
        state_dir=tmp_path / "state",
        options={},
        clock=SystemClock(),
    )


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in 30 s"
        time.sleep(0.05)


@pytest.mark.parametrize("lost", ["the file", "everything"])
def test_an_increment_after_a_seed_finds_no_gap(writer: SqliteWriter, lost: str) -> None:
    app = sqlite3.connect(writer.copies["a"], isolation_level=None, timeout=10)
    with writer.replication():
        base = writer.prepare(checkpoint=False, timeout_seconds=30, report=quiet).position
        stamp = Stamp(BackupType.FULL, "the full", base, datetime.now(UTC))
        assert writer.stamp(stamp, 30)
        app.execute("INSERT INTO t VALUES (1)")
        before = writer.prepare(checkpoint=False, timeout_seconds=30, report=quiet).position
    if lost == "the file":
        writer.copies["b"].unlink()
    else:
        shutil.rmtree(writer.copies["b"].parent)
        writer.copies["b"].parent.mkdir()
        shutil.rmtree(writer.passive_files().directory)
    app.execute("INSERT INTO t VALUES (2)")
    with writer.replication():
        if lost == "the file":
            _wait(lambda: writer.pair().passive.state is not CopyState.INITIALIZING)
            writer.seed()
        _wait(lambda: writer.pair().passive.state is CopyState.HEALTHY)
        app.execute("INSERT INTO t VALUES (3)")
        after = writer.prepare(checkpoint=True, timeout_seconds=30, report=quiet).position
        closed = writer.closed_logs(base, after)
        assert closed[0].log.start == base
        assert closed[-1].log.end == after
        assert any(one.log.end == before for one in closed)
        # A seed that changed nothing may not stop a restore: an increment of these files must lead to its own end.
        assert all(one.log.kind is not LogKind.SEED for one in closed)
        seen = writer.stamps().full
        assert seen is not None
        assert seen.backup_id == "the full"
    app.close()
    assert writer.copies["b"].read_bytes() == writer.copies["a"].read_bytes()


def test_a_log_that_is_lost_on_the_passive_alone_moves_where_its_log_begins(writer: SqliteWriter) -> None:
    """Else every increment would fail at the gap; so it is raised to a full, which ends it."""
    app = sqlite3.connect(writer.copies["a"], isolation_level=None, timeout=10)
    with writer.replication():
        base = writer.prepare(checkpoint=False, timeout_seconds=30, report=quiet).position
        for n in range(4):
            app.execute("INSERT INTO t VALUES (?)", (n,))
            last = writer.prepare(checkpoint=False, timeout_seconds=30, report=quiet).position
        whole = writer.truncation_evidence().passive_log_from
        assert whole is not None
        assert whole <= base
    app.close()
    closed = writer.closed_logs(base, last)
    closed[1].path.unlink()
    begins = writer.truncation_evidence().passive_log_from
    assert begins == closed[2].log.start
