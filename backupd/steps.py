"""Numbered steps, so that a test can make the n-th one fail or die.

Each place that touches a disk, a store, a socket or another process calls
``step("room.what")`` just before it acts.  Normally that only counts.  With
``BACKUPD_FAULT`` in the environment the n-th step of the process misbehaves:

* ``fail:17``            step 17 raises ``InjectedFault``
* ``die:17``             step 17 sends SIGKILL to its own process (no clean-up)
* ``fail:17@store.``     only steps whose name starts with ``store.`` count
* ``stop:17``            step 17 sends SIGSTOP to its own process

``BACKUPD_FAULT_ROLE`` limits the fault to one kind of process ("run",
"capture", "replay", "service"); each process names itself with
``set_process_role``.  ``BACKUPD_STEP_TRACE=FILE`` appends every step's name.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass, field

from backupd.errors import InjectedFault


@dataclass(slots=True)
class _Plan:
    action: str = ""
    number: int = 0
    prefix: str = ""
    role: str = ""
    process_role: str = "run"
    trace_path: str = ""
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def _read_plan() -> _Plan:
    plan = _Plan(
        role=os.environ.get("BACKUPD_FAULT_ROLE", ""),
        trace_path=os.environ.get("BACKUPD_STEP_TRACE", ""),
    )
    text = os.environ.get("BACKUPD_FAULT", "")
    if text:
        head, _, plan.prefix = text.partition("@")
        plan.action, _, number = head.partition(":")
        plan.number = int(number)
    return plan


_plan = _read_plan()
_armed = bool(_plan.action or _plan.trace_path)


def set_process_role(role: str) -> None:
    """Name this process for ``BACKUPD_FAULT_ROLE``: run, capture, replay or service."""
    _plan.process_role = role


def arm(action: str, number: int, prefix: str = "") -> None:
    """Make step ``number`` (1 is the next one) do ``action``: fail, die or stop; in-process tests use this."""
    global _armed
    _plan.action, _plan.number, _plan.prefix, _plan.count = action, number, prefix, 0
    _plan.role = ""
    _armed = True


def disarm() -> int:
    """Forget the plan; answer how many steps were counted since ``arm``."""
    global _armed
    counted = _plan.count
    _plan.action, _plan.number, _plan.count = "", 0, 0
    _armed = bool(_plan.trace_path)
    return counted


def step(name: str) -> None:
    """Count one step; misbehave here if the plan says so.

    Raises:
        InjectedFault: the plan's action is ``fail`` and this is the step.
    """
    if not _armed:
        return
    if _plan.role and _plan.role != _plan.process_role:
        return
    if not name.startswith(_plan.prefix):
        return
    with _plan.lock:
        _plan.count += 1
        number = _plan.count
    if _plan.trace_path:
        with open(_plan.trace_path, "a", encoding="utf-8") as trace:
            trace.write(f"{number} {_plan.process_role} {name}\n")
    if number != _plan.number:
        return
    if _plan.action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif _plan.action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif _plan.action == "fail":
        raise InjectedFault(
            f"step {number} ({name}) failed",
            because="a test asked for this step to fail",
            next_step="unset BACKUPD_FAULT",
        )
