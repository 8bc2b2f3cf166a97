"""Two services, each with a home of its own, over one pair and one archive: every slot is run once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stories.pg_home import ROOT, PgHome, pg_home

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(900)]

SCHEDULE = 'full = "every 40 s"\nincremental = "every 8 s"\n'
# A lease is given up a minute after its holder was last seen; see archive/lease.py.
LEASE_SECONDS = 60.0


@dataclass
class Node:
    """One home of the service, in a session of its own, so that all of its processes can be stopped at once."""

    root: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def begin(cls, home: PgHome, name: str) -> Node:
        root = home.root / name
        (root / "policies").mkdir(parents=True)
        (root / "backupd.toml").write_text(f'[service]\nnode = "{name}"\nlisten = ""\n')
        (root / "policies" / "orders.toml").write_text(home.policy.read_text())
        words = [sys.executable, "-m", "backupd.service.main", "--config", str(root / "backupd.toml")]
        environment = home.environment(PYTHONPATH=str(ROOT))
        with open(root / "service.log", "wb") as log:
            return cls(root, subprocess.Popen(words, env=environment, stderr=log, start_new_session=True))

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGCONT)
            self.process.terminate()
        self.process.wait(120)

    def done(self) -> list[tuple[str, str]]:
        """The slot and the label of each backup that this node's journal calls complete."""
        journal = self.root / "state" / "journal.db"
        if not journal.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT facts, label FROM runs WHERE kind = 'backup' AND state = 'complete'")
            return [(json.loads(facts)["reason"], label) for facts, label in rows]

    def log(self) -> str:
        return (self.root / "service.log").read_text()


@pytest.fixture
def home() -> Iterator[PgHome]:
    with pg_home(16) as home:
        yield home


def wait(condition: Callable[[], bool], seconds: float, told: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.5)


@contextlib.contextmanager
def two(home: PgHome) -> Iterator[tuple[Node, Node]]:
    nodes = (Node.begin(home, "one"), Node.begin(home, "two"))
    try:
        yield nodes
    finally:
        for node in nodes:
            node.end()


def slots(*nodes: Node) -> list[str]:
    return [slot for node in nodes for slot, _ in node.done()]


def check_each_once(home: PgHome, *nodes: Node) -> None:
    assert max(Counter(slots(*nodes)).values()) == 1
    listed = {one["id"] for one in home.ok("list", "orders", "--json").json["backups"]}
    assert listed == {label for node in nodes for _, label in node.done()}
    assert home.ok("verify", "orders", "--json").json["sound"]


def test_every_slot_runs_once_and_a_service_that_stands_still_is_done_without(home: PgHome) -> None:
    home.write_policy(schedule=SCHEDULE)
    with two(home) as (one, two_), home.load("-c", 1, "-T", 3600, "-R", 20):
        both = (one, two_)

        def told() -> str:
            return "\n".join(node.log()[-3000:] for node in both)

        wait(lambda: len(slots(*both)) >= 8, 240, told)
        # It stands still in the middle of a run, which holds the lease.
        began = one.log().count("a run begins")
        wait(lambda: one.log().count("a run begins") > began, 60, told)
        one.signal(signal.SIGSTOP)
        count = len(two_.done())
        wait(lambda: len(two_.done()) >= count + 3, LEASE_SECONDS * 3, told)
        one.signal(signal.SIGCONT)
        after = len(slots(*both))
        wait(lambda: len(slots(*both)) >= after + 4, 120, told)
    check_each_once(home, *both)


def test_the_schedule_follows_the_passive_over_a_failover(home: PgHome) -> None:
    home.write_policy(schedule=SCHEDULE)
    text = home.policy.read_text()
    for name, node in (("a", "one"), ("b", "two")):
        text = text.replace(f"[copies.{name}]\n", f'[copies.{name}]\nnode = "{node}"\n')
    home.policy.write_text(text)
    with two(home) as (one, two_):
        wait(lambda: len(two_.done()) >= 3, 180, lambda: two_.log()[-3000:])
        assert one.done() == []
        assert "not our turn: the passive copy b is on two, and this is one" in one.log()
        old = home.pair.active
        home.pair.seed(old, home.pair.fail_over())
        wait(lambda: len(one.done()) >= 2, 240, lambda: one.log()[-3000:])
        count = len(two_.done())
        wait(lambda: len(one.done()) >= 4, 120, lambda: one.log()[-3000:])
        assert len(two_.done()) <= count + 1
    check_each_once(home, one, two_)
