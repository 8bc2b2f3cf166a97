"""The commits of log files: where, when, which tables and how many rows, beside what the application itself counted."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupd.engines.sqlite import commit_finder
from backupd.engines.sqlite.apply import apply_partially
from backupd.engines.sqlite.commit_finder import UNKNOWN, SqliteCommitFinder
from backupd.engines.sqlite.logfile import ClosedFile, to_log_file
from backupd.errors import DamageFound, UsageProblem
from backupd.ports import ClosedLog, Deed, FoundCommit
from tests.engines.sqlite.cutting import Active

TABLES = ("few", "wide", "bare")
BEGIN, END = datetime(1970, 1, 1, tzinfo=UTC), datetime(2970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Told:
    """One commit as the application made it: rows that each table had more, and what stood in the log after it."""

    offset: int
    rows: dict[str, int]
    what: str
    unix_us: int


class Ledger:
    """An application that counts its own rows, over log files that are cut now and then."""

    def __init__(self, directory: Path, *, auto_vacuum: str = "NONE", secure_delete: str = "OFF") -> None:
        self.active = Active(directory)
        self.db = self.active.db
        # With it pages that are let go are overwritten, and stand in the log; without it only the free list names them.
        self.db.execute(f"PRAGMA secure_delete={secure_delete}")
        self.db.execute(f"PRAGMA auto_vacuum={auto_vacuum}")
        self.db.execute("VACUUM")
        self.db.execute("CREATE TABLE few(id INTEGER PRIMARY KEY, n INTEGER, body TEXT)")
        self.db.execute("CREATE INDEX few_n ON few(n)")
        self.db.execute("CREATE TABLE wide(id INTEGER PRIMARY KEY, body BLOB)")
        self.db.execute("CREATE TABLE bare(name TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID")
        self.dice = random.Random(20261122)
        self.told: list[Told] = []
        self.files: list[ClosedFile] = []
        for _ in range(8):
            self.fill()
        _, seed = self.active.seed()
        self.base = directory / "base.db"
        self.base.write_bytes(seed.read_bytes())
        self.now_us = self.active.now_us
        self._frames = self.active.frame

    def fill(self) -> None:
        """Rows for every table."""
        count = self.dice.randrange(1, 120)
        self.db.execute("BEGIN")
        for _ in range(count):
            key = self.dice.randrange(10**9)
            self.db.execute("INSERT OR IGNORE INTO few VALUES (?, ?, ?)", (key, key % 97, "x" * (key % 300)))
            self.db.execute("INSERT OR IGNORE INTO bare VALUES (?, ?)", (f"name {key}", key))
        # Rows over several pages: their rest lies on overflow pages.
        self.db.execute("INSERT INTO wide(body) VALUES (randomblob(?))", (self.dice.randrange(20_000),))
        self.db.execute("COMMIT")

    def counts(self) -> dict[str, int]:
        return {table: self.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}

    def commit(self, what: str, work: Callable[[], object]) -> None:
        """One transaction that is told in the ledger."""
        before = self.counts()
        work()
        after = self.counts()
        self.active.see()
        frame = self.active.marks[-1][0]
        cut = self.active.last.header.end_offset if self.active.last else 0
        rows = {table: after[table] - before[table] for table in TABLES if after[table] != before[table]}
        self.told.append(Told(cut + frame - self.active.frame, rows, what, self.active.now_us))

    def cut(self) -> None:
        self.files.append(self.active.cut())

    def random_work(self) -> tuple[str, Callable[[], object]]:
        """Something that applications do."""
        table = self.dice.choice(TABLES)
        few = self.dice.randrange(2, 9)
        column = "name" if table == "bare" else "id"
        some = f"(SELECT {column} FROM {table} ORDER BY {column} LIMIT (SELECT count(*) / {few} FROM {table}))"
        return self.dice.choice(
            [
                ("insert", self.fill),
                ("insert", self.fill),
                ("delete", lambda: self.db.execute(f"DELETE FROM {table} WHERE {column} IN {some}")),
                ("delete", lambda: self.db.execute(f"DELETE FROM {table}")),
                ("update", lambda: self.db.execute(f"UPDATE few SET n = n + {few}, body = body || 'more'")),
                ("update", lambda: self.db.execute("UPDATE wide SET body = randomblob(9000) WHERE id % 2 = 0")),
            ]
        )

    def logs(self) -> list[ClosedLog]:
        return [ClosedLog(to_log_file(file.header, file.digest, file.size_bytes), file.path) for file in self.files]

    def find(self, *, pages: bool = True, since: datetime = BEGIN, until: datetime = END) -> list[FoundCommit]:
        found, _ = SqliteCommitFinder().commits(self.logs(), self.base if pages else None, since, until)
        return list(found)


def rows_of(commit: FoundCommit) -> dict[str, int]:
    return {one.table: one.rows for one in commit.changes if one.rows}


@pytest.mark.parametrize("secure_delete", ["OFF", "ON", "FAST"])
@pytest.mark.parametrize("auto_vacuum", ["NONE", "INCREMENTAL"])
def test_every_commit_is_told_with_its_place_and_its_rows(tmp_path: Path, auto_vacuum: str, secure_delete: str) -> None:
    ledger = Ledger(tmp_path / "active", auto_vacuum=auto_vacuum, secure_delete=secure_delete)
    for number in range(1, 121):
        ledger.commit(*ledger.random_work()) if number % 3 else ledger.commit("insert", ledger.fill)
        if number % 17 == 0:
            ledger.cut()
    ledger.cut()
    told = [one for one in ledger.told if one.offset]
    found = {one.position.offset: one for one in ledger.find()}
    worked = 0
    for one in told:
        if not one.rows and one.offset not in found:
            continue  # a statement that had nothing to do
        commit = found[one.offset]
        assert rows_of(commit) == one.rows, (one, commit)
        assert commit.at == datetime.fromtimestamp(one.unix_us / 1e6, UTC)
        if sum(one.rows.values()) < 0:
            assert commit.deed is Deed.DELETE, (one, commit)
        worked += bool(one.rows)
    assert worked > 60
    assert len({one.offset for one in told} & set(found)) == len(found), "a commit that nobody made was found"


def test_just_before_a_commit_everything_is_there_and_with_it_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "active")
    ledger.commit("insert", ledger.fill)
    before = ledger.counts()
    ledger.commit("delete", lambda: ledger.db.execute("DELETE FROM few"))
    ledger.commit("insert", ledger.fill)
    ledger.cut()
    kept = tmp_path / "kept.db"
    kept.write_bytes(ledger.base.read_bytes())
    [worst] = [one for one in ledger.find() if one.deed is Deed.DELETE]
    assert rows_of(worst) == {"few": -before["few"]}
    assert all(one.certain for one in worst.changes)
    for place, rows in ((SqliteCommitFinder().before(worst.position), before["few"]), (worst.after, 0)):
        target = tmp_path / f"{place.offset}.db"
        target.write_bytes(kept.read_bytes())
        for closed in ledger.logs():
            apply_partially(target, closed.path, until_offset=place.offset, durable=False)
        look = sqlite3.connect(f"file:{target}?immutable=1", uri=True)
        assert look.execute("SELECT count(*) FROM few").fetchone()[0] == rows
        look.close()


def test_a_dropped_table_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "active")
    before = ledger.counts()["wide"]
    ledger.db.execute("DROP TABLE wide")
    ledger.active.see()
    ledger.db.execute("CREATE TABLE later(a)")
    ledger.db.execute("INSERT INTO later VALUES (1), (2)")
    ledger.active.see()
    ledger.cut()
    drop, create, insert = ledger.find()
    assert drop.deed is Deed.DROP
    assert rows_of(drop)["wide"] == -before
    assert "let go" in drop.says
    assert create.deed is Deed.SCHEMA
    assert [one.table for one in create.changes] == ["later"]
    assert rows_of(insert) == {"later": 2}


def test_a_table_that_came_and_went_in_that_time_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "active")
    ledger.db.execute("CREATE TABLE passing(id INTEGER PRIMARY KEY, what TEXT)")
    ledger.db.execute("CREATE INDEX passing_what ON passing(what)")
    # Many more tables, so that the schema itself is over several pages.
    for number in range(40):
        ledger.db.execute(f"CREATE TABLE another_{number}(a, b, c, d, e, {', '.join(f'f{n}' for n in range(60))})")
    ledger.db.execute("CREATE TABLE late(id INTEGER PRIMARY KEY, what TEXT)")
    for table, rows in (("passing", 700), ("late", 300)):
        ledger.db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            f"INSERT INTO {table} SELECT i, 'item ' || i FROM n",
            (rows,),
        )
    ledger.db.execute("DELETE FROM passing WHERE id > 100")
    ledger.db.execute("DROP TABLE passing")
    ledger.active.see()
    ledger.cut()
    *_, filled, later, deleted, dropped = ledger.find()
    assert rows_of(filled) == {"passing": 700}
    assert rows_of(later) == {"late": 300}
    assert (deleted.deed, rows_of(deleted)) == (Deed.DELETE, {"passing": -600})
    assert (dropped.deed, rows_of(dropped)) == (Deed.DROP, {"passing": -100})
    assert all(change.certain for one in (filled, later, deleted, dropped) for change in one.changes)


def test_two_commits_between_two_looks_have_one_time_and_two_places(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "active")
    for _ in range(2):
        ledger.db.execute("INSERT INTO bare VALUES (hex(randomblob(8)), 1)")
    ledger.active.see()
    ledger.cut()
    first, second = ledger.find()
    assert first.at == second.at
    assert first.position.offset < second.position.offset
    assert rows_of(first) == rows_of(second) == {"bare": 1}


def test_only_the_commits_of_the_wished_time_are_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "active")
    for _ in range(5):
        ledger.commit("insert", ledger.fill)
    ledger.cut()
    wished = datetime.fromtimestamp(ledger.told[2].unix_us / 1e6, UTC)
    [one] = ledger.find(since=wished, until=wished + timedelta(microseconds=1))
    assert one.position.offset == ledger.told[2].offset
    assert one.seen_after == datetime.fromtimestamp(ledger.told[1].unix_us / 1e6, UTC)
    assert rows_of(one) == ledger.told[2].rows


def test_without_the_pages_the_places_are_the_same_and_no_table_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "active")
    for _ in range(4):
        ledger.commit(*ledger.random_work())
    ledger.cut()
    blind, seeing = ledger.find(pages=False), ledger.find()
    assert [one.position for one in blind] == [one.position for one in seeing]
    assert [one.at for one in blind] == [one.at for one in seeing]
    assert {change.table for one in blind for change in one.changes} == {UNKNOWN}
    assert not any(change.certain or change.rows is not None for one in blind for change in one.changes)


def test_an_sqlite_that_cannot_name_pages_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "active")
    ledger.commit("insert", ledger.fill)
    ledger.cut()
    monkeypatch.setattr(commit_finder, "read_owners", lambda *_: None)
    found, notes = SqliteCommitFinder().commits(ledger.logs(), ledger.base, BEGIN, END)
    assert len(found) == 1
    assert any("dbstat" in note for note in notes)


def test_a_page_that_changed_its_table_is_called_a_guess(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "active")
    ledger.commit("delete", lambda: ledger.db.execute("DELETE FROM wide"))
    ledger.commit("insert", ledger.fill)
    # What was given to a table here is let go again later: whose it was then is not in the state at the end.
    ledger.commit("delete", lambda: ledger.db.execute("DELETE FROM wide"))
    ledger.commit("insert", ledger.fill)
    ledger.cut()
    assert any(not change.certain for one in ledger.find() for change in one.changes)


def test_a_damaged_log_file_is_named_and_nothing_is_told_of_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "active")
    ledger.commit("insert", ledger.fill)
    ledger.cut()
    path = ledger.files[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageFound):
        ledger.find()


def test_numbers_of_transactions_are_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="no numbers") as caught:
        SqliteCommitFinder().numbers([])
    assert "--commits" in caught.value.next_step
