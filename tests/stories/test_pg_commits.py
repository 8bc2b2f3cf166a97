"""A table is lost on PostgreSQL: the moment is found in the archived log, and the restore stops just before it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backupd.demo.postgres_server import PgServer
from tests.pg_pairs import bin_directory
from tests.stories.pg_home import PgHome, pg_home

pytestmark = [pytest.mark.real, pytest.mark.slow]


@dataclass
class Lost:
    """What happened, and the numbers of the transactions that did it."""

    home: PgHome
    xids: dict[str, int]


def did(server: PgServer, statement: str) -> int:
    """Run a transaction; answers with its number."""
    *_, number = server.psql(f"BEGIN; {statement}; SELECT pg_current_xact_id(); COMMIT").split()
    return int(number)


@pytest.fixture(scope="module")
def lost() -> Iterator[Lost]:
    bin_directory()
    with pg_home(scale=1, segment_mib=1) as home:
        active = home.pair.active
        active.psql("CREATE TABLE items(id int PRIMARY KEY, what text); CREATE TABLE notes(id int, said text)")
        active.psql("INSERT INTO items SELECT g, 'item ' || g FROM generate_series(1, 500) g")
        active.psql("INSERT INTO notes SELECT g, 'note' FROM generate_series(1, 50) g")
        home.backup("full")
        xids = {"insert": did(active, "INSERT INTO items VALUES (501, 'one more')")}
        active.psql("SELECT pg_create_restore_point('before the mess')")
        xids["delete"] = did(active, "SAVEPOINT a; DELETE FROM items WHERE id > 100; RELEASE a")
        # Enough log for more segments than one, so that the search by number has something to halve.
        active.pgbench("-n", "-c", 1, "-t", 1500)
        xids["truncate"] = did(active, "TRUNCATE notes")
        xids["drop"] = did(active, "DROP TABLE items")
        xids["rolled back"] = int(active.psql("BEGIN; SELECT pg_current_xact_id(); ROLLBACK").split()[-1])
        home.backup("incremental")
        yield Lost(home, xids)


def commits(lost: Lost, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lost.home.ok(
        "timeline", "orders", "--commits", "--near", "now", "--window", "1h", "--limit", "20000", *words, "--json"
    ).json["commits"]
    return found


def test_each_deed_is_told_with_its_number_its_table_and_its_rows(lost: Lost) -> None:
    by_xid = {one["xid"]: one for one in commits(lost)}
    insert, delete = by_xid[lost.xids["insert"]], by_xid[lost.xids["delete"]]
    assert insert["deed"] == "commit"
    assert delete["deed"] == "delete"
    # The table is gone, so nobody knows its name any more: both are of one number.
    assert delete["tables"][0]["rows"] == -401
    assert insert["tables"][0] == {**delete["tables"][0], "rows": 1, "pages": insert["tables"][0]["pages"]}
    assert not delete["tables"][0]["certain"]
    truncate, drop = by_xid[lost.xids["truncate"]], by_xid[lost.xids["drop"]]
    assert (truncate["deed"], drop["deed"]) == ("truncate", "drop")
    assert [one["table"] for one in truncate["tables"]] == ["postgres.public.notes"]
    assert delete["tables"][0]["table"] in drop["says"]
    assert lost.xids["rolled back"] not in by_xid


def test_only_the_commits_of_one_table_are_told(lost: Lost) -> None:
    named = commits(lost, "--table", "pgbench_history")
    assert len(named) >= 1500
    assert {one["xid"] for one in commits(lost, "--table", "notes")} & set(lost.xids.values()) >= {
        lost.xids["truncate"]
    }


def points(lost: Lost, *words: str, **environment: str) -> list[str]:
    """The restore points on the timeline."""
    line = lost.home.ok("timeline", "orders", *words, "--json", **environment).json
    return [one["says"] for one in line["moments"] if one["kind"] == "point"]


def test_named_points_are_on_the_timeline_and_no_log_is_read_for_them(lost: Lost, tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    said = points(lost, BACKUPD_STEP_TRACE=str(steps))
    assert said == ["restore point 'before the mess': backupctl restore orders --to-name 'before the mess'"]
    assert points(lost, "--points", BACKUPD_STEP_TRACE=str(steps)) == said
    alone = lost.home.ok("timeline", "--from", str(lost.home.archive), "--json").json["moments"]
    [told] = [one["says"] for one in alone if one["kind"] == "point"]
    pasted = shlex.split(told.partition("backupctl ")[2].replace(" DIR ", f" {lost.home.root / 'looked'} "))
    assert "--from" in pasted
    assert "before the mess" in lost.home.ok(*pasted, "--dry-run").out
    plan = lost.home.ok("restore", "orders", "--to-name", "before the mess", "--dry-run", BACKUPD_STEP_TRACE=str(steps))
    assert "before the mess" in plan.out
    read = {one for one in steps.read_text().split() if one.startswith(("archive.fetch", "pg.commits"))}
    assert read == set()


def restored(lost: Lost, name: str, *words: str) -> dict[str, int]:
    """The rows of both tables of a restore into a directory; -1 for a table that is not there."""
    home = lost.home
    place = home.root / name / "data"
    home.ok("restore", "orders", *words, "--target", str(place))
    found = {}
    with home.opened(place) as server:
        for table in ("items", "notes"):
            there = server.psql(f"SELECT to_regclass('{table}') IS NOT NULL") == "t"
            found[table] = int(server.psql(f"SELECT count(*) FROM {table}")) if there else -1
    return found


def test_the_command_of_a_row_is_pasted_and_the_row_has_not_happened(lost: Lost) -> None:
    [drop] = [one for one in commits(lost) if one["deed"] == "drop" and one["xid"] == lost.xids["drop"]]
    words = shlex.split(drop["restore"])
    assert words[:3] == ["backupctl", "restore", "orders"]
    assert restored(lost, "paste", *words[3:]) == {"items": 100, "notes": 0}


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (("--before-xid", "delete"), {"items": 501, "notes": 50}),
        (("--before-xid", "truncate"), {"items": 100, "notes": 50}),
        (("--to-name", "before the mess"), {"items": 501, "notes": 50}),
    ],
)
def test_a_number_or_a_name_is_found_and_the_restore_stops_there(
    lost: Lost, words: tuple[str, str], rows: dict[str, int], tmp_path: Path
) -> None:
    option, what = words
    assert restored(lost, f"to-{abs(hash(words))}", option, str(lost.xids.get(what, what))) == rows


def test_what_is_not_there_is_refused_with_the_reason(lost: Lost) -> None:
    home = lost.home
    home.refused(5, "restore", "orders", "--before-xid", str(lost.xids["rolled back"]), "--dry-run")
    told = home.refused(5, "restore", "orders", "--before-xid", "4000000000", "--dry-run")
    assert "no archived log file holds it" in told.err
    told = home.refused(5, "restore", "orders", "--to-name", "never", "--dry-run")
    assert "before the mess" in told.err
    assert not list(home.state.glob("looking-*"))


def test_a_point_that_no_backup_could_note_is_found_by_reading_the_log(lost: Lost, tmp_path: Path) -> None:
    """As on a host without pg_waldump, and in archives of older versions. It takes one more backup: the last test."""
    home = lost.home
    programs = tmp_path / "bin"
    programs.mkdir()
    for one in home.pair.a.bin_directory.iterdir():
        if one.name != "pg_waldump":
            (programs / one.name).symlink_to(one)
    home.pair.active.psql("SELECT pg_create_restore_point('unseen')")
    home.write_policy(postgres=f'bin_directory = "{programs}"')
    home.backup("incremental")
    home.write_policy()
    assert not any("unseen" in one for one in points(lost))
    said = points(lost, "--points")
    assert [sum(name in one for one in said) for name in ("unseen", "before the mess")] == [1, 1]
    assert "unseen" in home.ok("restore", "orders", "--to-name", "unseen", "--dry-run").out
