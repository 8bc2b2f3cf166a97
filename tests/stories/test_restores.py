"""Restores by time, position and backup, to a directory and to the active; interrupted ones; what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.stories.home import Entry, Home, digest, eventually, home, sums_of


@dataclass(frozen=True, slots=True)
class Past:
    """A pair with a full, two incrementals, a differential, a copy, and what the table held after each commit."""

    pair: Home
    backups: dict[str, dict[str, Any]]
    entries: dict[str, Entry]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    with home(tmp_path_factory.mktemp("restores")) as made:
        made.up()
        backups: dict[str, dict[str, Any]] = {}
        entries: dict[str, Entry] = {}
        backups["full"] = made.backup("full")
        entries["insert"] = made.commit()
        backups["first"] = made.backup()
        entries["update"] = made.commit("UPDATE ledger SET amount = amount + 3 WHERE id % 2 = 0")
        entries["delete"] = made.commit("DELETE FROM ledger WHERE id > 100")
        backups["second"] = made.backup()
        entries["again"] = made.commit()
        backups["differential"] = made.backup("differential")
        entries["last"] = made.commit()
        backups["copy"] = made.backup("copy")
        backups["third"] = made.backup()
        yield Past(made, backups, entries)


def _restored(past: Past, tmp_path: Path, *words: str) -> tuple[int, int]:
    past.pair.ok("restore", "orders", *words, "--target", str(tmp_path / "out"))
    [path] = (tmp_path / "out").iterdir()
    assert path.name == "app.db"
    assert path.stat().st_mode & 0o777 == 0o600
    return sums_of(path)


def _sums(entry: Entry) -> tuple[int, int]:
    return entry.rows, entry.total


@pytest.mark.parametrize("name", ["insert", "update", "delete", "again"])
def test_to_a_time(past: Past, tmp_path: Path, name: str) -> None:
    entry = past.entries[name]
    assert _restored(past, tmp_path, "--at", entry.at.isoformat()) == _sums(entry)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["update", "delete"])
def test_to_a_position(past: Past, tmp_path: Path, name: str) -> None:
    entry = past.entries[name]
    assert _restored(past, tmp_path, "--to", entry.position) == _sums(entry)


@pytest.mark.parametrize(
    ("backup", "entry"),
    [("first", "insert"), ("second", "delete"), ("differential", "again"), ("copy", "last"), ("third", "last")],
)
def test_to_a_backup(past: Past, tmp_path: Path, backup: str, entry: str) -> None:
    assert _restored(past, tmp_path, "--backup", past.backups[backup]["id"]) == _sums(past.entries[entry])


def test_to_the_latest_state(past: Past, tmp_path: Path) -> None:
    assert _restored(past, tmp_path) == _sums(past.entries["last"])


def test_a_file_that_is_there_is_not_replaced_without_a_yes(past: Past, tmp_path: Path) -> None:
    words = ("restore", "orders", "--target", str(tmp_path))
    kept = tmp_path / "app.db"
    kept.write_bytes(b"mine")
    assert all(past.pair.fails(4, *words))
    assert kept.read_bytes() == b"mine"
    planned = past.pair.ok(*words, "--dry-run", "--json").json
    assert planned["lost"] == [f"the file {kept} would be replaced"]
    past.pair.ok(*words, "--yes")
    assert sums_of(kept) == _sums(past.entries["last"])


def test_types_do_what_their_names_say(past: Past) -> None:
    rows = past.backups
    assert rows["first"]["log_start"] == rows["full"]["log_end"]
    assert rows["second"]["log_start"] == rows["first"]["log_end"]
    assert rows["differential"]["log_start"] == rows["full"]["log_end"], "a differential begins at the full"
    assert rows["copy"]["truncation"] == {"state": "none", "before": None, "blocked_by": []}
    assert rows["differential"]["truncation"]["state"] == "none"
    assert rows["third"]["log_start"] == rows["second"]["log_end"], "a differential and a copy move nothing"
    assert [rows[name]["frozen_seconds"] is not None for name in ("full", "copy", "first")] == [True, True, False]
    status = past.pair.ok("status", "--json").json["databases"][0]
    assert status["last_full"]["id"] == rows["full"]["id"]
    assert status["last_incremental"]["id"] == rows["third"]["id"]


# --- from here on the order counts: the active goes back, and with it the history ---


@pytest.mark.slow
def test_a_killed_restore_is_resumed(past: Past) -> None:
    pair = past.pair
    pair.commit("UPDATE ledger SET body = randomblob(2500)")
    pair.backup("copy")
    pair.wait_same()
    before = digest(pair.active)
    words = ("restore", "orders", "--to", past.entries["update"].position, "--yes")
    for number, prefix in ((1, "restore.sync_stage"), (2, "archive.fetch_log"), (1, "fetch.fsync")):
        killed = pair.run(*words, environment={"BACKUPD_FAULT": f"die:{number}@{prefix}"})
        assert killed.status == -signal.SIGKILL, killed.told()
        assert digest(pair.active) == before
    answer = pair.ok(*words, "--json").json
    assert (answer["fetched_pages"], answer["reused_pages"] > 100) == (0, True), (
        "what had been fetched was fetched again"
    )
    assert answer["passive_state"] == "healthy"
    assert sums_of_live(pair) == _sums(past.entries["update"])
    _as_new(pair)


@pytest.mark.slow
def test_a_restore_that_died_is_undone_by_recover(past: Past) -> None:
    pair = past.pair
    before = sums_of_live(pair)
    words = ("restore", "orders", "--to", past.entries["delete"].position, "--yes")
    assert pair.run(*words, environment={"BACKUPD_FAULT": "die:1@fetch.fsync"}).status == -signal.SIGKILL
    assert any("backupctl recover" in one for one in pair.ok("status", "--json").json["databases"][0]["alarms"])
    assert "nothing was replaced" in pair.ok("recover").out
    assert pair.leftovers() == []
    assert sums_of_live(pair) == before
    assert pair.ok("recover", "--json").json["databases"][0]["done"] == []
    pair.wait_same()


@pytest.mark.slow
def test_a_restore_to_a_moment_before_a_disaster(past: Past) -> None:
    pair = past.pair
    good = pair.commit()
    pair.commit("DELETE FROM ledger")
    pair.backup()
    old_history = pair.writer().pair().history
    shown = pair.ok("restore", "orders", "--at", good.at.isoformat(), "--dry-run").out
    assert "will be lost" in shown
    assert good.at.isoformat() in shown
    pair.ok("restore", "orders", "--at", good.at.isoformat(), "--yes")
    assert sums_of_live(pair) == _sums(good)
    assert pair.writer().pair().history != old_history
    _as_new(pair)


def sums_of_live(pair: Home) -> tuple[int, int]:
    with pair.connected() as database:
        rows, total = database.execute("SELECT count(*), coalesce(sum(amount), 0) FROM ledger").fetchone()
    return int(rows), int(total)


def _as_new(pair: Home) -> None:
    """The passive was reseeded, and the next backup is a full that everything goes on from."""
    assert pair.leftovers() == []
    pair.wait_same()
    answer = pair.ok("backup", "orders", "--type", "incremental", "--json").json
    assert answer["type"] == "full"
    assert any("raised from incremental to full" in note for note in answer["notes"])
    assert answer["truncation"]["state"] == "truncated"
    entry = pair.commit("UPDATE ledger SET amount = amount + 1")
    assert pair.backup()["type"] == "incremental"
    pair.ok("restore", "orders", "--target", str(pair.root / "look"), "--at", entry.at.isoformat(), "--yes")
    assert sums_of(pair.root / "look" / "app.db") == (entry.rows, entry.total)


@pytest.mark.slow
def test_interrupted_by_a_person(past: Past, tmp_path: Path) -> None:
    pair = past.pair
    before = sums_of_live(pair)
    running = subprocess.Popen(
        pair.ctl_command("restore", "orders", "--to", past.entries["delete"].position, "--yes"),
        env={**pair.environment(), "BACKUPD_FAULT": "stop:1@fetch.fsync"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually("the restore to have fetched", lambda: _state_of(running.pid) == "T")
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGCONT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130, told
    assert [line.split(":")[0] for line in told.splitlines()] == ["error", "because", "next"]
    assert sums_of_live(pair) == before
    pair.ok("recover")
    assert pair.leftovers() == []
    pair.wait_same()


def _state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.slow
def test_after_the_active_and_the_whole_state_were_lost(past: Past) -> None:
    pair = past.pair
    entry = pair.commit()
    pair.backup()
    pair.stop_service()
    for path in (pair.active, pair.passive):
        for name in ("", "-wal", "-shm"):
            path.with_name(path.name + name).unlink(missing_ok=True)
    pair.state.rename(pair.root / "lost-state")
    # A pair without its state is a new one, and its backups would go among the old one's.
    assert (
        "backupctl restore orders puts the archive's state in place"
        in pair.fails(4, "backup", "orders", "--type", "full")[2]
    )
    pair.ok("restore", "orders", "--yes")
    assert sums_of_live(pair) == (entry.rows, entry.total)
    pair.start_service()
    _as_new(pair)
    assert os.path.exists(pair.passive)


# --- prune ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_prune_drops_chains_and_what_is_kept_can_still_be_restored(past: Past, tmp_path: Path) -> None:
    pair = past.pair
    for _ in range(2):
        entry = pair.commit()
        pair.backup("full")
        last = pair.commit()
        pair.backup()
    listed = pair.ok("list", "--json").json["backups"]
    with pair.policy_with(("keep_days = 28\n", ""), ("keep_fulls_min = 2", "keep_fulls_min = 1")):
        planned = pair.ok("prune", "--dry-run", "--json").json["databases"][0]
        assert pair.ok("list", "--json").json["backups"] == listed
        reasons = pair.ok("explain", "retention", "orders").out
        problem, because, next_step = pair.fails(4, "prune")
        assert "--yes" in next_step, (problem, because)
        done = pair.ok("prune", "--yes", "--json").json["databases"][0]
    kept = [row["id"] for row in pair.ok("list", "--json").json["backups"]]
    assert done["deleted"]
    assert set(kept) == {row["id"] for row in listed} - set(done["deleted"])
    assert all(name in reasons for name in (*kept, *done["deleted"]))
    assert planned["dry_run"] is True
    pair.ok("verify", "--level", "data")
    for at, words in ((last, ()), (entry, ("--backup", kept[0]))):
        pair.ok("restore", "orders", *words, "--target", str(tmp_path / at.position.replace("/", "-")))
        assert sums_of(tmp_path / at.position.replace("/", "-") / "app.db") == (at.rows, at.total)
    for name in done["deleted"]:
        assert not [path for path in pair.objects() if name in str(path) and "/tomb/" not in str(path)]
        assert all(pair.fails(5, "show", name))
