"""What the copies say about their log, and the removal that was decided on; nothing else removes log."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.status import held_logs, log_offsets, log_path
from backupd.model.position import Position
from backupd.ports import Truncated, TruncationEvidence
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.engines.sqlite.writer import SqliteWriter


def evidence(writer: SqliteWriter) -> TruncationEvidence:
    """What the copies say about their log now."""
    pair = writer.pair()
    return TruncationEvidence(
        history=pair.history,
        oldest_held=_oldest_held(writer, pair.history),
        passive_state=str(pair.passive.state),
        passive_because=pair.passive.because,
        passive_replayed=pair.passive.replayed,
        passive_checkpointed=pair.passive.checkpointed,
        active_checkpointed=pair.active.checkpointed,
        seen_at=writer.clock.now(),
    )


def _oldest_held(writer: SqliteWriter, history: str | None) -> Position | None:
    """Where the log that either copy holds begins."""
    starts = []
    for files in (writer.active_files(), writer.passive_files()):
        numbers = held_logs(files.logs).numbers.get(history or "")
        offsets = log_offsets(log_path(files.logs, history, numbers[0])) if numbers and history else None
        if offsets is not None:
            starts.append(offsets[0])
    return Position(history, min(starts)) if starts and history else None


def truncate(writer: SqliteWriter, before: Position) -> Truncated:
    """Remove log that ends at or before ``before`` on both copies, the active's first.

    Logs of ended histories go too: a verified backup of this history exists now,
    and no increment can reach back over the end of a history.
    """
    with writer.capture() as capture:
        active = capture.call("truncate", history=before.history, offset=before.offset, timeout_seconds=60.0)
    with writer.replay() as replay:
        passive = replay.call("truncate", history=before.history, offset=before.offset, timeout_seconds=60.0)
    ended = remove_ended_histories((writer.active_files().logs, writer.passive_files().logs), before.history)
    return Truncated(
        removed_logs=int(active["removed_logs"]) + int(passive["removed_logs"]) + ended[0],
        removed_bytes=int(active["removed_bytes"]) + int(passive["removed_bytes"]) + ended[1],
        oldest_held=_oldest_held(writer, before.history),
    )


def remove_ended_histories(roots: Iterable[Path], current: str) -> tuple[int, int]:
    """Remove what is left of every history but the current one."""
    logs = size = 0
    for root in roots:
        found = LogDir(root)
        for history in found.histories():
            if history == current:
                continue
            held = found.history(history).held()
            logs, size = logs + held.count, size + held.size_bytes
            step("truncation.remove_history")
            shutil.rmtree(found.history(history).directory, ignore_errors=True)
    return logs, size
