"""Opens what was restored to a directory, so that somebody can look around and copy rows out."""

from __future__ import annotations

from collections.abc import Sequence

from backupd.errors import UsageProblem
from backupd.ports import LooksAround
from backupd.runs.context import RunContext


class Opened:
    """A restored directory; see ``ports.LooksAround``."""

    def __init__(self, context: RunContext, target: str) -> None:
        place = context.writer.restore_target(target)
        if not isinstance(place, LooksAround):
            raise UsageProblem(
                f"{target} is no directory to look around in",
                because="a copy of the pair has its own server and its own rules",
                next_step="restore to a directory: --target DIR --open",
            )
        self._place = place

    def start(self) -> Sequence[str]:
        """Answers with commands to look around with. Raises NotHealthy."""
        return self._place.open_up()

    def runs(self) -> bool:
        """Whether anything runs."""
        return self._place.is_open()

    def stop(self) -> bool:
        """False when nothing ran. Raises NotHealthy."""
        return self._place.close_up()
