"""A whole installation for stories: a pair, a service, ``backupctl``, and a ledger of what was committed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.soak.house import Installation

# A program that knows nothing of backupd: it opens the database, says so, and holds it until it is told to end.
HOLDER = """
import signal, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchall()
print("open", flush=True)
signal.pause()
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit of the ledger: what the table held right after it, and a moment before the next commit."""

    rows: int
    total: int
    at: datetime
    position: str


@dataclass(frozen=True, slots=True)
class Answer:
    """How one command ended."""

    words: tuple[str, ...]
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)

    def told(self) -> str:
        """Everything, for a failed assertion."""
        return f"backupctl {' '.join(self.words)} ended with {self.status}\n{self.out}\n{self.err}"


class Home(Installation):
    """One database ``orders`` with small log files, so that what is committed is closed at once."""

    def __init__(self, root: Path, *, rows: int = 400, row_bytes: int = 2000) -> None:
        super().__init__(root, log_file_seconds_max=0.2)
        self.ledger: list[Entry] = []
        self._rows, self._row_bytes = rows, row_bytes

    # --- setting up -------------------------------------------------------------

    def create(self) -> None:
        """The application's database, in WAL mode."""
        with self.connected() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE ledger(id INTEGER PRIMARY KEY, amount INTEGER, body BLOB)")
            database.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                "INSERT INTO ledger SELECT i, i, randomblob(?) FROM n",
                (self._rows, self._row_bytes),
            )

    def up(self) -> None:
        """Database, config, policy, service; both copies healthy."""
        self.create()
        self.init()
        self.start_service()
        self.wait_healthy()

    @property
    def policy(self) -> Path:
        """The policy's file."""
        return self.config.parent / "policies" / "orders.toml"

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.config.parent / "state"

    @contextlib.contextmanager
    def policy_with(self, *changes: tuple[str, str], more: str = "") -> Iterator[None]:
        """The policy with some text replaced or added, for a while."""
        before = self.policy.read_text()
        text = before
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        self.policy.write_text(text + more)
        try:
            yield
        finally:
            self.policy.write_text(before)

    # --- the application ----------------------------------------------------------

    @contextlib.contextmanager
    def connected(self, path: Path | None = None) -> Iterator[sqlite3.Connection]:
        """An application's connection; closed at the end."""
        with contextlib.closing(sqlite3.connect(path or self.active, isolation_level=None, timeout=10)) as connection:
            yield connection

    def commit(self, statement: str = "", *values: object) -> Entry:
        """One transaction, closed into a log file; the ledger remembers what the table holds after it."""
        before = self.writer().pair().active.closed
        with self.connected() as database:
            database.execute(
                statement or "INSERT INTO ledger(amount, body) VALUES (abs(random()) % 1000, randomblob(3000))", values
            )
            rows, total = sums(database)

        def closed() -> bool:
            now = self.writer().pair().active.closed
            return now is not None and now != before

        self.wait("the commit to be closed into a log file", closed)
        entry = Entry(rows, total, datetime.now(UTC), str(self.writer().pair().active.closed))
        time.sleep(0.01)  # the next commit is later than this entry's moment
        self.ledger.append(entry)
        return entry

    @contextlib.contextmanager
    def program(self, *statements: str, path: Path | None = None) -> Iterator[subprocess.Popen[str]]:
        """Another program that has the database open, after ``statements``, until the end of the block."""
        held = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path or self.active), *(statements or ("SELECT count(*) FROM ledger",))],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert held.stdout is not None
            assert held.stdout.readline() == "open\n"
            yield held
        finally:
            held.kill()
            held.wait()
            assert held.stdout is not None
            held.stdout.close()

    # --- commands -------------------------------------------------------------------

    def run(self, *words: str, environment: dict[str, str] | None = None) -> Answer:
        """``backupctl`` to its end; a traceback is never an answer."""
        done = subprocess.run(
            self.ctl_command(*words),
            env={**self.environment(), **(environment or {})},
            capture_output=True,
            text=True,
            timeout=240,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        answer = Answer(words, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, answer.told()
        assert done.returncode != 1, answer.told()
        return answer

    def ok(self, *words: str) -> Answer:
        """A command that must do its work."""
        answer = self.run(*words)
        assert answer.status == 0, f"{answer.told()}\n{self.service_log()}"
        return answer

    def fails(self, status: int, *words: str) -> list[str]:
        """A command that must end with ``status`` and three lines; answers with their texts."""
        answer = self.run(*words)
        assert answer.status == status, f"{status} was expected\n{answer.told()}\n{self.service_log()}"
        return three_lines(answer)

    def backup(self, kind: str = "incremental") -> Any:
        """A backup that must be complete; answers with its JSON."""
        answer = self.ok("backup", "orders", "--type", kind, "--json").json
        assert answer["state"] == "complete", answer
        return answer

    def objects(self, kind: str = "") -> list[Path]:
        """The files of the archive below ``db/<id>/<kind>``."""
        return sorted(path for path in self.archive.glob(f"db/*/{kind}/**/*" if kind else "**/*") if path.is_file())

    # --- judgements -------------------------------------------------------------------

    def wait_same(self) -> None:
        """Both copies healthy, at one position and byte-identical."""
        self.wait_healthy()
        self.settle()
        assert digest(self.active) == digest(self.passive)

    def wait_replayed(self) -> None:
        """What was committed is on the passive too."""

        def replayed() -> bool:
            pair = self.writer().pair()
            return pair.passive.replayed is not None and pair.passive.replayed == pair.active.closed

        self.wait("the passive to have replayed all", replayed)

    def leftovers(self) -> list[str]:
        """Anything beside the databases that no run should have left."""
        names = {"app.db", "app.db-wal", "app.db-shm"}
        beside = [path for place in (self.active, self.passive) for path in place.parent.iterdir()]
        return [str(path) for path in beside if path.name not in names]

    def end(self) -> None:
        """End every process and remove every file."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop_service()
        for pid in self.processes().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)


@contextlib.contextmanager
def home(root: Path, **options: int) -> Iterator[Home]:
    """A new one below ``root``, not yet set up."""
    root.mkdir(exist_ok=True)
    made = Home(root, **options)
    try:
        yield made
    finally:
        made.end()


def three_lines(answer: Answer) -> list[str]:
    """The texts of the problem, the fact and the next step; standard error holds nothing else."""
    lines = answer.err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["error", "because", "next"], answer.told()
    texts = [line.partition(": ")[2] for line in lines]
    assert all(texts), answer.told()
    return texts


def sums(database: sqlite3.Connection) -> tuple[int, int]:
    """How many rows the ledger has and what they come to."""
    rows, total = database.execute("SELECT count(*), coalesce(sum(amount), 0) FROM ledger").fetchone()
    return int(rows), int(total)


def sums_of(path: Path) -> tuple[int, int]:
    """The same of a file that nobody uses; it must be sound."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return sums(database)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def open_to_others(*roots: Path) -> list[str]:
    """Every file, directory and socket below ``roots`` that anybody but its owner could use."""
    paths = [path for root in roots for path in (root, *root.rglob("*")) if not path.is_symlink()]
    return [f"{path} {path.lstat().st_mode & 0o777:o}" for path in paths if path.lstat().st_mode & 0o077]


def eventually(what: str, condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for ``condition``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)
