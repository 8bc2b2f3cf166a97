"""Time comes through this door only; and progress goes out by that one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from backupd.model.records import Progress

ReportProgress = Callable[[Progress], None]


class Clock(Protocol):
    """Time comes through this door only."""

    def now(self) -> datetime:
        """The wall clock, with an offset (UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait about so long."""
        ...
