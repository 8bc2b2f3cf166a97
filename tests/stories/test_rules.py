"""The rules as a person meets them: restores never go to a passive, fulls come first, log stays until it is proven."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupd.journal.journal import Journal
from backupd.model.position import Position
from backupd.model.records import Hold
from tests.stories.home import Home, digest, eventually, home


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with home(tmp_path_factory.mktemp("rules")) as made:
        made.up()
        yield made


def test_an_incremental_without_a_full_is_raised_to_a_full_and_says_so(pair: Home) -> None:
    answer = pair.ok("backup", "orders", "--type", "incremental")
    assert "raised from incremental to full" in answer.out
    [row] = pair.ok("list", "--json").json["backups"]
    assert row["type"] == "full"
    shown = pair.ok("show", row["id"], "--json").json
    assert "raised from incremental to full" in shown["notes"]


@pytest.mark.parametrize("target", ["name", "directory", "file", "link", "dots"])
def test_a_restore_to_the_passive_is_refused(pair: Home, target: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(pair.passive.parent)
    named = {
        "name": "b",
        "directory": str(pair.passive.parent),
        "file": str(pair.passive),
        "link": str(link),
        "dots": str(pair.active.parent / ".." / pair.passive.parent.name),
    }[target]
    before = digest(pair.passive)
    problem, because, next_step = pair.fails(4, "restore", "orders", "--target", named, "--yes")
    assert problem == f"cannot restore to {named}"
    assert "passive copy (b)" in because
    assert "backupctl restore orders --target active" in next_step
    assert pair.leftovers() == []
    assert digest(pair.passive) == before
    pair.wait_healthy()


def test_the_same_as_json(pair: Home) -> None:
    answer = pair.run("restore", "orders", "--target", "b", "--yes", "--json")
    assert answer.status == 4
    error = answer.json["error"]
    assert set(error) >= {"problem", "because", "next", "exit_status"}
    assert error["exit_status"] == 4


def test_a_restore_to_the_active_is_asked_for(pair: Home) -> None:
    problem, because, next_step = pair.fails(4, "restore", "orders")
    assert (problem, next_step) == ("restore of orders needs a yes", "look at the plan with --dry-run, then say --yes")
    assert "overwrites live data" in because


def _kept(pair: Home, code: str) -> str:
    """Truncation keeps everything, says why by every way there is, and no log file is gone."""
    held = [pair.logs(copy).histories() for copy in "ab"]
    files = sorted((pair.state / "orders" / "copies").glob("*/log/*/*.wlog"))
    assert files
    explained = pair.ok("explain", "truncation", "orders", "--json").json
    tried = pair.ok("truncate", "orders", "--json").json
    for answer in (explained, tried):
        assert (answer["state"], answer["before"], answer["removed_logs"]) == ("kept", None, 0), answer
        assert [reason for reason in answer["blocked_by"] if reason.startswith(f"{code}: ")], answer
    reason: str
    [reason] = [one.removeprefix(f"{code}: ") for one in explained["blocked_by"] if one.startswith(f"{code}: ")]
    told = pair.ok("explain", "truncation", "orders").out
    assert "log kept" in told
    assert reason in told
    assert set(files) <= set((pair.state / "orders" / "copies").glob("*/log/*/*.wlog"))
    assert [pair.logs(copy).histories() for copy in "ab"] == held
    return reason


@pytest.mark.slow
def test_log_stays_while_the_passive_is_suspended(pair: Home) -> None:
    pair.commit()
    pair.wait_replayed()
    pair.ok("copy", "suspend", "orders", "--comment", "moving the disk")
    try:
        assert "moving the disk" in _kept(pair, "passive-suspended")
        problem, because, next_step = pair.fails(7, "backup", "orders", "--type", "incremental")
        assert problem == "the passive copy of orders is suspended"
        assert "moving the disk" in because
        assert next_step == "backupctl copy resume orders"
        row = pair.ok("status", "--json").json["databases"][0]
        assert [copy["state"] for copy in row["copies"]] == ["healthy", "suspended"]
        assert any("moving the disk" in alarm for alarm in row["alarms"])
    finally:
        pair.ok("copy", "resume", "orders")
    pair.wait_healthy()
    assert pair.backup()["truncation"]["state"] == "truncated"


def test_log_stays_for_a_hold(pair: Home) -> None:
    entry = pair.commit()
    pair.commit()
    pair.wait_replayed()
    journal = Journal(pair.state / "journal.db", now=lambda: datetime.now(UTC))
    start = Position.parse(pair.ok("list", "--json").json["backups"][-1]["log_end"])
    journal.place_hold(Hold("the auditor", "orders", start, "an inquiry", datetime.now(UTC)))
    try:
        truncation = pair.backup()["truncation"]
        assert truncation["state"] == "kept"
        assert any("the auditor" in reason for reason in truncation["blocked_by"]), truncation
        assert "an inquiry" in _kept(pair, "hold")
        [hold] = pair.ok("holds", "--json").json["holds"]
        assert (hold["holder"], hold["needs_from"], hold["reason"]) == ("the auditor", str(start), "an inquiry")
        assert "the auditor" in pair.ok("holds").out
    finally:
        journal.release_hold("orders", "the auditor")
        journal.close()
    assert pair.ok("truncate", "orders", "--json").json["state"] == "truncated"
    assert Position.parse(entry.position) > start


@pytest.mark.slow
def test_log_stays_while_the_stamp_of_a_backup_is_late(pair: Home) -> None:
    pair.commit()
    pair.wait_replayed()
    answer = pair.run(
        "backup", "orders", "--type", "incremental", "--json", environment={"BACKUPD_FAULT": "fail:1@control.stamp"}
    )
    assert answer.status == 0, answer.told()
    row = answer.json
    assert row["state"] == "pending"
    assert row["truncation"]["state"] == "kept"
    explained = pair.ok("explain", "truncation", "orders").out
    assert f"backup {row['id']} waits for its stamp to be seen on the passive" in explained
    assert pair.ok("list", "--json").json["backups"][-1]["state"] == "pending"
    assert any(row["id"] in alarm for alarm in pair.ok("status", "--json").json["databases"][0]["alarms"])
    # Whoever is next under the lease writes the stamp again; then the log may go.
    assert row["id"] in pair.ok("recover").out
    assert pair.ok("list", "--json").json["backups"][-1]["state"] == "complete"
    assert pair.ok("truncate", "orders", "--json").json["state"] == "truncated"


def test_log_stays_while_a_backup_is_not_yet_proven(pair: Home) -> None:
    pair.commit()
    pair.wait_replayed()
    environment = {**pair.environment(), "BACKUPD_FAULT": "stop:1@archive.commit"}
    files = set((pair.state / "orders" / "copies").glob("*/log/*/*.wlog"))
    running = subprocess.Popen(
        pair.ctl_command("backup", "orders", "--type", "incremental", "--json"),
        env=environment,
        cwd=pair.root,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        eventually("the backup to stand before its commit", lambda: _is_stopped(running.pid))
        explained = pair.ok("explain", "truncation", "orders", "--json").json
        assert explained["state"] == "kept"
        [reason] = [one for one in explained["blocked_by"] if one.startswith("backup-not-proven: ")]
        assert "is stored and not yet proven and stamped" in reason
        problem, because, next_step = pair.fails(9, "truncate", "orders")
        assert all((problem, because, next_step))
        assert str(running.pid) in problem + because
        assert files <= set((pair.state / "orders" / "copies").glob("*/log/*/*.wlog"))
        listed = pair.ok("list", "--json").json["backups"]
    finally:
        running.send_signal(signal.SIGCONT)
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    row = json.loads(out)
    assert row["id"] not in {one["id"] for one in listed}
    assert (row["state"], row["truncation"]["state"]) == ("complete", "truncated")


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.slow
def test_truncation_that_is_switched_off_is_a_reason_too(pair: Home) -> None:
    pair.commit()
    pair.wait_replayed()
    with pair.policy_with(("enabled = true", "enabled = false")):
        assert pair.backup()["truncation"]["state"] == "kept"
        assert "switched off" in _kept(pair, "disabled")
    assert pair.ok("truncate", "orders", "--json").json["state"] == "truncated"
