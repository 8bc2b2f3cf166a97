"""The service under an incremental a second over many databases: what it holds in memory, and what it has missed.

``SOAK_SECONDS=7200 pytest -s -m slow tests/soak/test_service.py`` is the whole of it.
"""

from __future__ import annotations

import os
import re
import sqlite3
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from backupd.process import stat_fields
from tests.soak.house import Installation, installation, say

SECONDS = float(os.environ.get("SOAK_SECONDS", "240"))
DATABASES = int(os.environ.get("SOAK_DATABASES", "20"))
PERIOD_SECONDS = DATABASES  # one incremental a second over all
_SAMPLE_SECONDS = 15.0
# What an allocator does not give back at once; a leak of 1 KiB a run would be 7 MiB after two hours. In a few minutes
# the libraries may come that the first look at a whole archive needs.
_GROWTH_BYTES_MAX = (6 if SECONDS >= 3600 else 24) << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process holds."""

    resident_bytes: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        """From /proc, see proc(5)."""
        words = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return cls(int(words["VmRSS"].split()[0]) * 1024, len(os.listdir(f"/proc/{pid}/fd")), int(words["Threads"]))


class Writer:
    """A program with a connection to each database, which commits a row to each once a second."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths, self._stop = paths, threading.Event()
        self.commits = 0
        self._thread = threading.Thread(target=self._run, name="the application")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connections = [sqlite3.connect(path, timeout=30) for path in self._paths]
        while not self._stop.wait(1.0):
            for connection in connections:
                with connection:
                    connection.execute("insert into t values (?, ?)", (time.time(), "x" * 200))
                self.commits += 1
        for connection in connections:
            connection.close()


def prepared(made: Installation) -> list[Path]:
    """The databases, their policies, and a service that has a schedule; answers with the actives' paths."""
    actives = []
    for number in range(DATABASES):
        name = f"shop{number:02d}"
        active, passive = made.root / "data" / f"{name}.db", made.root / "passive" / f"{name}.db"
        with closing(sqlite3.connect(active)) as connection:
            connection.execute("pragma journal_mode=wal")
            connection.execute("create table t (at, words)")
            connection.commit()
        copies = ["--copy", f"a={active}", "--copy", f"b={passive}", "--active", "a"]
        done = made.ctl(
            "init", str(made.config.parent), "--database", name, *copies, "--archive", f"file://{made.archive}"
        )
        assert done.returncode == 0, done.stderr
        policy = made.config.parent / "policies" / f"{name}.toml"
        kept = [
            line
            for line in policy.read_text().splitlines()
            if not line.startswith(("full =", "incremental =", "prune =", "verify =", "keep_"))
        ]
        # One chain ends every ten minutes: a prune that came less often would have two to remove, and ask for a yes.
        text = "\n".join(kept).replace(
            "[schedule]",
            f'[schedule]\nfull = "every 10 min"\nincremental = "every {PERIOD_SECONDS} s"\nprune = "every 5 min"\n'
            f"jitter_seconds_max = {PERIOD_SECONDS}",
        )
        policy.write_text(text.replace("[retention]", "[retention]\nkeep_fulls_min = 2") + "\n")
        actives.append(active)
    text = made.config.read_text()
    made.config.write_text(text + 'listen = ""\nruns_max = 3\nruns_per_archive_max = 3\n')
    return actives


def children(pid: int) -> dict[str, int]:
    """The long-living processes below the service by what they are."""
    found = {"service": pid}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_bytes().decode().replace("\0", " ")
        if "forkserver" in command:
            found["forkserver"] = int(child)
    return found


def samples(made: Installation, until: float) -> Iterator[tuple[dict[str, Sample], float]]:
    """Of the service and of what it forks from, with the seconds that ``backupctl status`` of one took."""
    assert made.service is not None
    while time.monotonic() < until:
        began = time.monotonic()
        made.ctl_json("status", "shop00")
        answered = time.monotonic() - began
        assert made.service.poll() is None, "the service has ended"
        yield {name: Sample.of(pid) for name, pid in children(made.service.pid).items()}, answered
        time.sleep(max(0.0, _SAMPLE_SECONDS - (time.monotonic() - began)))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 900)
def test_an_incremental_a_second_leaves_memory_and_descriptors_flat() -> None:
    with installation() as made:
        actives = prepared(made)
        with Writer(actives) as writer:
            made.start_service()
            began = time.monotonic()
            seen, answers = [], []
            for sample, seconds in samples(made, began + SECONDS):
                seen.append(sample)
                answers.append(seconds)
                service = sample["service"]
                say(
                    f"{time.monotonic() - began:6.0f} s  service {service.resident_bytes / 2**20:.1f} MiB, "
                    f"{service.descriptors} descriptors, {service.threads} threads; status {seconds:.2f} s"
                )
            log = (made.root / "service.log").read_text()
            cpu_seconds = cpu_of(made)
            made.stop_service()
        tell(log, answers, writer.commits, cpu_seconds)
        judge(seen, log)


def cpu_of(made: Installation) -> float:
    """Seconds that the service's own process has computed; runs are other processes."""
    assert made.service is not None
    fields = stat_fields(made.service.pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ends(log: str) -> Counter[str]:
    """How runs ended, by type and ending."""
    found = re.findall(r'event="a run ended: ([a-z-]+)".*? type=(\w+)', log)
    return Counter(f"{task} {ending}" for ending, task in found)


def tell(log: str, answers: list[float], commits: int, cpu_seconds: float) -> None:
    """The figures of the closing note."""
    status = sorted(answers)
    say(f"{SECONDS:.0f} s, {DATABASES} databases, {commits} commits, {cpu_seconds:.0f} s of CPU of the service itself")
    say(", ".join(f"{count} {what}" for what, count in sorted(ends(log).items())))
    for line in log.splitlines():
        if "a run ended: failed" in line:
            say(line)
    say(f"status: median {statistics.median(status):.3f} s, longest {status[-1]:.3f} s")


def judge(seen: list[dict[str, Sample]], log: str) -> None:
    """Flat between the end of the first quarter and the end; and runs were done, none failed."""
    assert len(seen) >= 8, "too few samples to see anything"
    quarter = len(seen) // 4
    for name in seen[-1]:
        early = [each[name] for each in seen[quarter : 2 * quarter] if name in each]
        late = [each[name] for each in seen[-quarter:] if name in each]
        grown = statistics.median(one.resident_bytes for one in late) - statistics.median(
            one.resident_bytes for one in early
        )
        say(f"{name}: resident memory grew by {grown / 2**20:.2f} MiB between the second quarter and the last")
        assert grown < _GROWTH_BYTES_MAX, f"the memory of the {name} grows"
        more = min(one.descriptors for one in late) - max(one.descriptors for one in early)
        assert more <= 0, f"the descriptors of the {name} grow"
    counted = ends(log)
    assert not [what for what in counted if what.endswith("failed")], counted
    assert counted["incremental done"] > SECONDS / 4, counted
