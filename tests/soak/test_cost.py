"""What backupd costs, seen from the outside: files that a backup opens, memory of all its processes, bytes read."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.soak import house, load
from tests.soak.watch import Watch

MEMORY_MAX = 250 << 20
_RETURNED = re.compile(r"= \d+<(/[^>]*)>")


def fill(db: Path, size_bytes: int) -> None:
    """Rows of a ledger as shops have them: names that repeat, amounts and times that do not, a note now and then."""
    dice = random.Random(5)
    words = [load.Worker(db, "words", number, 0).text(12).strip() for number in range(2000)]
    notes = [" ".join(dice.choices(words, k=dice.randint(5, 90))) for _ in range(4000)]
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(
            "CREATE TABLE ledger(id INTEGER PRIMARY KEY, at TEXT, who TEXT, city TEXT, sum REAL, key TEXT, note TEXT)"
        )
        row = "INSERT INTO ledger VALUES(NULL, ?, ?, ?, ?, ?, ?)"
        while db.stat().st_size < size_bytes:
            rows = [
                (
                    f"2026-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}T{dice.randint(0, 23):02}:00",
                    f"{dice.choice(words)} {dice.choice(words)}",
                    dice.choice(words),
                    dice.randint(1, 10**7) / 100,
                    dice.randbytes(8).hex(),
                    dice.choice(notes),
                )
                for _ in range(10_000)
            ]
            connection.execute("BEGIN")
            connection.executemany(row, rows)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@dataclass
class Observed:
    """Files that a command and its children have opened, and how that was seen."""

    files: set[str]
    how: str
    output: str


def observe(command: list[str], environment: dict[str, str], trace: Path) -> Observed:
    """Run ``command`` and watch every file that it opens: by strace where that works, else by looking at /proc."""
    if shutil.which("strace") and not subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode:
        traced = ["strace", "-f", "-y", "-qq", "-e", "trace=open,openat,openat2,creat", "-o", str(trace), *command]
        done = subprocess.run(traced, env=environment, capture_output=True, text=True, check=True)
        return Observed(set(_RETURNED.findall(trace.read_text())), "strace", done.stdout)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    seen: set[str] = set()
    looking = threading.Thread(target=_look, args=(process, seen))
    looking.start()
    output, _ = process.communicate()
    looking.join()
    assert process.returncode == 0
    return Observed(seen, "/proc", output)


def _look(process: subprocess.Popen[str], seen: set[str]) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError):
            for fd in Path(f"/proc/{process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    seen.add(os.readlink(fd))
        time.sleep(0.002)


def cost(size_bytes: int, tmp_path: Path, load_seconds: float) -> None:
    """Seed, full, load, incremental, restore: each watched."""
    with house.installation() as made:
        load.create(made.active)
        fill(made.active, size_bytes)
        size = made.active.stat().st_size
        made.init()
        watch = Watch(made.active, str(made.root))
        began = time.monotonic()
        made.start_service()
        made.wait_healthy(600)
        house.say(f"\ndatabase of {size >> 20} MiB; seeded in {time.monotonic() - began:.1f} s")
        seeding = watch.stop()
        backup = made.ctl_command("backup", "orders", "--json", "--type")

        watch = Watch(made.active, str(made.root))
        full = made.ctl_json("backup", "orders", "--type", "full")
        running = load.Load(made.active, seed=3, seconds=600, kinds=("singles", "big", "savepoints"))
        time.sleep(load_seconds)
        made.ctl_json("backup", "orders", "--type", "incremental")
        made.ctl_json("restore", "orders", "--target", str(tmp_path / "restored"), "--yes")
        working = watch.stop()
        shutil.rmtree(tmp_path / "restored")

        second_full = observe([*backup, "full"], made.environment(), tmp_path / "full.trace")
        time.sleep(load_seconds)
        held = made.writer().pair().passive.held_log_bytes
        incremental = observe([*backup, "incremental"], made.environment(), tmp_path / "incremental.trace")
        running.stop()

        house.say(
            f"memory at most: {seeding.memory_max >> 20} MiB while seeding, {working.memory_max >> 20} MiB in a full, "
            f"an incremental and a restore under load; replay frozen for {full['frozen_seconds']:.2f} s; "
            f"files opened, by {second_full.how}: full {len(second_full.files)}, incremental {len(incremental.files)}"
        )
        for observed in (second_full, incremental):
            assert not [one for one in observed.files if one.startswith(str(made.active))], "a backup opened the active"
            assert any(one.endswith(".wlog") or "data" in one for one in observed.files), "the watch saw nothing"
        beside = str(made.passive.parent) + "/"
        assert any(one.startswith(beside) for one in second_full.files), "the watch did not see the full's snapshot"
        assert not [one for one in incremental.files if one.startswith(beside)], "an incremental opened a data file"
        last = made.backups()[-1]
        house.say(f"incremental: {last['read_bytes'] >> 10} KiB read, {held >> 10} KiB of log were held before it")
        assert last["type"] == "incremental"
        assert 0 < last["read_bytes"] <= 2 * held + (8 << 20)
        assert max(seeding.memory_max, working.memory_max) < MEMORY_MAX


@pytest.mark.slow
def test_a_backup_opens_no_file_of_the_active_and_stays_small(tmp_path: Path) -> None:
    cost(60 << 20, tmp_path, 2.0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_backup_of_three_gigabytes_opens_no_file_of_the_active_and_stays_small(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 16 << 30:
        pytest.skip("needs 16 GiB of free disk")
    cost(3 << 30, tmp_path, 10.0)
