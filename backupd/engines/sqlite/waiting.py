"""Waits for the passive, and says why it is not waited for any longer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from backupd.engines.sqlite.marker import read_marker
from backupd.errors import NotHealthy
from backupd.model.pair import CopyState
from backupd.model.position import Position
from backupd.model.records import Progress
from backupd.ports import ReportProgress

if TYPE_CHECKING:
    from backupd.engines.sqlite.writer import SqliteWriter


def wait_replayed(writer: SqliteWriter, position: Position, timeout_seconds: float, report: ReportProgress) -> None:
    """Wait until the passive has replayed up to ``position``.

    Raises:
        NotHealthy: it does not replay, or not in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        marker = read_marker(writer.passive_files().marker)
        at = marker.position if marker and marker.applying is None else None
        if at is not None and at.same_history(position) and at >= position:
            return
        passive = writer.pair().passive
        if passive.state in (CopyState.SUSPENDED, CopyState.SUSPECT, CopyState.FAILED, CopyState.MISSING):
            remedy = "resume" if passive.state is CopyState.SUSPENDED else "seed"
            raise NotHealthy(
                f"the passive of {writer.database} does not replay",
                because=f"it is {passive.state}: {passive.because}",
                next_step=f"backupctl copy {remedy} {writer.database}",
            )
        if time.monotonic() >= deadline:
            raise NotHealthy(
                f"the passive of {writer.database} is behind",
                because=f"it stands at {at or 'nothing'} and must reach {position}; it is {passive.state}",
                next_step=f"backupctl status {writer.database}, and try again when its queues are empty",
            )
        done = at.offset if at is not None and at.same_history(position) else 0
        report(Progress("waiting for the passive", done, position.offset, {"state": str(passive.state)}))
        writer.clock.sleep(0.05)
