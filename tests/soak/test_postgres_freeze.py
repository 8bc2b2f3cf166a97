"""A standby of 3 GB under a write load, frozen on btrfs and on XFS: for how long, and does anything move meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.demo.postgres_binaries import Person
from tests.loop_mounts import loop_mount
from tests.stories.pg_home import PgHome, pg_home

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.root, pytest.mark.timeout(1800)]
SCALE = 200  # about 3 GB of pgbench's tables
DIRECTORIES = ("base", "global", "pg_xact", "pg_multixact")


@pytest.fixture(params=["btrfs", "xfs"])
def home(request: pytest.FixtureRequest) -> Iterator[PgHome]:
    """A pair whose standby is on the filesystem."""
    made = Path(tempfile.mkdtemp(prefix="pgl-", dir="/tmp"))
    made.chmod(0o755)
    with loop_mount(made, request.param, size_bytes=12 << 30) as mounted:
        mounted.chmod(0o755)
        place = mounted / "home"
        Person().own(place)
        if request.param == "btrfs":
            subprocess.run(["btrfs", "subvolume", "create", str(place / "data")], check=True, capture_output=True)
            Person().own(place / "data")
        settings = {"shared_buffers": "256MB", "max_wal_size": "4GB"}
        with pg_home(home=place, scale=SCALE, fsync=True, settings=settings) as opened:
            yield opened
    shutil.rmtree(made)


def digest(directory: Path) -> str:
    """Of every data file below a snapshot, in order."""
    hasher = hashlib.blake2b()
    for part in DIRECTORIES:
        for path in sorted((directory / part).rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    hasher.update(hashlib.file_digest(file, "blake2b").digest())
    return hasher.hexdigest()


def digests_while_stopped(home: PgHome, run: subprocess.Popen[str]) -> tuple[str, str]:
    """The snapshot's digest, twice, a while apart: when the run is past its thaw it is stopped, so that it stays."""
    data, journal = home.pair.passive.data, home.state.parent / "journal.db"
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and run.poll() is None:
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(journal, timeout=1)) as opened:
            if ("thawed",) in opened.execute("SELECT state FROM runs").fetchall():
                break
        time.sleep(0.02)
    run.send_signal(signal.SIGSTOP)
    try:
        (snapshot,) = [path for path in data.glob("*backupd-snapshot/*") if path.is_dir()]
        first = digest(snapshot)
        time.sleep(2)
        return first, digest(snapshot)
    finally:
        run.send_signal(signal.SIGCONT)


def test_a_full_of_a_busy_standby_freezes_it_for_a_moment(home: PgHome, capsys: pytest.CaptureFixture[str]) -> None:
    with home.load("-c", 2, "-T", 3600, "-R", 150):
        time.sleep(5)
        words = home.command("backup", "orders", "--type", "full", "--json")
        run = subprocess.Popen(words, env=home.environment(), stdout=subprocess.PIPE, text=True, cwd=home.root)
        first, second = digests_while_stopped(home, run)
        told, _ = run.communicate(timeout=1500)
        assert run.returncode == 0, told
    full = json.loads(told)
    assert first == second
    assert full["frozen_seconds"] < 20
    assert full["read_bytes"] > 3 * 10**9
    window = int(full["log_end"].rpartition("/")[2]) - int(full["log_start"].rpartition("/")[2])
    with capsys.disabled():
        sys.stdout.write(
            f"\n{full['provider']}: frozen {full['frozen_seconds']:.2f} s, {full['read_bytes'] / 1e9:.2f} GB read, "
            f"{full['checked_pages']} pages, log window {window / 2**20:.0f} MiB\n"
        )
    target = home.root / "restored" / "data"
    home.pair.a.person.own(target.parent)
    home.ok("restore", "orders", "--backup", full["id"], "--target", str(target), "--yes", seconds_max=1500)
    home.check_restored(target)
    with home.opened(target) as restored:
        assert len(set(restored.pgbench_sums())) == 1
