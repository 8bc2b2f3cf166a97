"""A forked child that dies at a numbered step, as a process that is killed would."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from backupd import steps


def dies_at(number: int, walk: Callable[[], object], prefix: str = "") -> bool:
    """Whether a forked child that dies at step ``number`` of ``walk`` did die; one that did not must have passed.

    Only steps whose names begin with ``prefix`` count.
    """

    def armed() -> None:
        steps.arm("die", number, prefix)
        walk()

    return was_killed(forked(armed))


def forked(walk: Callable[[], object]) -> int:
    """The process of a forked child that does this and ends."""
    child = os.fork()
    if child == 0:
        try:
            walk()
        except BaseException:  # noqa: BLE001 - a child of a test must never run the test's own end
            os._exit(1)
        os._exit(0)
    return child


def was_killed(child: int) -> bool:
    """Whether a child was killed, once it has ended; one that was not must have passed."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "it failed without a fault"
    return False
