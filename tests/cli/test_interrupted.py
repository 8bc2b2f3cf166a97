"""A signal in the middle of a run: undone, status 130, nothing half-done left.

The run stops itself (SIGSTOP) at a numbered step, so the signal always arrives at the same place.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import House, environment

pytestmark = pytest.mark.slow


def interrupt(house: House, fault: str, number: signal.Signals, *words: str) -> tuple[int, str]:
    """Run ``words`` up to the faulted step, send the signal there, and let it go on to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "backupd.cli.main", *words, "--config", str(house.config)],
        env={**environment(), "BACKUPD_FAULT": fault, "BACKUPD_FAULT_ROLE": "run"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"{fault} was never reached: {status}"
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def seen(house: House) -> tuple[object, object, object]:
    """What must be as it was: the backups, the holds, and how the copies are."""
    (database,) = json.loads(house.ctl("status", "--json").stdout)["databases"]
    states = [copy["state"] for copy in database["copies"]]
    rows = [row["id"] for row in json.loads(house.ctl("list", "--json").stdout)["backups"]]
    return rows, json.loads(house.ctl("holds", "--json").stdout), states


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("lease.", signal.SIGTERM),
        ("archive.intent", signal.SIGINT),
        ("pipeline.segment", signal.SIGTERM),
        ("store.create", signal.SIGTERM),
        ("archive.commit", signal.SIGTERM),
    ],
)
def test_a_backup_is_undone(step: str, number: signal.Signals, house: House) -> None:
    before = seen(house)
    status, err = interrupt(house, f"stop:1@{step}", number, "backup", "orders", "--type", "copy")
    assert status == 130, err
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "because", "next"], err
    assert number.name in err
    assert seen(house) == before
    assert not list(house.passive.parent.glob(".backupd-snapshot/*"))
    if step == "archive.commit":
        house.ctl("recover")  # whether the record was created is asked of the archive, and of nothing else
        assert seen(house) == before
    assert house.ctl("recover").stdout.strip() == "orders  nothing was left over"


@pytest.mark.parametrize("step", ["fetch.open", "fetch.write", "fetch.fsync"])
def test_a_restore_to_the_active_is_undone(step: str, house: House, tmp_path: Path) -> None:
    house.write(10)
    digest = hashlib.sha256(house.active.read_bytes()).hexdigest()
    before = seen(house)
    status, err = interrupt(house, f"stop:1@{step}", signal.SIGTERM, "restore", "orders", "--yes")
    assert status == 130, err
    assert err.startswith("error: interrupted"), err
    assert hashlib.sha256(house.active.read_bytes()).hexdigest() == digest
    house.ctl("check")  # waits until replication runs again
    assert seen(house) == before
