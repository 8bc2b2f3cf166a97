"""The service takes backups by a policy's schedule: each slot once, after a kill, and by a policy that changes."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.house import Installation


class Home(Installation):
    """A pair whose service has a schedule of seconds."""

    @property
    def policy(self) -> Path:
        return self.config.parent / "policies" / "orders.toml"

    def schedule(self, **words: str) -> None:
        """Say when, in place of what the policy says."""
        lines = self.policy.read_text().splitlines()
        kept = [line for line in lines if not line.startswith(("full =", "incremental =", "prune =", "verify ="))]
        at = next(index for index, line in enumerate(kept) if line.startswith("[schedule]"))
        new = [f'{task} = "{text}"' for task, text in words.items()]
        self.policy.write_text("\n".join([*kept[: at + 1], *new, *kept[at + 1 :], ""]))

    def write(self) -> None:
        with sqlite3.connect(self.active) as connection:
            connection.execute("insert into t values (1)")
        connection.close()

    def types(self) -> list[str]:
        return [one["type"] for one in self.backups()] if self.archive.exists() else []

    def said(self) -> str:
        return (self.root / "service.log").read_text()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path, log_file_seconds_max=0.2)
    home.init(schedule=True)
    connection = sqlite3.connect(home.active)
    connection.execute("pragma journal_mode=wal")
    connection.execute("create table t (x)")
    connection.commit()
    connection.close()
    yield home
    home.stop_service()


def test_a_service_takes_backups_on_time_goes_on_after_a_kill_and_follows_its_policy(home: Home) -> None:
    home.schedule(full="every 2 s")
    home.start_service()
    home.wait("two fulls", lambda: home.types().count("full") >= 2)
    assert home.service is not None
    home.stop_service(signal.SIGKILL)

    home.schedule(incremental="every 2 s", verify="every 5 s")
    home.write()
    home.start_service()
    home.wait("an incremental", lambda: "incremental" in home.types())
    home.wait("a verify", lambda: "objects are sound" in home.said())

    good = home.policy.read_text()
    home.policy.write_text(good + "\n[schedule2]\n")
    home.wait("that the policy is wrong", lambda: "the policies stay as they were" in home.said())
    count = home.said().count("a run ended: done")
    home.write()
    home.wait("backups by the old policy", lambda: home.said().count("a run ended: done") > count + 1)

    home.policy.write_text(good)
    home.schedule(full="sun 02:00")
    home.wait("the new policy", lambda: home.said().count("policies read") >= 1)
    time.sleep(3)
    count = len(home.types())
    time.sleep(5)
    assert len(home.types()) == count
    slots = [line.split("slot=")[1] for line in home.said().splitlines() if 'event="a run begins"' in line]
    tasks = [line.split("type=")[1].split()[0] for line in home.said().splitlines() if 'event="a run begins"' in line]
    assert len(set(zip(tasks, slots, strict=True))) == len(slots)


def test_a_run_that_dies_harms_nobody_is_tried_again_and_given_up_until_its_next_slot(home: Home) -> None:
    home.schedule(full="every 168 h")
    home.policy.write_text(
        home.policy.read_text().replace("[schedule]", '[schedule]\nretry_seconds = "2s"\nretries_max = 1')
    )
    state = home.config.parent / "state" / "orders"
    state.mkdir(parents=True)
    words = json.dumps({"full": {"words": "every 168 h UTC", "since": "2026-01-01T00:00:00+00:00"}})
    (state / "schedule.json").write_text(words)  # so that the slot of this week is owed
    home.start_service(BACKUPD_FAULT="die:3@pipeline.", BACKUPD_FAULT_ROLE="run")
    home.wait("the end of it", lambda: home.said().count("a run ended: failed") == 2)
    assert home.said().count('says="its process ended without a word, with status -9"') == 2
    answer = home.ctl_json("explain", "schedule", "orders")
    assert (answer["due"], [one["type"] for one in answer["given_up"]]) == (None, ["full"])
    assert home.types() == []
    home.stop_service()
    home.start_service()
    home.wait("replication", lambda: home.said().count('event="replication started"') == 2)
    made = home.ctl("backup", "orders", "--type", "full")
    assert made.returncode == 0, made.stderr
    assert home.ctl_json("explain", "schedule", "orders")["given_up"] == []


def git(repository: Path, *words: str) -> str:
    person = ["-c", "user.name=dba", "-c", "user.email=dba@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(repository), *person, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_a_schedule_in_a_repository_is_followed_and_its_commit_is_in_the_record(home: Home) -> None:
    repository = home.root / "repository"
    (repository / "policies").mkdir(parents=True)
    git(repository, "init", "-q", "-b", "main")
    home.schedule()
    home.policy.rename(repository / "policies" / "orders.toml")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "no schedule yet")
    config = "".join(line for line in home.config.read_text().splitlines(True) if not line.startswith("policies_dir"))
    home.config.write_text(f'{config}\n[policies]\nrepository = "{repository}"\nref = "main"\nevery = "10s"\n')
    home.start_service()
    home.wait("replication", lambda: 'event="replication started"' in home.said())

    policy = repository / "policies" / "orders.toml"
    policy.write_text(policy.read_text().replace("[schedule]", '[schedule]\nfull = "every 2 s"'))
    git(repository, "commit", "-q", "-a", "-m", "a full every two seconds")
    home.wait("a full", lambda: "full" in home.types(), 120)
    label = home.backups()[0]["id"]
    assert home.ctl_json("show", label)["policy_commit"] == git(repository, "rev-parse", "HEAD")


@pytest.mark.slow
def test_a_run_that_goes_on_ends_gently_when_the_service_is_told_to_stop(home: Home) -> None:
    with sqlite3.connect(home.active) as connection:
        connection.executemany("insert into t values (randomblob(?))", [(100_000,)] * 600)
    connection.close()
    home.schedule(full="every 1 s")
    home.start_service()
    home.wait("a run", lambda: 'event="a run begins"' in home.said())
    home.stop_service()
    assert "a run ended: " in home.said()
    assert home.ctl_json("status", "orders")["databases"][0]["running"] is None
    home.start_service()
    home.wait("a full", lambda: "full" in home.types())


def test_a_policy_that_is_new_owes_nothing_for_last_week(home: Home) -> None:
    home.schedule(full="sun 02:00", incremental="mon..sat 02:00")
    home.start_service()
    home.wait("the service", lambda: "replication started" in home.said())
    known = home.config.parent / "state" / "orders" / "schedule.json"
    home.wait("its memory", known.exists)
    time.sleep(2)
    assert "a run begins" not in home.said()
    answer = home.ctl_json("explain", "schedule", "orders")
    assert answer["due"] is None
