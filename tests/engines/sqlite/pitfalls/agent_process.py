"""A capture that does one thing at a time when told to: the real class, in a process of its own, driven by lines.

The test's lines are Python; they find ``capture`` and what is imported here.
Nothing but these lines moves the capture, so a test scripts every interleaving.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from backupd import steps
from backupd.engines.sqlite import beginning
from backupd.engines.sqlite.beginning import begin_capture
from backupd.engines.sqlite.capture import Capture
from backupd.engines.sqlite.capture_config import CaptureConfig
from backupd.engines.sqlite.cutter import LogGapError
from backupd.engines.sqlite.logfile import ClosedFile, LogHeader
from backupd.engines.sqlite.seal import Sealed
from backupd.errors import BackupdError


class Begins(logging.Handler):
    """Remembers how each begin was judged."""

    how = ""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging."""
        if str(record.msg).startswith("begin "):
            assert isinstance(record.args, tuple)
            Begins.how = str(record.args[1])


class Agent(Capture):
    """Acknowledges each log by itself while ``acks_itself`` is set: a passive that is always there."""

    acks_itself = True

    def closed(self, closed: ClosedFile) -> None:
        """See Capture."""
        super().closed(closed)
        if self.acks_itself:
            self.acks.acknowledge(closed.header.history, closed.header.number)


OFFERED: list[int] = []


def no_adoption(capture: Capture, header: LogHeader, log_path: Path) -> None:
    """The test's passive takes the seed by itself, from where it lies."""
    OFFERED.append(header.number)
    capture.adopting = False


def exposed_barrier(*_: Any) -> bool:
    """What a naive replicator does instead of taking the write lock."""
    return True


def say(answer: dict[str, Any]) -> None:
    """One line to the test."""
    sys.stdout.write(json.dumps(answer, default=str) + "\n")
    sys.stdout.flush()


beginning._adopt = no_adoption
logging.getLogger().setLevel(logging.INFO)
logging.getLogger().addHandler(Begins())
capture = Agent(CaptureConfig.read(Path(sys.argv[1])))
NAMES = {
    "OFFERED": OFFERED,
    "begin_capture": begin_capture,
    "Begins": Begins,
    "capture": capture,
    "exposed_barrier": exposed_barrier,
    "os": os,
    "Sealed": Sealed,
    "steps": steps,
}
say({"ok": os.getpid()})
for line in sys.stdin:
    order = json.loads(line)
    try:
        if "value" in order:
            answer: dict[str, Any] = {"ok": eval(order["value"], NAMES)}
        else:
            exec(order["run"], NAMES)
            answer = {"ok": None}
    except LogGapError as gap:
        answer = {"failed": "LogGapError", "because": str(gap)}
    except BackupdError as error:
        answer = {"failed": type(error).__name__, "because": str(error)}
    say(answer)
os._exit(0)
