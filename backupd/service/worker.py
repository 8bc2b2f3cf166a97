"""One scheduled run in a process of its own, which tells the service over a pipe how it ended.

A run that crashes, is killed or eats memory harms nothing but itself, and it ends
gently on SIGTERM, as a command does on Ctrl-C.  One whose service dies goes on to
its end: it holds the lease, so that nobody begins another one meanwhile.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from multiprocessing.connection import Connection
from types import FrameType
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, Busy
from backupd.known_secrets import masked
from backupd.lines.bound import bind
from backupd.lines.settings import from_environment
from backupd.lines.setup import set_up
from backupd.model.rules import Task
from backupd.service.run_lines import RunLines, kind_of
from backupd.steps import set_process_role

if TYPE_CHECKING:
    from backupd.policy.load import LoadedPolicy, ServiceConfig


class Ending(StrEnum):
    """How a run ended, as the service tells them apart."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    BUSY = "busy"  # somebody else works on the database: not a try
    SERVED = "served"  # somebody else has done it
    NOT_OURS = "not-ours"  # the other node's to do: not a try


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, by which policy; ``slot_at`` None: now, because a person wants it; ``run``: the id it will have."""

    config: ServiceConfig
    policy: LoadedPolicy
    task: Task
    slot_at: datetime | None
    run: str


@dataclass(frozen=True, slots=True)
class Report:
    """How it ended, in one line; ``error`` has the three lines of an error, or a traceback, which only a bug has."""

    ending: Ending
    says: str
    error: tuple[str, ...] = ()

    @property
    def is_bug(self) -> bool:
        """Whether ``error`` is a traceback."""
        return self.says.startswith("a bug") and bool(self.error)


def work(order: Order, pipe: Connection) -> None:
    """The whole life of the process."""
    began = time.monotonic()
    set_process_role("run")
    set_up(from_environment(os.environ))
    bind(run=order.run, database=order.policy.policy.database)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the service, too, which tells us by SIGTERM
    signal.signal(signal.SIGTERM, _stop)
    lines = RunLines()
    found = _carry_out(order, lines)
    # Masked here: what this process has read of secrets, the service may not know.
    report = replace(found, says=masked(found.says), error=tuple(map(masked, found.error)))
    lines.say_over(order.task, report, time.monotonic() - began)
    with suppress(OSError):  # the service is gone; the journal has it all
        pipe.send(report)
        pipe.close()


def _stop(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, signal.SIG_IGN)  # what was begun is undone now, and not cut short
    raise KeyboardInterrupt


def _carry_out(order: Order, lines: RunLines) -> Report:
    from backupd.bootstrap import House, SystemClock
    from backupd.runs.scheduled import AlreadyServed, NotOurTurn, run_scheduled

    try:
        database = order.policy.policy.database
        house = House(order.config, SystemClock(), policies={database: order.policy})
        try:
            house.journal.hear = lines.hear
            house.journal.call_next(kind_of(order.task), order.run)
            says = run_scheduled(house.context(database), order.task, order.slot_at)
        finally:
            house.close()
    except AlreadyServed as served:
        return Report(Ending.SERVED, f"{served.problem}: {served.because}")
    except NotOurTurn as turn:
        return Report(Ending.NOT_OURS, f"not our turn: {turn.because}")
    except Busy as busy:
        return Report(Ending.BUSY, f"{busy.problem}: {busy.because}", tuple(busy.lines()))
    except BackupdError as error:
        return Report(Ending.FAILED, f"{error.problem}: {error.because}", tuple(error.lines()))
    except KeyboardInterrupt:
        return Report(Ending.STOPPED, "the service was told to stop")
    except Exception as bug:  # noqa: BLE001 - a bug in one run is told, and the service goes on
        return Report(Ending.FAILED, f"a bug: {type(bug).__name__}: {bug}", tuple(traceback.format_exception(bug)))
    return Report(Ending.DONE, says)
