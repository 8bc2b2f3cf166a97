"""How fast a full backup, its restore and the page-map scan are, as ratios to zstd, zstd -d and b3sum on the same file.

    python contrib/bench/archive_speed.py [--size-mb 1000] [--runs 5] [--database FILE] [--directory DIR]

Makes a realistic SQLite file (words, numbers, JSON, indexes, some random hex),
then runs every pair alternately, so that a noisy machine hits both sides, and
prints the median of each and the ratio of the medians.  A backup here is all of
it: page check, compression, every hash, create, sync, read-back proof, record.
All sides make durable what they wrote.
CPU seconds are printed too: they hold still when the clock does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

_TEXT = (
    "the order of a customer was shipped late because warehouse stock ran out again and nobody told finance about "
    "invoice returns priority express parcel street number city country refund pending paid open closed"
)
WORDS = _TEXT.split()


def make_database(path: Path, size_bytes: int) -> None:
    """A database of about that size; always the same."""
    source = random.Random(7)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = off")
    connection.execute("PRAGMA synchronous = off")
    connection.execute(
        "CREATE TABLE orders"
        " (id INTEGER PRIMARY KEY, customer INT, total REAL, state TEXT, note TEXT, doc TEXT, token TEXT)"
    )
    number = 0
    while path.stat().st_size < size_bytes * 0.96:
        rows = []
        for _ in range(20_000):
            number += 1
            doc = {"sku": source.randrange(10**6), "qty": source.randrange(9), "tags": source.choices(WORDS, k=4)}
            rows.append(
                (
                    number,
                    source.randrange(200_000),
                    round(source.random() * 1000, 2),
                    source.choice(["open", "paid", "shipped"]),
                    " ".join(source.choices(WORDS, k=source.randrange(5, 30))),
                    json.dumps(doc),
                    f"{source.getrandbits(128):032x}",
                )
            )
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
    connection.execute("CREATE INDEX by_customer ON orders (customer)")
    connection.commit()
    connection.close()


def cpu_seconds() -> float:
    """Of this process and of the programs that it ran."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


class Work:
    """The things that are measured; each run begins with the database in the page cache."""

    def __init__(self, database: Path, directory: Path) -> None:
        from backupd.archive.local import LocalStore
        from tests.archive_builders import FileSource, ObedientClock, open_archive, take_full

        self.database, self.directory = database, directory
        self._open: Callable[[], DatabaseArchive] = lambda: open_archive(
            LocalStore.prepare(directory / "archive"), ObedientClock()
        )
        self._take, self._source = take_full, FileSource
        self.archive = directory / "archive"
        self.packed = directory / "packed.zst"
        self.stage = directory / "stage.db"
        self.workers = 2

    def zstd_pack(self) -> None:
        """zstd -3 of the file."""
        with self.packed.open("wb") as out:
            subprocess.run(["zstd", "-q", "-3", f"-T{self.workers}", "-c", str(self.database)], stdout=out, check=True)
            os.fsync(out.fileno())

    def backup(self) -> None:
        """A whole full backup."""
        from backupd.model.position import Position
        from backupd.model.records import BackupType
        from backupd.pipeline.store import store_file
        from tests.archive_builders import HISTORY, record_of

        archive = self._open()
        backup = archive.begin(BackupType.FULL, parent=None)
        result = store_file(self._source(self.database), backup, level=3, workers=self.workers)
        if result.file is None:
            raise SystemExit("a page is bad")
        backup.prove()
        at = Position(HISTORY, 0)
        backup.commit(record_of(backup, BackupType.FULL, at, at, files=(result.file,)))

    def zstd_unpack(self) -> None:
        """zstd -d of that."""
        subprocess.run(["zstd", "-q", "-d", "-f", str(self.packed), "-o", str(self.stage)], check=True)
        with self.stage.open("rb") as file:
            os.fsync(file.fileno())

    def restore(self) -> None:
        """Fetch the newest full."""
        from backupd.pipeline.fetch import fetch_file

        archive = self._open()
        (file,) = archive.list().backups[-1].record.files
        fetch_file(file, archive.store, self.stage, workers=self.workers)

    def b3sum(self) -> None:
        """b3sum of the file."""
        subprocess.run(["b3sum", str(self.database)], stdout=subprocess.DEVNULL, check=True)

    def page_scan(self) -> None:
        """The hash of every page."""
        from concurrent.futures import ThreadPoolExecutor

        from backupd.pages import page_hashes

        descriptor = os.open(self.database, os.O_RDONLY)

        def scan(offset: int) -> int:
            block = os.pread(descriptor, 1 << 20, offset)
            return int(page_hashes(block, 4096)[-1])

        with ThreadPoolExecutor(self.workers) as pool:
            for _ in pool.map(scan, range(0, self.database.stat().st_size, 1 << 20)):
                pass
        os.close(descriptor)

    def warm(self) -> None:
        """Bring the file into the page cache."""
        with self.database.open("rb") as file:
            while file.read(1 << 22):
                pass

    def clear(self) -> None:
        """No archive and no stage."""
        shutil.rmtree(self.archive, ignore_errors=True)
        self.stage.unlink(missing_ok=True)
        os.sync()


def measured(call: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    cpu, start = cpu_seconds(), time.perf_counter()
    call()
    return time.perf_counter() - start, cpu_seconds() - cpu


def arguments(about: str | None) -> argparse.ArgumentParser:
    """What all measurements of one database take."""
    words = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--size-mb", type=int, default=1000)
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--database", type=Path, help="use this file instead of making one")
    words.add_argument("--directory", type=Path, help="work here instead of in a temporary directory")
    return words


@contextmanager
def database_of(wishes: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """The database to measure with, and a directory to work in, which goes away."""
    with tempfile.TemporaryDirectory(dir=wishes.directory) as name:
        directory = Path(name)
        database = wishes.database or directory / "made.db"
        if wishes.database is None:
            make_database(database, wishes.size_mb * 1_000_000)
        yield database, directory


def main() -> None:
    """Make the database, measure, print."""
    wishes = arguments(__doc__).parse_args()
    with database_of(wishes) as (database, directory):
        report(Work(database, directory), wishes.runs)


def report(work: Work, runs: int) -> None:
    """Measure every pair and print it."""
    megabytes = work.database.stat().st_size / 1e6
    pairs: list[tuple[str, Callable[[], None], str, Callable[[], None]]] = [
        ("zstd -3 -T2", work.zstd_pack, "full backup", work.backup),
        ("zstd -d", work.zstd_unpack, "restore", work.restore),
    ]
    if shutil.which("b3sum"):
        pairs.append(("b3sum", work.b3sum, "page-map scan", work.page_scan))
    took: dict[str, list[tuple[float, float]]] = {}
    work.backup()  # once to load everything
    for _ in range(runs):
        for theirs, their_call, ours, our_call in pairs:
            for what, call in ((theirs, their_call), (ours, our_call)):
                if what == "full backup":
                    work.clear()
                work.stage.unlink(missing_ok=True)
                work.warm()
                took.setdefault(what, []).append(measured(call))
    print(f"{megabytes:.0f} MB of SQLite, {runs} interleaved runs, {os.cpu_count()} processors, medians")
    for theirs, _, ours, _ in pairs:
        speeds = []
        for what in (theirs, ours):
            wall = statistics.median(each[0] for each in took[what])
            cpu = statistics.median(each[1] for each in took[what])
            speeds.append(megabytes / wall)
            print(f"  {what:14} {megabytes / wall:7.0f} MB/s   {wall:6.2f} s   {cpu:6.2f} cpu-s")
        print(f"  {ours} / {theirs}: {speeds[1] / speeds[0]:.2f}")
    stored = sum(path.stat().st_size for path in work.archive.rglob("*") if path.is_file())
    print(f"  size: archive {stored / 1e6:.0f} MB, zstd {work.packed.stat().st_size / 1e6:.0f} MB")
    print(f"  peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
