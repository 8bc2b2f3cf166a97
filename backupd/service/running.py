"""What the rota remembers: the runs that go on, and of each database what was decided and how its last run ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.decide.schedule import Decision
from backupd.decide.slots import Slot
from backupd.decide.turns import Candidate
from backupd.model.alarm import Alarm, Severity
from backupd.model.rules import Task
from backupd.runs.slot_evidence import by_hand

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess


@dataclass(slots=True)
class Running:
    """A run that goes on in a process of its own."""

    candidate: Candidate
    began_at: datetime
    by_hand: bool
    process: ForkServerProcess
    pipe: Connection
    run: str


@dataclass(slots=True)
class Place:
    """What the rota knows of one database."""

    decision: Decision | None = None
    said: str = ""
    last_failure: str = ""
    not_before: float = 0.0
    wanted: list[Task] = field(default_factory=list)

    def given_up(self, database: str) -> tuple[Alarm, ...]:
        """An alarm for each slot whose runs have failed too often."""
        slots = self.decision.given_up if self.decision else ()
        return tuple(_given_up(database, slot, self.last_failure) for slot in slots)


def _given_up(database: str, slot: Slot, failure: str) -> Alarm:
    why = f": {failure}" if failure else ""
    return Alarm(
        database,
        "run-given-up",
        f"the {slot.task} of {slot.local} failed too often and is not tried again before its next slot{why}",
        subject=slot.task.value,
        severity=Severity.CRITICAL,
        next_step=f"put that right, then: {by_hand(slot.task, database)}",
    )
