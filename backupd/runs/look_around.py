"""Opens what was restored to a directory, so that somebody can look around and copy rows out."""

from __future__ import annotations

from backupd.errors import UsageProblem
from backupd.ports import LooksAround
from backupd.runs.context import RunContext


def opened_place(context: RunContext, target: str) -> LooksAround:
    """The directory ``target``, to be opened. Raises UsageProblem where it is a copy of the pair."""
    place = context.writer.restore_target(target)
    if not isinstance(place, LooksAround):
        raise UsageProblem(
            f"{target} is no directory to look around in",
            because="a copy of the pair has its own server and its own rules",
            next_step="restore to a directory: --target DIR --open",
        )
    return place
