"""What a restore that died has parked comes back, but never over what programs have written since."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from backupd.bootstrap import SystemClock
from backupd.engines.sqlite.restore_stage import stage_of
from backupd.engines.sqlite.writer import SqliteWriter

PARKED = "app.db-wal.before-restore"


@pytest.fixture
def writer(tmp_path: Path) -> SqliteWriter:
    """A pair whose restore died between parking the old file's log and the rename."""
    with sqlite3.connect(tmp_path / "app.db") as app:
        app.execute("CREATE TABLE t (n)")
    app.close()
    stage_of(tmp_path / "app.db").write_bytes(b"the restored file")
    (tmp_path / PARKED).write_bytes(b"the log of the old file")
    made = SqliteWriter(
        database="orders",
        copies={"a": tmp_path / "app.db", "b": tmp_path / "passive.db"},
        first_active="a",
        state_dir=tmp_path / "state",
        options={},
        clock=SystemClock(),
    )
    made.pair_state()
    return made


def test_a_parked_log_comes_back(writer: SqliteWriter, tmp_path: Path) -> None:
    assert any("put app.db-wal back" in sentence for sentence in writer.recover())
    assert (tmp_path / "app.db-wal").read_bytes() == b"the log of the old file"
    assert not (tmp_path / PARKED).exists()


def test_a_parked_log_never_replaces_a_newer_one(writer: SqliteWriter, tmp_path: Path) -> None:
    (tmp_path / "app.db-wal").write_bytes(b"commits of today")
    said = writer.recover()
    assert (tmp_path / "app.db-wal").read_bytes() == b"commits of today"
    assert (tmp_path / PARKED).read_bytes() == b"the log of the old file"
    assert any(PARKED in sentence for sentence in said)
