"""A seed replaces only a file that backupd itself has put at the passive's path."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from backupd.bootstrap import SystemClock
from backupd.engines.sqlite.writer import SqliteWriter
from backupd.errors import NotHealthy, Refused
from backupd.model.pair import CopyState
from tests.engines.sqlite.test_seed_keeps_the_log import quiet


def made(path: Path, rows: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    app = sqlite3.connect(path, isolation_level=None)
    app.execute("PRAGMA journal_mode=WAL")
    app.execute("CREATE TABLE t (n)")
    app.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(rows)])
    app.close()
    return path


def writer_of(tmp_path: Path, passive: Path) -> SqliteWriter:
    return SqliteWriter(
        database="orders",
        copies={"a": made(tmp_path / "app.db", 3), "b": passive},
        first_active="a",
        state_dir=tmp_path / "state",
        options={},
        clock=SystemClock(),
    )


@pytest.mark.parametrize("kind", ["another database", "a text", "a directory"])
def test_somebodys_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    passive = tmp_path / "other" / "precious.db"
    if kind == "another database":
        made(passive, 500)
    elif kind == "a text":
        passive.parent.mkdir()
        passive.write_text("years of work")
    else:
        passive.mkdir(parents=True)
    before = passive.read_bytes() if passive.is_file() else b""
    writer = writer_of(tmp_path, passive)
    with pytest.raises(Refused) as found, writer.replication():
        pass
    assert str(passive) in found.value.because
    assert (passive.read_bytes() if passive.is_file() else b"") == before
    assert writer.pair().passive.state is CopyState.FAILED
    assert not passive.with_name(passive.name + ".backupd-seed").exists()


def test_a_missing_directory_is_told_with_its_remedy(tmp_path: Path) -> None:
    writer = writer_of(tmp_path, tmp_path / "nowhere" / "app.db")
    with pytest.raises(NotHealthy) as found, writer.replication():
        pass
    assert found.value.next_step == f"mkdir -p -m 700 {tmp_path / 'nowhere'}"


def test_our_own_file_and_an_empty_one_are_replaced(tmp_path: Path) -> None:
    passive = tmp_path / "passive" / "app.db"
    passive.parent.mkdir()
    passive.touch()
    writer = writer_of(tmp_path, passive)
    for _ in range(2):
        with writer.replication():
            writer.seed()
            writer.prepare(checkpoint=True, timeout_seconds=30, report=quiet)
    assert passive.read_bytes() == writer.copies["a"].read_bytes()
