"""A signal ends a command cleanly: what was begun is undone, and the exit status is 130."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from backupd.errors import Interrupted

_seen: list[int] = []


def listen() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, once.

    Later signals are told to wait: the first one's undoing must not be cut short.
    (SIGKILL may still come at any time; ``backupctl recover`` tidies up after it.)
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
            signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    del frame
    _seen.append(number)
    if len(_seen) == 1:
        raise KeyboardInterrupt
    sys.stderr.write("undoing what was begun; wait a moment\n")


def interrupted() -> Interrupted:
    """The failure that says which signal it was."""
    name = signal.Signals(_seen[0]).name if _seen else "SIGINT"
    return Interrupted(
        "interrupted",
        because=f"{name} arrived; what was begun is undone now, or ended by the next run",
        next_step="run the command again, or: backupctl recover",
    )
