"""The log of a real service: a run's lines are found by its id, in either form, and no secret is in any of them."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backupd.journal.journal import Journal
from backupd.journal.records import RunKind
from backupd.model.states import RunState
from tests.soak.house import Installation

# In a path and in what is said of it, in an address that cannot be reached, in a file, in a variable.
IN_A_PATH, IN_A_URL, IN_A_FILE, IN_A_HEADER = (
    "hunter2archive",
    "p4ssw0rdOfJoe",
    "t0kenOfThePage" * 3,
    "abcdEFGH0123456789",
)
SECRETS = {
    "REPOSITORY_TOKEN": IN_A_PATH,
    "ALARM_URL": f"json://joe:{IN_A_URL}@127.0.0.1:9/orders",
    "PING_URL": f"http://joe:{IN_A_URL}@127.0.0.1:9/{IN_A_HEADER}",
}
STATES = ["planned", "prepared", "frozen", "captured", "thawed", "checked", "stored", "proven", "stamped", "complete"]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Installation]:
    home = Installation(tmp_path, log_file_seconds_max=0.2)
    home.archive = tmp_path / f"archive-{IN_A_PATH}"
    home.init(schedule=True)
    token = tmp_path / "token"
    token.write_text(IN_A_FILE)
    token.chmod(0o600)
    text = home.config.read_text().replace(
        'listen = ""', f'listen = "127.0.0.1:0"\ntoken = "file:{token}"\nlog = "json"\nlook_seconds = 1'
    )
    alarms = '[alarms]\ntargets = ["env:ALARM_URL"]\nafter_seconds = 0\n[alarms.ping]\nurl = "env:PING_URL"\n'
    home.config.write_text(f"{text}\n{alarms}")
    policy = home.config.parent / "policies" / "orders.toml"
    lines = [line for line in policy.read_text().splitlines() if not line.startswith(("full =", "incremental ="))]
    policy.write_text("\n".join(lines).replace("[schedule]", '[schedule]\nfull = "every 2 s"\nretry_seconds = "1s"'))
    with sqlite3.connect(home.active) as connection:
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table t (x)")
    connection.close()
    yield home
    home.stop_service()


def said(home: Installation) -> str:
    return (home.root / "service.log").read_text()


def assert_no_secret(text: str) -> None:
    for secret in (IN_A_PATH, IN_A_URL, IN_A_FILE, IN_A_HEADER):
        assert secret not in text, text[max(0, text.index(secret) - 300) :][:700]


def test_a_runs_lines_are_found_by_its_id_and_no_secret_is_in_the_log(home: Installation) -> None:
    home.start_service(**SECRETS)
    home.wait("a full", lambda: '"a run ended: done"' in said(home))
    home.stop_service()
    text = said(home)
    assert_no_secret(text)
    entries = [json.loads(line) for line in text.splitlines()]
    assert all(list(entry)[:4] == ["time", "level", "from", "event"] for entry in entries)
    assert {entry["database"] for entry in entries if entry["from"] in {"capture", "replay", "run"}} == {"orders"}
    ended = next(entry for entry in entries if entry["event"] == "a run ended: done")
    of_run = [entry for entry in entries if entry.get("run") == ended["run"]]
    assert_whole(of_run)
    journal = Journal(home.config.parent / "state" / "journal.db", now=lambda: NotImplemented)
    noted = journal.run(ended["run"])
    complete = next(entry for entry in of_run if entry["event"] == "backup complete")
    assert (noted.kind, noted.state, noted.label) == (RunKind.BACKUP, RunState.COMPLETE, complete["backup"])
    journal.close()

    before = len(text)
    home.config.write_text(home.config.read_text().replace('log = "json"\n', ""))
    home.archive.rename(home.root / "gone")
    home.archive.write_text("no directory")
    home.start_service(**SECRETS)
    home.wait("a failure", lambda: 'event="a run ended: failed"' in said(home)[before:])
    home.wait("an alarm that is not taken", lambda: "alarms could not be sent" in said(home)[before:])
    home.stop_service(signal.SIGTERM)
    human = said(home)[before:]
    assert_no_secret(human)
    assert all(re.match(r"time=\S+ level=\w+ from=\S+ event=", line) for line in human.splitlines())
    failed = re.search(r'level=error from=service event="a run ended: failed" .*?run=(\S+)', human)
    assert failed is not None
    assert "archive-***" in human
    own = [line for line in human.splitlines() if f" run={failed[1]} " in line]
    assert {line.split("from=")[1].split()[0] for line in own} >= {"run", "service"}


def assert_whole(entries: list[dict[str, Any]]) -> None:
    """All states of a full in their order, its end with duration and size, and who says what."""
    assert {entry["database"] for entry in entries} == {"orders"}
    assert entries[0]["event"] == "a run begins"
    states = [entry["event"].removeprefix("backup ") for entry in entries if entry["event"].startswith("backup ")]
    assert [state for state in states if state in STATES] == STATES
    over = next(entry for entry in entries if entry["event"] == "the run is over: done")
    ended = entries[-1]
    assert (ended["from"], ended["event"]) == ("service", "a run ended: done")
    assert over["stored_bytes"] > 0
    assert 0 < over["duration_seconds"] <= ended["duration_seconds"] + 1
