"""A restored SQLite file is asked by statements that only read, within a time, and nothing is written beside it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backupd.engines.sqlite.directory_target import DirectoryTarget
from backupd.engines.sqlite.scratch import opened_file
from backupd.errors import ConfigInvalid, NotHealthy
from backupd.ports import RestoreTarget, ScratchTarget

WRITES = (
    "DELETE FROM orders",
    "INSERT INTO orders VALUES (9, 'x')",
    "CREATE TABLE more(id)",
    "CREATE TEMP TABLE more(id)",
    "PRAGMA journal_mode = delete",
    "PRAGMA query_only = 0",
    "PRAGMA user_version = 9",
    "PRAGMA writable_schema = 1",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "ATTACH DATABASE '{beside}' AS other",
    "VACUUM INTO '{beside}'",
    "VACUUM",
    "BEGIN IMMEDIATE",
    "REINDEX",
    "SELECT 1; DELETE FROM orders",
    "SELECT load_extension('{beside}')",
)


@pytest.fixture
def restored(tmp_path: Path) -> Path:
    path = tmp_path / "scratch?" / "app 100%.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE orders(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        connection.execute("INSERT INTO orders VALUES (1, 'one'), (2, 'two'), (3, 'three')")
        connection.commit()
    return path


def test_it_answers_questions(restored: Path) -> None:
    with opened_file(restored) as opened:
        assert opened.ask("SELECT count(*) FROM orders", dbname=None, seconds_max=10) == [(3,)]
        assert opened.ask("SELECT id FROM orders ORDER BY id;", dbname=None, seconds_max=10) == [(1,), (2,)]
        assert opened.ask("PRAGMA user_version", dbname=None, seconds_max=10) == [(0,)]
        assert opened.ask("WITH n(i) AS (VALUES (7)) SELECT max(i) FROM n", dbname=None, seconds_max=10) == [(7,)]


@pytest.mark.parametrize("statement", WRITES)
def test_what_writes_is_refused_and_nothing_is_written(restored: Path, statement: str) -> None:
    beside, before = restored.parent / "beside.db", restored.read_bytes()
    with opened_file(restored) as opened, pytest.raises(ConfigInvalid):
        opened.ask(statement.format(beside=beside), dbname=None, seconds_max=10)
    assert restored.read_bytes() == before
    assert not beside.exists()


def test_a_question_without_an_end_is_ended(restored: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with opened_file(restored) as opened, pytest.raises(NotHealthy, match="in time"):
        opened.ask(endless, dbname=None, seconds_max=0.05)


def test_its_own_checks_look_at_pages_indexes_and_keys(restored: Path) -> None:
    with opened_file(restored) as opened:
        look = opened.look()
    assert look.asked == ("PRAGMA integrity_check", "PRAGMA foreign_key_check")
    assert not look.findings
    assert not look.notes


def test_an_index_that_lacks_a_row_is_found(restored: Path) -> None:
    with closing(sqlite3.connect(restored)) as connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE orders(id INTEGER PRIMARY KEY, name TEXT)'")
        connection.execute("DELETE FROM sqlite_schema WHERE type = 'index'")
        connection.commit()
    with closing(sqlite3.connect(restored)) as connection:
        connection.execute("CREATE INDEX by_name ON orders(name)")
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("UPDATE sqlite_schema SET sql = 'CREATE INDEX by_name ON orders(id)' WHERE name = 'by_name'")
        connection.commit()
    with opened_file(restored) as opened:
        assert opened.look().findings


def test_a_parent_that_is_not_there_is_a_note(restored: Path) -> None:
    with closing(sqlite3.connect(restored)) as connection:
        connection.execute("CREATE TABLE lines(of INTEGER REFERENCES orders(id))")
        connection.execute("INSERT INTO lines VALUES (99)")
        connection.commit()
    with opened_file(restored) as opened:
        look = opened.look()
    assert not look.findings
    assert "lines" in look.notes[0]


def test_what_is_no_database_does_not_open(tmp_path: Path) -> None:
    (tmp_path / "app.db").write_bytes(os.urandom(8192))
    with pytest.raises(NotHealthy, match="does not open"), opened_file(tmp_path / "app.db"):
        pass


def test_a_directory_is_a_scratch_place_and_is_removed_whatever_is_there(restored: Path) -> None:
    target: RestoreTarget = DirectoryTarget(restored.parent, restored.name)
    assert isinstance(target, ScratchTarget)
    (restored.parent / "more").mkdir()
    target.discard()
    assert not restored.parent.exists()
    target.discard()
