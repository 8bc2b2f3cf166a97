"""A freeze ends by itself: when the run that froze dies, at once; when it only stops, at the limit."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.engines.sqlite.marker import read_marker
from backupd.engines.sqlite.status import ask
from tests.soak import house, load

TAKING = ("copy", "clone", "snapshot")


@pytest.fixture
def limit_seconds() -> int:
    """Of the freeze: short, and yet longer than a loaded machine needs from the freeze to the snapshot."""
    return 8


@pytest.fixture
def made(limit_seconds: int) -> Iterator[house.Installation]:
    """An installation at work."""
    with house.installation() as home:
        load.create(home.active)
        home.init()
        policy = home.config.parent / "policies" / "orders.toml"
        policy.write_text(policy.read_text() + f"\n[freeze]\nseconds_max = {limit_seconds}\n")
        home.start_service()
        home.wait_healthy()
        running = load.Load(home.active, seed=1, seconds=600, kinds=("singles", "savepoints"))
        yield home
        running.stop()


def stopped_run(made: house.Installation, tmp_path: Path) -> subprocess.Popen[str]:
    """A full backup that stands still (SIGSTOP) in the very moment in which replay is frozen for it.

    A first backup tells at which step of the providers the snapshot is taken.
    """
    trace, command = tmp_path / "trace", made.ctl_command("backup", "orders", "--type", "full", "--json")
    subprocess.run(
        command, env=made.environment() | {"BACKUPD_STEP_TRACE": str(trace)}, check=True, capture_output=True
    )
    steps = [name for name in trace.read_text().split() if name.startswith("providers.")]
    taken = max(number for number, name in enumerate(steps, 1) if name.partition(".")[2] in TAKING)
    process = subprocess.Popen(
        command,
        env=made.environment() | {"BACKUPD_FAULT": f"stop:{taken}@providers.", "BACKUPD_FAULT_ROLE": "run"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and state_of(process.pid) != "T":
        time.sleep(0.01)
    assert process.poll() is None, "it did not stop"
    assert frozen(made)
    return process


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def frozen(made: house.Installation) -> bool:
    facts = ask(made.writer().passive_files().replay_socket, "the replay process")
    return facts is not None and bool(facts["frozen"])


def replayed(made: house.Installation) -> int:
    marker = read_marker(made.writer().passive_files().marker)
    return marker.number if marker else 0


def wait_replayed_more(made: house.Installation, since: int) -> None:
    made.wait("replay to go on", lambda: replayed(made) > since, 30)


@pytest.mark.parametrize("limit_seconds", [60])
def test_replay_goes_on_at_once_when_the_frozen_run_is_killed(
    made: house.Installation, tmp_path: Path, limit_seconds: int
) -> None:
    process = stopped_run(made, tmp_path)
    since = replayed(made)
    process.kill()
    process.wait()
    deadline = time.monotonic() + limit_seconds / 3  # long before the limit, and long enough for a loaded machine
    while frozen(made) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not frozen(made)
    wait_replayed_more(made, since)
    assert made.ctl_json("backup", "orders", "--type", "full")["state"] == "complete"
    assert len(made.backups()) == 2, "the dead run left a backup in the list"
    assert [path.name for path in made.passive.parent.iterdir()] == [made.passive.name], "its snapshot was left"


@pytest.mark.slow
def test_replay_goes_on_at_the_limit_and_the_stopped_run_says_that_its_freeze_broke(
    made: house.Installation, tmp_path: Path
) -> None:
    process = stopped_run(made, tmp_path)
    wait_replayed_more(made, replayed(made))
    assert not frozen(made)
    assert state_of(process.pid) == "T"
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err  # the first try was thrown away, the second is whole
    assert "the last freeze did not hold: replay resumed by itself" in out
    assert len(made.backups()) == 2
    assert made.ctl("verify").returncode == 0
    assert [path.name for path in made.passive.parent.iterdir()] == [made.passive.name]
