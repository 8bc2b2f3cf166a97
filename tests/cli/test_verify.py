"""How much to read, said on the command line; and a signal in the middle keeps what was read."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.cli.conftest import House, environment
from tests.cli.test_interrupted import interrupt


def answer(house: House, *words: str) -> Any:
    said = house.ctl("verify", *words, "--json")
    assert said.returncode == 0, said.stderr
    (database,) = json.loads(said.stdout)["databases"]
    return database


def test_a_budget_reads_a_part_and_the_parts_come_to_all(house: House) -> None:
    shares = []
    for _ in range(20):
        told = answer(house, "orders", "--budget", "50%")
        shares.append(told["coverage"]["verified_share"])
        if shares[-1] == 1:
            break
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert told["coverage"]["oldest_verified_at"] is not None
    assert told["coverage"]["unverified_objects"] == 0


def test_the_keys_that_scripts_rely_on(house: House) -> None:
    told = answer(house, "--all")
    assert set(told) == {
        *("database", "level", "sound", "sample", "findings", "known_damage", "backups_checked", "objects_checked"),
        *("read_bytes", "seconds", "as_stored_backups", "unreadable_objects", "unreachable", "coverage"),
    }
    assert set(told["coverage"]) == {
        *("total_bytes", "verified_bytes", "verified_share", "unverified_objects", "oldest_verified_at")
    }
    assert told["sample"] is False
    assert answer(house, "--level", "presence")["coverage"] is None


def test_a_person_reads_how_much_is_verified(house: House) -> None:
    said = house.ctl("verify", "--all").stdout
    assert "verified since it was written" in said
    assert "all of" in said
    assert "verified" in house.ctl("status").stdout
    shown = house.ctl("show", json.loads(house.ctl("list", "--json").stdout)["backups"][0]["id"]).stdout
    assert "verified  all of" in shown


def test_the_policys_budget_is_the_default_and_a_named_backup_is_read_whole(house: House) -> None:
    policy = house.config.parent / "policies" / "orders.toml"
    before = policy.read_text()
    full = json.loads(house.ctl("list", "--json").stdout)["backups"][0]["id"]
    try:
        policy.write_text(before + '\n[verify]\nbudget = "1B"\n')
        assert answer(house)["sample"] is True
        assert answer(house, full)["sample"] is False
        assert answer(house, "--all")["sample"] is False
        assert answer(house, "--budget", "100%")["sample"] is False
        assert answer(house, "--level", "presence")["sample"] is False
        policy.write_text(before + "\n[verify]\nreverify_days = 30\n")
        answer(house, "--all")
        assert answer(house)["read_bytes"] == 0
    finally:
        policy.write_text(before)
    assert answer(house, "--reverify-days", "30")["read_bytes"] == 0
    assert answer(house, "--budget-time", "30m")["read_bytes"] > 0


@pytest.mark.parametrize(
    ("words", "because"),
    [
        (["--budget", "much"], "'much' is not a budget"),
        (["--budget", "0%"], "is not a share"),
        (["--budget-time", "soon"], "'soon' is not a duration"),
        (["--budget", "1GiB", "--all"], "contradict"),
        (["--budget", "1GiB", "--level", "manifest"], "has no budget"),
        (["--reverify-days", "0"], "0"),
    ],
)
def test_words_that_make_no_sense_are_usage(house: House, words: list[str], because: str) -> None:
    said = house.ctl("verify", *words)
    assert said.returncode == 2
    assert [line.split(":")[0] for line in said.stderr.splitlines()] == ["error", "because", "next"]
    assert because in said.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_read(house: House, number: signal.Signals) -> None:
    full = json.loads(house.ctl("list", "--json").stdout)["backups"][0]["id"]
    before = len(json.loads(house.ctl("show", full, "--json").stdout)["verdicts"])
    status, err = interrupt(house, "stop:2@archive.verify_object", number, "verify", full)
    assert status == 130, err
    assert number.name in err
    verdicts = json.loads(house.ctl("show", full, "--json").stdout)["verdicts"]
    assert len(verdicts) == before + 1
    assert (verdicts[-1]["sound"], verdicts[-1]["whole"]) == (True, False)
    assert verdicts[-1]["read"] == {"map": "0"}  # the segment was being looked at
    assert answer(house, full)["coverage"]["verified_share"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["die:1@archive.verify_object", "die:1@archive.verdict", "die:1@store.link"])
def test_one_that_is_killed_leaves_nothing_that_is_unsound(house: House, fault: str) -> None:
    died = subprocess.run(
        [sys.executable, "-m", "backupd.cli.main", "verify", "orders", "--config", str(house.config)],
        env={**environment(), "BACKUPD_FAULT": fault, "BACKUPD_FAULT_ROLE": "run"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    told = json.loads(house.ctl("status", "--json").stdout)["databases"][0]["alarms"]
    assert any("backupctl recover" in alarm for alarm in told)
    assert house.ctl("recover").returncode == 0
    assert answer(house, "--all")["sound"]
    assert json.loads(house.ctl("status", "--json").stdout)["databases"][0]["alarms"] == []
