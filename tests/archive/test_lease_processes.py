"""Real processes on one directory, stopped for longer than a short lease and let go again: nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from backupd.archive import lease, names
from backupd.archive.database import DatabaseArchive
from backupd.archive.lease import DatabaseLease
from backupd.archive.local import LocalStore
from backupd.archive.repository import Repository
from backupd.archive.term_objects import newest_term
from backupd.archive.verify import Level, verify_database
from backupd.engines.file_reader import FileReader
from backupd.pipeline import layout
from tests.archive.test_lease_races import LOGS_MAX, ROUNDS, Hands
from tests.archive_builders import open_archive, write_log, write_pages

PERIOD_SECONDS = 0.3
TAKEN_OVER = "taken over"
ROOT = Path(__file__).parents[2]


class RealHost:
    """A process with a real clock and a real heartbeat, for ``Hands``."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.world = SimpleNamespace(dice=random.Random(seed), counts=Counter(), broken=[], seconds=0.0)
        self.rounds = 0
        self.held: object = None
        self.renewed_at = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / 100)

    def archive(self) -> DatabaseArchive:
        return Repository.open(LocalStore(self.directory / "archive"), self).database("orders", "sqlite", None)

    def lease(self, run: str) -> DatabaseLease:
        seen = self.directory / f"seen-{os.getpid()}"
        made = Counted(self.archive(), run=run, seen=seen, period_seconds=PERIOD_SECONDS)
        made.counts = self.world.counts
        return made


class Counted(DatabaseLease):
    """Counts how often it was taken over from a holder that stood still; who looks from outside misses most."""

    counts: Counter[str]

    def acquire(self, *, patient: bool = False) -> None:
        super().acquire(patient=patient)
        term = newest_term(self._archive.store, self._archive.dbid)
        if term is not None and term.nonce == self.nonce:
            self.counts[TAKEN_OVER] += "not renewed" in term.follows


def live(directory: str, role: str, seed: str, rounds: str) -> None:
    """What one process does; it ends with 0 unless a promise was broken."""
    FileReader.block_bytes, layout.SEGMENT_BYTES, lease._LOOK_SECONDS = 1 << 15, 1 << 17, 0.05
    host = RealHost(Path(directory), int(seed))
    host.rounds = ROUNDS - int(rounds)
    logs = Path(directory) / f"log of {os.getpid()}"
    logs.mkdir()
    hands = Hands(Path(directory) / "app.db", [write_log(logs, number + 1) for number in range(LOGS_MAX)])
    {"writer": hands.writer, "pruner": hands.pruner}[role](host)  # type: ignore[arg-type]
    sys.stdout.write(json.dumps({"counts": host.world.counts, "broken": host.world.broken}))
    sys.exit(1 if host.world.broken else 0)


def play(seed: int, directory: Path, rounds: int = ROUNDS) -> int:
    """Two writers and a pruner under a hand that stops them; how often a lease was taken over."""
    directory.mkdir()
    write_pages(directory / "app.db", 3)
    archive = open_archive(LocalStore.prepare(directory / "archive"))
    dice = random.Random(seed)
    program = "import sys; from tests.archive.test_lease_processes import live; live(*sys.argv[1:])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(directory), role, str(seed * 10 + number), str(rounds)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, role in enumerate(("writer", "writer", "pruner"))
    ]
    try:
        while alive := [process for process in processes if process.poll() is None]:
            time.sleep(dice.uniform(0.0, 0.1))
            term = newest_term(archive.store, archive.dbid)
            if term is None or term.released:
                continue
            victim = next((process for process in alive if process.pid == term.holder.pid), None)
            if victim is not None:
                os.kill(victim.pid, signal.SIGSTOP)
                time.sleep(dice.uniform(2, 4) * PERIOD_SECONDS)
                os.kill(victim.pid, signal.SIGCONT)
    finally:
        told = []
        for process in processes:
            process.send_signal(signal.SIGCONT)
            told.append(process.communicate(timeout=120)[0])
    assert [process.returncode for process in processes] == [0, 0, 0], f"seed {seed}: {told}"
    last = DatabaseLease(archive, run="recovery", heartbeat=False)
    last.acquire()
    archive.lease = last
    archive.sweep(holding_lease=True)
    last.release()
    listing = archive.list()
    assert verify_database(archive, Level.DATA).findings == [], f"seed {seed}"
    assert all(one.record.parent in {*listing.by_id(), None} for one in listing.backups), f"seed {seed}"
    for prefix in (names.intents_prefix(archive.dbid), names.tombs_prefix(archive.dbid)):
        assert list(archive.store.list(prefix)) == [], f"seed {seed}"
    assert len(list(archive.store.list(names.leases_prefix(archive.dbid)))) == 1, f"seed {seed}"
    return sum(json.loads(each)["counts"].get(TAKEN_OVER, 0) for each in told)


def test_stopped_processes_lose_nothing(tmp_path: Path) -> None:
    play(1, tmp_path / "1", rounds=1)


@pytest.mark.slow
def test_stopped_processes_lose_nothing_a_dozen_times(tmp_path: Path) -> None:
    assert sum(play(seed, tmp_path / str(seed)) for seed in range(2, 14)) > 0, "no lease was ever taken over"
