"""Any step can be made to fail, to die or to stop, in this process or in one that is started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backupd import steps
from backupd.errors import InjectedFault

WALK = """
from backupd.steps import set_process_role, step
set_process_role("capture")
for name in ("store.create", "freeze.begin", "store.sync"):
    step(name)
    print(name, flush=True)
"""


def walk(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WALK], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )


def test_nothing_happens_unless_asked() -> None:
    assert steps.disarm() == 0
    steps.step("store.create")
    assert steps.disarm() == 0


def test_the_nth_step_fails_once() -> None:
    steps.arm("fail", 2)
    steps.step("a.one")
    with pytest.raises(InjectedFault, match=r"step 2 \(a.two\)"):
        steps.step("a.two")
    steps.step("a.three")
    assert steps.disarm() == 3


def test_only_steps_of_the_prefix_count() -> None:
    steps.arm("fail", 1, "store.")
    steps.step("freeze.begin")
    with pytest.raises(InjectedFault):
        steps.step("store.create")


@pytest.mark.parametrize(
    ("fault", "done"),
    [("die:1", []), ("die:3", ["store.create", "freeze.begin"]), ("die:2@store.", ["store.create", "freeze.begin"])],
)
def test_a_process_dies_at_the_step(fault: str, done: list[str]) -> None:
    process = walk(BACKUPD_FAULT=fault)
    out, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert out.split() == done


def test_only_the_process_of_the_role_misbehaves() -> None:
    other = walk(BACKUPD_FAULT="die:1", BACKUPD_FAULT_ROLE="replay")
    meant = walk(BACKUPD_FAULT="die:1", BACKUPD_FAULT_ROLE="capture")
    other.communicate()
    meant.communicate()
    assert (other.returncode, meant.returncode) == (0, -signal.SIGKILL)


def test_a_process_stops_at_the_step_and_goes_on() -> None:
    process = walk(BACKUPD_FAULT="stop:2")
    stopped = os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    assert stopped is not None
    assert stopped.si_status == signal.SIGSTOP
    process.send_signal(signal.SIGCONT)
    assert process.communicate()[0].split() == ["store.create", "freeze.begin", "store.sync"]


def test_steps_are_traced(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    assert walk(BACKUPD_STEP_TRACE=str(trace)).wait() == 0
    assert trace.read_text().splitlines() == [
        "1 capture store.create",
        "2 capture freeze.begin",
        "3 capture store.sync",
    ]
