"""Takes an incremental beside the schedule when a copy holds so much log that its budget is at risk, and that helps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from backupd.decide.log_guard import GuardLevel, wants_increment
from backupd.errors import BackupdError
from backupd.journal.records import JsonValue
from backupd.model.rules import Task

LOG = logging.getLogger("service")


class Relief:
    """Remembers when it has asked for one, so that it does not ask at every look.

    Args:
        want: begins a run.
    """

    def __init__(self, want: Callable[[str, Task], None]) -> None:
        self._want = want
        self._last: dict[str, datetime] = {}

    def look(self, database: str, status: Mapping[str, JsonValue], now: datetime) -> None:
        """Ask for an incremental if the guard's verdicts in a database's status want one. Never raises."""
        guard = status.get("log_guard")
        for copy, verdict in (guard if isinstance(guard, dict) else {}).items():
            if not isinstance(verdict, dict):
                continue
            level, helps = GuardLevel(str(verdict["level"])), bool(verdict["incremental_helps"])
            if not wants_increment(level, helps=helps, last_at=self._last.get(database), now=now):
                continue
            self._last[database] = now
            facts = {"database": database, "copy": copy, "level": level.value}
            try:
                self._want(database, Task.INCREMENTAL)
                LOG.info("an incremental beside the schedule, for the held log", extra={"facts": facts})
            except BackupdError as error:
                LOG.info("no incremental for the held log: %s", error.because, extra={"facts": facts})
            return
