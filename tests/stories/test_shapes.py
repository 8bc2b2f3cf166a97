"""What scripts rely on: the keys of the JSON, the words of the states, and that nothing of it is open to others."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.stories.home import Home, digest, home, open_to_others, sums_of

BACKUP_KEYS = [
    *("id", "database", "type", "state", "source_copy", "source_role", "started_at", "finished_at", "log_start"),
    *("log_end", "frozen_seconds", "read_bytes", "stored_bytes", "checked_pages", "policy_commit", "truncation"),
    "provider",
]
COPY_KEYS = {"name", "role", "state", "copy_queue_logs", "replay_queue_logs", "held_log_bytes"}
DATABASE_KEYS = {"name", "engine", "copies", "last_full", "last_incremental", "recovery_window", "alarms"}
ID = re.compile(r"\d{8}T\d{6}Z-[FIDC]-[0-9a-f]{8}")
POSITION = re.compile(r"[0-9a-f]{16}/\d+")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Everything here is made with a umask that hides nothing."""
    root = tmp_path_factory.mktemp("shapes")
    before = os.umask(0)
    try:
        with home(root) as made:
            made.up()
            yield made
    finally:
        os.umask(before)


def _at_least_one_backup(pair: Home) -> None:
    """The module's first test takes some; a run of the slow tests alone has left it out."""
    if pair.ok("status", "--json").json["databases"][0]["last_full"] is None:
        pair.ok("backup", "orders", "--type", "full")


def _judge_backup(row: Any, kind: str) -> None:
    assert list(row)[: len(BACKUP_KEYS)] == BACKUP_KEYS
    assert ID.fullmatch(row["id"])
    assert row["id"].split("-")[1] == {"full": "F", "incremental": "I", "differential": "D", "copy": "C"}[kind]
    assert (row["database"], row["type"], row["state"]) == ("orders", kind, "complete")
    assert (row["source_copy"], row["source_role"]) == ("b", "passive")
    started, finished = (datetime.fromisoformat(row[key]) for key in ("started_at", "finished_at"))
    assert started.tzinfo is not None
    assert started <= finished
    assert POSITION.fullmatch(row["log_start"])
    assert POSITION.fullmatch(row["log_end"])
    pages = kind in {"full", "copy"}
    assert (row["frozen_seconds"] is not None) is pages
    assert (row["checked_pages"] or 0) > 0 if pages else not row["checked_pages"]
    assert row["read_bytes"] > 0
    assert row["stored_bytes"] > 0
    assert row["policy_commit"] is None
    assert set(row["truncation"]) == {"state", "before", "blocked_by"}
    assert isinstance(row["truncation"]["blocked_by"], list)


def test_backup_show_and_list(pair: Home) -> None:
    rows = []
    for kind in ("full", "incremental", "differential", "copy"):
        pair.commit()
        row = pair.backup(kind)
        _judge_backup(row, kind)
        rows.append(row)
    listed = pair.ok("list", "--json").json["backups"]
    assert [[row[key] for key in BACKUP_KEYS] for row in listed] == [[row[key] for key in BACKUP_KEYS] for row in rows]
    for row in listed:
        assert list(row) == BACKUP_KEYS
    shown = pair.ok("show", rows[1]["id"], "--json").json
    _judge_backup(shown, "incremental")
    assert [shown[key] for key in BACKUP_KEYS] == [rows[1][key] for key in BACKUP_KEYS]
    walked = [move["state"] for move in shown["history"] if move["event"] != "note"]
    assert walked == ["planned", "prepared", "checked", "stored", "proven", "stamped", "complete"]
    whole = pair.ok("show", rows[0]["id"], "--json").json
    walked = [move["state"] for move in whole["history"] if move["event"] != "note"]
    stages = [
        "planned",
        "prepared",
        "frozen",
        "captured",
        "thawed",
        "checked",
        "stored",
        "proven",
        "stamped",
        "complete",
    ]
    assert walked == stages


def test_status(pair: Home) -> None:
    pair.wait_replayed()
    answer = pair.ok("status", "--json").json
    assert list(answer) == ["databases"]
    [row] = answer["databases"]
    assert set(row) >= DATABASE_KEYS
    assert (row["name"], row["engine"], row["alarms"]) == ("orders", "sqlite", [])
    assert [(copy["name"], copy["role"], copy["state"]) for copy in row["copies"]] == [
        ("a", "active", "healthy"),
        ("b", "passive", "healthy"),
    ]
    for copy in row["copies"]:
        assert set(copy) >= COPY_KEYS
        assert (copy["copy_queue_logs"], copy["replay_queue_logs"]) == (0, 0)
        assert isinstance(copy["held_log_bytes"], int)
    begin, end = (datetime.fromisoformat(row["recovery_window"][key]) for key in ("from", "to"))
    assert begin <= end
    assert ID.fullmatch(row["last_full"]["id"])
    assert ID.fullmatch(row["last_incremental"]["id"])


@pytest.mark.slow
def test_the_ends_of_the_recovery_window_can_be_restored(pair: Home, tmp_path: Path) -> None:
    _at_least_one_backup(pair)
    window = pair.ok("status", "--json").json["databases"][0]["recovery_window"]
    for name in ("from", "to"):
        pair.ok("restore", "orders", "--at", window[name], "--target", str(tmp_path / name))
        assert sums_of(tmp_path / name / "app.db")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (2, ["backup", "orders", "--type", "huge"]),
        (4, ["restore", "orders", "--target", "b", "--yes"]),
        (5, ["show", "20200101T000000Z-F-00000000"]),
        (5, ["backup", "nothing", "--type", "full"]),
    ],
)
def test_errors_as_json(pair: Home, status: int, words: list[str]) -> None:
    answer = pair.run(*words, "--json")
    assert answer.status == status
    error = answer.json["error"]
    assert {"problem", "because", "next", "exit_status"} <= set(error) <= {*error, "details"}
    assert error["exit_status"] == status
    assert [error["problem"], error["because"], error["next"]] == [
        line.partition(": ")[2] for line in answer.err.splitlines()
    ]


@pytest.mark.slow
def test_changing_commands_change_nothing_when_dry(pair: Home, tmp_path: Path) -> None:
    _at_least_one_backup(pair)
    pair.wait_replayed()
    archive = {path: digest(path) for path in pair.objects()}
    for words in (
        ["backup", "orders", "--type", "full"],
        ["restore", "orders"],
        ["restore", "orders", "--target", str(tmp_path / "x")],
        ["truncate", "orders"],
        ["prune"],
        ["recover"],
        ["copy", "suspend", "orders"],
        ["copy", "seed", "orders"],
    ):
        answer = pair.ok(*words, "--dry-run", "--json")
        assert answer.json
    assert {path: digest(path) for path in pair.objects()} == archive
    assert not (tmp_path / "x").exists()
    pair.wait_same()


def test_nothing_is_open_to_others(pair: Home, tmp_path: Path) -> None:
    out = pair.root / "some" / "where" / "out"
    pair.ok("restore", "orders", "--target", str(out))
    mine = [pair.config.parent, pair.archive, pair.root / "some"]
    assert open_to_others(*mine) == []
    assert stat.S_IMODE((out / "app.db").stat().st_mode) == 0o600
    # The passive is backupd's own file, whatever its directory allows.
    assert stat.S_IMODE(pair.passive.stat().st_mode) & 0o007 == 0


@pytest.mark.slow
def test_a_restored_active_is_not_open_to_others(pair: Home) -> None:
    pair.backup()
    pair.wait_same()
    pair.active.chmod(0o666)
    pair.ok("restore", "orders", "--yes")
    assert stat.S_IMODE(pair.active.stat().st_mode) & 0o007 == 0
    pair.wait_same()
    assert open_to_others(pair.config.parent, pair.archive) == []
