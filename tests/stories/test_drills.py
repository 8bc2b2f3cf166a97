"""Drills of an SQLite pair through the command line: what passes, what fails and why, and one that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stories.home import Entry, Home, home, three_lines
from tests.stories.test_encryption import init_keys
from tests.stories.test_full_disks import small_disk

ROWS = """
[[drill.checks]]
name = "rows"
sql = "SELECT count(*) FROM ledger"
expect = {rows}
[[drill.checks]]
name = "total"
sql = "SELECT sum(amount) = {total} FROM ledger"
expect = true
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Entry]]:
    with home(tmp_path_factory.mktemp("drills")) as made:
        made.up()
        made.backup("full")
        entry = made.commit()
        made.backup()
        yield made, entry


def asked(entry: Entry, **more: int) -> str:
    """The policy's table with what the ledger held."""
    return "\n[drill]\n" + ROWS.format(rows=entry.rows, total=entry.total, **more)


def status(made: Home) -> dict[str, Any]:
    found: dict[str, Any] = made.ok("status", "orders", "--json").json["databases"][0]
    return found


def alarm(made: Home) -> str:
    return " ".join(one["sentence"] for one in status(made)["alarm_details"] if one["code"] == "drill-failed")


def left(made: Home) -> list[Path]:
    return [*(made.state / "orders" / "drill").glob("*")]


def failed(made: Home, exit_status: int, *words: str) -> dict[str, Any]:
    """A drill that must fail so, named in its three lines, in its JSON and in the alarm; nothing of it stays."""
    answer = made.run("drill", "orders")
    assert answer.status == exit_status, answer.told()
    assert "FAILED" in answer.out
    lines = " ".join(three_lines(answer))
    told = made.run("drill", "orders", "--json")
    assert told.status == exit_status, told.told()
    assert told.json["passed"] is False
    sentence = alarm(made)
    for word in words:
        assert word in lines, answer.told()
        assert word in sentence
        assert word in json.dumps(told.json["error"])
    assert not left(made)
    found: dict[str, Any] = told.json
    return found


def test_a_drill_tells_what_it_proved_and_status_and_show_repeat_it(pair: tuple[Home, Entry]) -> None:
    made, entry = pair
    with made.policy_with(more=asked(entry)):
        plan = made.ok("drill", "orders", "--dry-run", "--json").json
        assert plan["checks"] == ["rows", "total"]
        assert not left(made)
        answer = made.ok("drill", "orders")
        assert f"passed: {entry.rows}" in answer.out
        newest = status(made)["last_incremental"]["id"]
        told = made.ok("drill", "orders", "--json").json
        assert told["passed"] is True
        assert told["backup"] == newest
        assert told["restored_bytes"] > 400 * 2000
        assert set(told["phases_seconds"]) >= {"fetch", "replay", "recover", "open", "engine-checks", "own-checks"}
        proven = status(made)["last_proven"]
        assert proven["position"] == told["position"] == entry.position
        assert "proven restorable" in made.ok("status", "orders").out
        shown = made.ok("show", newest, "--json").json["verdicts"][-1]
        assert shown["drill"]["run"] == told["run"]
        assert "drill restore" in made.ok("show", newest).out
        reasons = {one["id"]: one["codes"] for one in made.ok("explain", "retention", "orders", "--json").json["keep"]}
        assert all("last-drilled-chain" in reasons[one] for one in told["backups"])
        assert not left(made)


@pytest.mark.slow
def test_an_older_state_can_be_drilled(pair: tuple[Home, Entry]) -> None:
    made, _ = pair
    full = status(made)["last_full"]["id"]
    assert made.ok("drill", "orders", "--backup", full, "--json").json["backups"] == [full]
    assert made.ok("drill", "orders", "--at", made.ledger[0].at.isoformat(), "--dry-run").status == 0
    assert three_lines(made.run("drill", "orders", "--at", "now", "--backup", full))


@pytest.mark.slow
def test_an_answer_that_differs(pair: tuple[Home, Entry]) -> None:
    made, entry = pair
    with made.policy_with(more=asked(Entry(entry.rows + 1, entry.total, entry.at, entry.position))):
        told = failed(made, 6, "rows", "another value")
        assert [(one["name"], one["passed"]) for one in told["checks"]] == [("rows", False), ("total", True)]
        assert told["answers"]["rows"] == str(entry.rows)
    with made.policy_with(more=asked(entry)):
        made.ok("drill", "orders")
        assert not alarm(made)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.real
def test_a_scratch_disk_that_is_too_small(pair: tuple[Home, Entry], tmp_path: Path) -> None:
    made, _ = pair
    with small_disk(tmp_path / "small") as disk:
        (disk / "ballast").write_bytes(bytes(20 << 20))
        with made.policy_with(more=f'\n[drill]\ndirectory = "{disk}"\n'):
            told = failed(made, 7, "no room", "are free")
            assert told["failed_in"] == "plan"
            assert told["read_bytes"] == 0


@pytest.mark.slow
def test_missing_log_and_a_damaged_chunk(pair: tuple[Home, Entry]) -> None:
    made, _ = pair
    with made.policy_with(more="\n[drill]\n"):
        [*_, log] = made.objects("log")
        away = log.rename(log.with_name("away"))
        told = failed(made, 6, str(log.relative_to(made.archive)))
        assert told["failed_in"] == "replay"
        away.rename(log)
        [chunk] = made.objects("data")
        whole = chunk.read_bytes()
        chunk.chmod(0o600)
        chunk.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
        answer = made.run("drill", "orders", "--json")
        assert answer.status == 6, answer.told()
        assert str(chunk.relative_to(made.archive)) in alarm(made)
        full = status(made)["last_full"]["id"]
        assert any(one["subject"] == full for one in status(made)["alarm_details"] if one["code"] == "backup-damaged")
        chunk.write_bytes(whole)
        made.ok("verify", *[one["id"] for one in made.ok("list", "orders", "--json").json["backups"]])
        made.ok("drill", "orders")
        assert not alarm(made)


def test_what_a_killed_drill_leaves_is_removed(pair: tuple[Home, Entry]) -> None:
    made, entry = pair
    with made.policy_with(more=asked(entry)):
        for command in (["recover"], ["drill", "orders"]):
            died = subprocess.run(
                made.ctl_command("drill", "orders"),
                env={**made.environment(), "BACKUPD_FAULT": "die:2@drill.ask"},
                cwd=made.root,
                capture_output=True,
                check=False,
            )
            assert died.returncode == -signal.SIGKILL
            assert left(made)
            assert "which a drill had left that died" in made.ok(*command).out
            assert not left(made)
        assert not alarm(made)


@pytest.mark.slow
def test_an_encrypted_archive_is_drilled_with_a_key_only(tmp_path: Path) -> None:
    with home(tmp_path / "home", rows=50) as made:
        made.up()
        table, key = init_keys(tmp_path / "elsewhere", "--encryption", "age")
        check = '\n[drill]\n[[drill.checks]]\nname = "rows"\nsql = "SELECT count(*) FROM ledger"\nexpect = 51\n'
        with made.policy_with(more=f"\n{table}{check}"):
            made.commit()
            made.backup("full")
            assert "private key" in " ".join(three_lines(made.run("drill", "orders")))
            assert "private key" in alarm(made)
            answer = made.ok("drill", "orders", "--key", str(key))
            assert "passed: 51" in answer.out
            [verdict] = made.objects("verify")
            assert b'"answers":{}' in verdict.read_bytes()
            assert b'"sealed":"' in verdict.read_bytes()
            assert not alarm(made)
