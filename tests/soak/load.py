"""Applications that know nothing of backupd: writers and readers of every habit on one SQLite database.

Run as ``python tests/soak/load.py DB --seconds 60 --seed 7``; each worker is a
process of its own and leaves a report (commits, BUSY errors, longest wait).
Only Python's own library and the ``sqlite3`` command are used here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

SCHEMA = """
CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT, amount INTEGER, note TEXT);
CREATE INDEX orders_by_customer ON orders(customer);
CREATE TABLE events(id INTEGER PRIMARY KEY, kind TEXT, body TEXT);
CREATE TABLE files(name TEXT PRIMARY KEY, content BLOB) WITHOUT ROWID;
CREATE TABLE attachments(id INTEGER PRIMARY KEY, content BLOB);
CREATE TABLE visits(id INTEGER PRIMARY KEY, who INTEGER, at REAL);
"""
ROWS_MAX = 6000  # of each table: the load rewrites, it does not only grow


@dataclass
class Tally:
    """What one worker has seen.

    ``longest_wait``: seconds until the write lock (or the answer, where the lock cannot be told apart) came.
    """

    kind: str
    commits: int = 0
    rollbacks: int = 0
    busy: int = 0
    longest_wait: float = 0.0
    longest_wait_at: float = 0.0
    errors: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time what is done inside."""
        began = time.monotonic()
        try:
            yield
        finally:
            waited = time.monotonic() - began
            if waited > self.longest_wait:
                self.longest_wait, self.longest_wait_at = waited, time.time()

    @contextlib.contextmanager
    def busy_allowed(self) -> Iterator[None]:
        """Count BUSY and LOCKED; any other error is one to show."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                self.busy += 1
            else:
                self.errors.append(str(error))


class Worker:
    """One process of the application."""

    def __init__(self, db: Path, kind: str, seed: int, stop_at: float) -> None:
        self.db, self.dice, self.tally, self._stop_at = db, random.Random(f"{seed}/{kind}"), Tally(kind), stop_at
        self.stopped = False

    def go_on(self, pause_max: float = 0.0) -> bool:
        """Whether the load still runs; rests a little first."""
        if pause_max:
            time.sleep(self.dice.uniform(0, pause_max))
        return not self.stopped and time.time() < self._stop_at

    def connect(self, timeout: float = 30.0) -> sqlite3.Connection:
        """As any program would: autocommit, WAL stays as the file says."""
        return sqlite3.connect(self.db, timeout=timeout, isolation_level=None)

    def begin(self, connection: sqlite3.Connection) -> bool:
        """Begin a write transaction; False when busy."""
        busy = self.tally.busy
        with self.tally.busy_allowed(), self.tally.waiting():
            connection.execute("BEGIN IMMEDIATE")
        return self.tally.busy == busy and connection.in_transaction

    def text(self, length_max: int) -> str:
        """Text that compresses about as well as text does."""
        return "".join(self.dice.choices("etaoin shrdlu 0123456789", k=self.dice.randint(1, length_max)))


def singles(work: Worker) -> None:
    """Autocommit: one row, one transaction."""
    connection = work.connect()
    while work.go_on(0.008):
        row = (work.dice.randint(1, ROWS_MAX), f"c{work.dice.randint(1, 500)}", work.dice.randint(1, 10**6))
        with work.tally.busy_allowed(), work.tally.waiting():
            connection.execute("INSERT OR REPLACE INTO orders VALUES(?, ?, ?, ?)", (*row, work.text(300)))
            work.tally.commits += 1


def impatient(work: Worker) -> None:
    """The same from a program that never set a busy timeout."""
    connection = work.connect(timeout=0)
    while work.go_on(0.02):
        with work.tally.busy_allowed(), work.tally.waiting():
            connection.execute("UPDATE orders SET amount = amount + 1 WHERE id = ?", (work.dice.randint(1, ROWS_MAX),))
            work.tally.commits += 1


def big(work: Worker) -> None:
    """Transactions that do not fit into the cache: they spill, rewrite what they spilled, and are often rolled back."""
    connection = work.connect()
    connection.execute("PRAGMA cache_size=5")
    while work.go_on(0.6):
        if not work.begin(connection):
            continue
        for _ in range(work.dice.randint(50, 800)):
            row = (work.dice.randint(1, ROWS_MAX), "big", work.text(900))
            connection.execute("INSERT OR REPLACE INTO events VALUES(?, ?, ?)", row)
        connection.execute("UPDATE events SET kind = kind || '+' WHERE id % 7 = ?", (work.dice.randint(0, 6),))
        if work.dice.random() < 0.3:
            connection.execute("ROLLBACK")
            work.tally.rollbacks += 1
        else:
            connection.execute("COMMIT")
            work.tally.commits += 1


def savepoints(work: Worker) -> None:
    """Nested transactions of which only a part stays, and deletes in small pieces."""
    connection = work.connect()
    while work.go_on(0.1):
        if not work.begin(connection):
            continue
        connection.execute("SAVEPOINT inner_one")
        connection.execute("DELETE FROM visits WHERE id IN (SELECT id FROM visits ORDER BY id LIMIT 40)")
        if work.dice.random() < 0.5:
            connection.execute("ROLLBACK TO inner_one")
        rows = [(work.dice.randint(1, 500), time.time()) for _ in range(work.dice.randint(1, 60))]
        connection.executemany("INSERT INTO visits(who, at) VALUES(?, ?)", rows)
        connection.execute("COMMIT")
        work.tally.commits += 1


def blobs(work: Worker) -> None:
    """Values larger than many pages, written whole, in part, and removed."""
    connection = work.connect()
    while work.go_on(0.25):
        number = work.dice.randint(1, 60)
        if not work.begin(connection):
            continue
        length = work.dice.randint(5_000, 150_000)
        connection.execute(
            "INSERT OR REPLACE INTO attachments VALUES(?, ?)", (number, work.dice.randbytes(length // 4) * 4)
        )
        if work.dice.random() < 0.5:
            with connection.blobopen("attachments", "content", number) as blob:
                blob.seek(work.dice.randint(0, length // 2))
                blob.write(work.dice.randbytes(1000))
        connection.execute("DELETE FROM attachments WHERE id = ?", (work.dice.randint(1, 60),))
        connection.execute("INSERT OR REPLACE INTO files VALUES(?, zeroblob(?))", (f"f{number}", length))
        connection.execute("COMMIT")
        work.tally.commits += 1


def vacuum(work: Worker) -> None:
    """Deletes much, gives pages back bit by bit, and now and then rebuilds the whole file."""
    connection = work.connect()
    while work.go_on(3.0):
        what = work.dice.random()
        with work.tally.busy_allowed(), work.tally.waiting():
            if what < 0.5:
                low = work.dice.randint(1, ROWS_MAX)
                connection.execute("DELETE FROM events WHERE id BETWEEN ? AND ?", (low, low + 2000))
            elif what < 0.8:
                connection.execute(f"PRAGMA incremental_vacuum({work.dice.randint(1, 500)})")
            else:
                connection.execute("VACUUM")
            work.tally.commits += 1


def checkpointer(work: Worker) -> None:
    """An application that checkpoints by itself, in all four modes, with a short and with Python's usual timeout."""
    connections = [work.connect(0), work.connect(0.2), work.connect(5.0)]
    while work.go_on(0.8):
        mode = work.dice.choice(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
        connection = work.dice.choices(connections, (4, 4, 1))[0]
        with work.tally.busy_allowed(), work.tally.waiting():
            busy, _, _ = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            work.tally.busy += busy
            work.tally.commits += not busy


def open_close(work: Worker) -> None:
    """A script that connects, writes one row and leaves, again and again."""
    while work.go_on(0.15):
        with work.tally.busy_allowed(), contextlib.closing(work.connect()) as connection, work.tally.waiting():
            connection.execute("INSERT INTO visits(who, at) VALUES(?, ?)", (0, time.time()))
            work.tally.commits += 1


def reader(work: Worker) -> None:
    """Long read transactions that must see one state from their begin to their end."""
    connection = work.connect()
    question = "SELECT (SELECT count(*) || '/' || total(amount) FROM orders), (SELECT count(*) FROM visits)"
    while work.go_on(0.3):
        with work.tally.busy_allowed():
            connection.execute("BEGIN")
            with work.tally.waiting():
                first = connection.execute(question).fetchone()
            time.sleep(work.dice.uniform(0, 2.5))
            if connection.execute(question).fetchone() != first:
                work.tally.errors.append("a read transaction saw two states")
            connection.execute("COMMIT")
            work.tally.commits += 1


def command_line(work: Worker, timeout_ms: int) -> None:
    """The ``sqlite3`` command, a new process each time."""
    tool = shutil.which("sqlite3")
    if tool is None:
        work.tally.errors.append("skipped: there is no sqlite3 command")
        return
    while work.go_on(0.3):
        number = work.dice.randint(1, ROWS_MAX)
        script = (
            (f".timeout {timeout_ms}\n" if timeout_ms else "")
            + f"INSERT OR REPLACE INTO orders VALUES({number}, 'cli', 1, '{work.text(200)}');\n"
            + "BEGIN IMMEDIATE;\n"
            + f"UPDATE orders SET amount = amount + 1 WHERE id BETWEEN {number} AND {number + 50};\nCOMMIT;\n"
        )
        with work.tally.waiting():
            done = subprocess.run([tool, str(work.db)], input=script, capture_output=True, text=True, check=False)
        busy = done.stderr.count("locked")
        work.tally.busy += busy
        work.tally.commits += max(0, 2 - busy)
        others = [line for line in done.stderr.splitlines() if "locked" not in line and "no transaction" not in line]
        work.tally.errors += others[:3]


WORKERS: dict[str, Callable[[Worker], None]] = {
    "singles": singles,
    "impatient": impatient,
    "big": big,
    "savepoints": savepoints,
    "blobs": blobs,
    "vacuum": vacuum,
    "checkpointer": checkpointer,
    "open_close": open_close,
    "reader one": reader,
    "reader two": reader,
    "cli patient": lambda work: command_line(work, 5000),
    "cli impatient": lambda work: command_line(work, 0),
}


def create(db: Path) -> None:
    """The application's own database."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(SCHEMA)


def schema_of(db: Path) -> list[tuple[str, str, str | None]]:
    """Everything that the schema of ``db`` names."""
    with contextlib.closing(sqlite3.connect(db, timeout=30)) as connection:
        return sorted(connection.execute("SELECT type, name, sql FROM sqlite_schema").fetchall())


class Load:
    """All workers on one database, until ``stop`` or the end of ``seconds``."""

    def __init__(self, db: Path, *, seed: int, seconds: float, kinds: tuple[str, ...] = tuple(WORKERS)) -> None:
        self._reports = Path(tempfile.mkdtemp(prefix="load-"))
        self.stop_at = time.time() + seconds
        arguments = ["--seed", str(seed), "--until", str(self.stop_at), "--reports", str(self._reports)]
        self._processes = {
            kind: subprocess.Popen([sys.executable, __file__, str(db), "--worker", kind, *arguments]) for kind in kinds
        }

    def stop(self) -> list[Tally]:
        """End all workers, each at the end of what it does; answers what they have seen."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        tallies = []
        for kind, process in self._processes.items():
            report = self._reports / f"{kind}.json"
            tally = Tally(**json.loads(report.read_text())) if report.exists() else Tally(kind)
            if process.returncode and not report.exists():
                tally.errors.append(f"ended with status {process.returncode}")
            tallies.append(tally)
        shutil.rmtree(self._reports, ignore_errors=True)
        return tallies


def told(tallies: list[Tally]) -> str:
    """One line for each worker."""
    lines = [f"{'worker':<14}{'commits':>9}{'rolled back':>13}{'busy':>7}{'longest wait':>15}"]
    lines += [
        f"{one.kind:<14}{one.commits:>9}{one.rollbacks:>13}{one.busy:>7}{one.longest_wait:>13.3f} s"
        + (f"  {one.errors[:2]}" if one.errors else "")
        for one in tallies
    ]
    return "\n".join(lines)


def _work(options: argparse.Namespace) -> None:
    work = Worker(options.db, options.worker, options.seed, options.until)

    def stop(*_: object) -> None:
        work.stopped = True

    signal.signal(signal.SIGTERM, stop)
    try:
        WORKERS[options.worker](work)
    finally:
        (options.reports / f"{options.worker}.json").write_text(json.dumps(asdict(work.tally)))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("db", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--reports", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(options)
        return
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    if not options.db.exists():
        create(options.db)
    load = Load(options.db, seed=seed, seconds=options.seconds)
    time.sleep(options.seconds)
    sys.stdout.write(f"seed {seed}\n{told(load.stop())}\n")


if __name__ == "__main__":
    main()
