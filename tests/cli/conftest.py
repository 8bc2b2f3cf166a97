"""A real pair with its service, a full and an incremental: one for all the tests that only read it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backupd.cli.main import run

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said and left with."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class House:
    """Where everything of one pair lies."""

    directory: Path
    service: subprocess.Popen[bytes]

    @property
    def config(self) -> Path:
        return self.directory / "conf" / "backupd.toml"

    @property
    def active(self) -> Path:
        return self.directory / "app.db"

    @property
    def passive(self) -> Path:
        return self.directory / "passive" / "app.db"

    def write(self, rows: int) -> None:
        """The application at work."""
        app = sqlite3.connect(self.active)
        app.execute("pragma journal_mode=wal")
        app.execute("create table if not exists orders(id integer primary key, item text)")
        app.executemany("insert into orders(item) values (?)", [(f"item {n}",) for n in range(rows)])
        app.commit()
        app.close()

    def ctl(self, *words: str) -> Answer:
        """One command as a script runs it, without a terminal; in this process, which saves the start of another."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run([*words, "--config", str(self.config)])
        return Answer(status, out.getvalue(), err.getvalue())


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("BACKUPD_")}
    return {**own, "PYTHONPATH": str(ROOT)}


def start_service(config: Path) -> subprocess.Popen[bytes]:
    """The service, up to the moment that it says that replication has started."""
    log = config.parent / "backupd.log"
    with open(log, "wb") as stderr:
        service = subprocess.Popen(
            [sys.executable, "-m", "backupd.service.main", "--config", str(config)], env=environment(), stderr=stderr
        )
    deadline = time.monotonic() + 60
    while 'event="replication started"' not in log.read_text():
        assert service.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return service


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("house")
    (directory / "passive").mkdir()
    copies = ["--copy", f"a={directory / 'app.db'}", "--copy", f"b={directory / 'passive' / 'app.db'}"]
    where = ["--active", "a", "--archive", f"file://{directory / 'backups'}"]
    assert run(["init", str(directory / "conf"), "--database", "orders", *copies, *where]) == 0
    config = directory / "conf" / "backupd.toml"
    config.write_text(config.read_text() + 'listen = ""\nschedule = false\n')  # a test may run at 02:00 UTC
    connection = sqlite3.connect(directory / "app.db")
    connection.execute("pragma journal_mode=wal")
    connection.close()
    house = House(directory, start_service(directory / "conf" / "backupd.toml"))
    try:
        house.write(1000)
        assert (full := house.ctl("backup", "orders", "--type", "full")).returncode == 0, full.stderr
        house.write(1000)
        made = house.ctl("backup", "orders", "--type", "incremental", "--json")
        assert made.returncode == 0, made.stderr
        yield house
    finally:
        house.service.send_signal(signal.SIGTERM)
        assert house.service.wait(60) == 0
