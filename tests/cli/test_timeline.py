"""backupctl timeline on a real pair: what it refuses, what it lists, and the restore that it proposes."""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backupd.cli import exact_points
from backupd.errors import UsageProblem
from backupd.process import mark_of_process
from backupd.runs import commits
from tests.cli.conftest import House


def answer(house: House, *words: str, status: int = 0) -> Any:
    done = house.ctl(*words, "--json")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def after_the_mess(house: House) -> Iterator[House]:
    """The application lost a table's rows and went on; all of it is in the archive."""
    with closing(sqlite3.connect(house.active, isolation_level=None)) as app:
        app.execute("create table parcels(id integer primary key, what text)")
        app.execute("insert into parcels(what) select 'parcel ' || value from json_each(?)", (json.dumps([0] * 700),))
        app.execute("delete from parcels where id > 50")
        app.execute("insert into parcels(what) values ('later')")
    assert house.ctl("backup", "orders", "--type", "incremental").returncode == 0
    yield house
    # The other tests of this house know its one table.
    with closing(sqlite3.connect(house.active, isolation_level=None)) as app:
        app.execute("drop table parcels")


def test_the_line_has_windows_gaps_moments_and_positions(house: House) -> None:
    told = answer(house, "timeline", "orders")
    assert set(told) == {"database", "from", "to", "windows", "gaps", "moments", "recovery_windows", "notes"}
    kinds = {one["kind"] for one in told["moments"]}
    assert {"full", "incremental", "stamp"} <= kinds
    assert all("/" in one["from_position"] for one in told["recovery_windows"])
    later = answer(house, "timeline", "orders", "--from", told["to"])
    assert (later["from"], later["moments"]) == (told["to"], [])


def test_the_delete_is_found_and_its_command_brings_the_rows_back(after_the_mess: House, tmp_path: Path) -> None:
    told = answer(after_the_mess, "timeline", "orders", "--commits", "--near", "now", "--table", "parcels")
    [delete] = [one for one in told["commits"] if one["deed"] == "delete"]
    assert [(one["table"], one["rows"], one["certain"]) for one in delete["tables"]] == [("parcels", -650, True)]
    words = shlex.split(delete["restore"])
    done = after_the_mess.ctl(*words[1:], "--target", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "just before the commit at" in done.stdout
    with closing(sqlite3.connect(f"file:{tmp_path / 'out' / 'app.db'}?immutable=1", uri=True)) as look:
        assert look.execute("select count(*) from parcels").fetchone() == (700,)


def test_a_pipe_gets_one_command_a_commit(after_the_mess: House) -> None:
    said = after_the_mess.ctl("timeline", "orders", "--commits", "--from", "1 h ago", "--table", "parcels").stdout
    assert "parcels -650 rows" in said
    commands = [
        line.strip() for line in said.splitlines() if line.strip().startswith("backupctl restore orders --before")
    ]
    assert len(commands) == 4
    assert said.isascii()


def test_only_so_many_are_shown_and_it_is_said(after_the_mess: House) -> None:
    told = answer(after_the_mess, "timeline", "orders", "--commits", "--from", "1 h ago", "--limit", "2")
    assert len(told["commits"]) == 2
    assert told["total"] > 2
    assert "delete" in {one["deed"] for one in told["commits"]}
    assert "of" in after_the_mess.ctl("timeline", "orders", "--commits", "--from", "1 h ago", "--limit", "2").stdout


def test_more_log_than_anybody_would_wait_for_is_refused(
    after_the_mess: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "FETCH_BYTES_MAX", 10)
    said = after_the_mess.ctl("timeline", "orders", "--commits", "--from", "1 h ago")
    assert said.returncode == 4, said.stderr
    assert "name a shorter" in said.stderr
    assert after_the_mess.ctl("timeline", "orders", "--points").returncode == 0  # nothing of SQLite's is read for them


def test_nothing_is_left_of_a_look_and_a_dead_one_is_cleared(after_the_mess: House) -> None:
    state = after_the_mess.config.parent / "state" / "orders"
    here, boot, *_ = mark_of_process().split("-")
    left = state / f"looking-{here}-{boot}-999999999-1-dead"
    left.mkdir()
    answer(after_the_mess, "timeline", "orders", "--commits", "--near", "now")
    assert not list(state.glob("looking-*"))


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--near", "now"], 2, "--commits"),
        (["--table", "orders"], 2, "--commits"),
        (["--commits"], 2, "--near"),
        (["--commits", "--near", "now", "--window", "ten"], 2, "--window"),
        (["--commits", "--near", "now", "--window", "9e99d"], 2, "--window"),
        (["--from", "1 h ago", "--to", "2 h ago"], 2, "exchange them"),
        (["--from", "never"], 2, "is not a time"),
        (["--commits", "--near", "2001-01-01T00:00:00Z"], 5, "the archive holds no log"),
    ],
)
def test_refusals(words: list[str], status: int, says: str, house: House) -> None:
    said = house.ctl("timeline", "orders", *words)
    assert said.returncode == status, said.stderr
    assert says in said.stderr
    assert [each.split(":")[0] for each in said.stderr.splitlines()] == ["error", "because", "next"]


def test_a_restore_has_one_point() -> None:
    exact_points.refuse_several("now", None, None, None, None, None)
    with pytest.raises(UsageProblem, match="--at and --before-xid do not go together"):
        exact_points.refuse_several("now", None, None, None, 7, None)


def test_words_that_no_engine_takes_are_a_matter_of_words(house: House) -> None:
    for words, says in (
        (["--before-position", "nowhere"], "cannot be used"),
        (["--before-xid", "12"], "SQLite gives its transactions no numbers"),
    ):
        said = house.ctl("restore", "orders", *words, "--dry-run")
        assert said.returncode == 2, said.stderr
        assert says in said.stderr
