"""What the log says of runs: that one begins, each state that it reaches, its end, how long and how much it was."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from backupd.decide.schedule import BACKUPS, Due
from backupd.journal.records import Entry, JsonValue, RunKind
from backupd.lines.bound import bound
from backupd.model.rules import Task
from backupd.model.states import FINAL_STATES, RunState

if TYPE_CHECKING:
    from backupd.service.worker import Report

LOG = logging.getLogger("service")
RUN_LOG = logging.getLogger("run")
_NO_NEWS = {RunState.COMPLETE, RunState.PENDING}
_SHOWN = (str, int, float)


def kind_of(task: Task) -> RunKind:
    """The kind of the run that does what a slot wants."""
    return RunKind.BACKUP if task in BACKUPS else RunKind(task.value)


def say_begun(database: str, due: Due, run: str, pid: int | None) -> None:
    """The service has begun a run, in a process of its own."""
    facts = {"database": database, "run": run, "type": due.task.value, "slot": due.slot.local, "pid": pid}
    LOG.info("a run begins", extra={"facts": facts | {"because": "; ".join(map(str, due.reasons))}})


def say_ended(database: str, task: Task, run: str, report: Report, seconds: float) -> None:
    """The run's process is over; a bug's traceback is here and nowhere else."""
    failed = report.ending == "failed"
    facts = {
        "database": database,
        "run": run,
        "type": task.value,
        "says": report.says,
        "duration_seconds": round(seconds, 3),
    }
    LOG.log(logging.ERROR if failed else logging.INFO, "a run ended: %s", report.ending, extra={"facts": facts})
    if report.is_bug:
        trace = {"database": database, "run": run, "traceback": "".join(report.error).rstrip("\n")}
        LOG.error("a bug in a run", extra={"facts": trace})


def _short(value: JsonValue) -> JsonValue:
    return round(value, 6) if isinstance(value, float) else value


class RunLines:
    """A line for each entry of the journal; ``totals`` are the last sizes that the run's entries named."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}

    def hear(self, entry: Entry) -> None:
        """Say what the journal has noted; a run within this process's own, like a truncation, is a ``part`` of it."""
        run = entry.run
        fresh = {name: _short(value) for name, value in entry.facts.items() if isinstance(value, _SHOWN)}
        sizes = {name: value for name, value in fresh.items() if name.endswith("_bytes") and isinstance(value, int)}
        self.totals |= sizes
        throughout = bound().get("run", run.id)
        facts: dict[str, JsonValue] = {"database": run.database, "run": throughout}
        facts |= {"part": run.id} if run.id != throughout else {}
        facts |= {"backup": run.label} if run.label else {}
        facts |= {"says": entry.says, **fresh}
        if entry.event == "note":
            RUN_LOG.info("%s is noted", run.kind, extra={"facts": facts})
            return
        ended = entry.state in FINAL_STATES or entry.state is RunState.PENDING
        bad = ended and entry.state not in _NO_NEWS
        RUN_LOG.log(logging.WARNING if bad else logging.INFO, "%s %s", run.kind, entry.state, extra={"facts": facts})

    def say_over(self, task: Task, report: Report, seconds: float) -> None:
        """The last line of a run's process."""
        facts = {"type": task.value, "says": report.says, "duration_seconds": round(seconds, 3), **self.totals}
        failed = report.ending == "failed"
        RUN_LOG.log(
            logging.ERROR if failed else logging.INFO, "the run is over: %s", report.ending, extra={"facts": facts}
        )
