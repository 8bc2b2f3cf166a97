"""Log of an ended history leaves the copies only as far as the archive has it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from backupd.bootstrap import SystemClock
from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.writer import SqliteWriter
from backupd.model.pair import CopyState
from backupd.model.position import Position
from backupd.model.records import Progress


def quiet(_progress: Progress) -> None:
    """Report to nobody."""


@pytest.fixture
def writer(tmp_path: Path) -> SqliteWriter:
    active, passive = tmp_path / "app.db", tmp_path / "passive" / "app.db"
    passive.parent.mkdir()
    with sqlite3.connect(active, isolation_level=None) as app:
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("CREATE TABLE t (n)")
    app.close()
    return SqliteWriter(
        database="orders",
        copies={"a": active, "b": passive},
        first_active="a",
        state_dir=tmp_path / "state",
        options={},
        clock=SystemClock(),
    )


def _commit_and_close_log(writer: SqliteWriter, value: int) -> Position:
    app = sqlite3.connect(writer.copies["a"], isolation_level=None, timeout=10)
    app.execute("INSERT INTO t VALUES (?)", (value,))
    app.close()
    return writer.prepare(checkpoint=True, timeout_seconds=30, report=quiet).position


def _wait_until_healthy(writer: SqliteWriter) -> None:
    deadline = time.monotonic() + 30
    while writer.pair().passive.state is not CopyState.HEALTHY:
        assert time.monotonic() < deadline, "the passive did not get well in 30 s"
        time.sleep(0.05)


def test_what_no_backup_holds_stays_when_the_file_was_replaced(writer: SqliteWriter, tmp_path: Path) -> None:
    roots = (writer.active_files().logs, writer.passive_files().logs)
    with writer.replication():
        archived = _commit_and_close_log(writer, 1)
        lost = _commit_and_close_log(writer, 2)
    older = tmp_path / "older.db"
    shutil.copyfile(writer.copies["a"], older)
    for name in ("app.db-wal", "app.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    os.replace(older, writer.copies["a"])
    with writer.replication():
        _wait_until_healthy(writer)
        now = _commit_and_close_log(writer, 3)
        assert not now.same_history(lost)
        truncated = writer.truncate(now, {archived.history: archived.offset})
        for root in roots:
            kept = [log for log, _ in LogDir(root).history(lost.history).closed()]
            assert kept[0].start == archived
            assert kept[-1].end == lost
        assert [archived.history in sentence for sentence in truncated.kept] == [True]
        # The archive has let the backups of that history go: nothing could be built with its log any more.
        assert writer.truncate(now, {}).kept == ()
        assert [LogDir(root).histories() for root in roots] == [[now.history]] * 2
