"""What the copies say about their log, and the removal that was decided on; nothing else removes log."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.engines.sqlite.logdir import HistoryLogs, LogDir
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
        passive_log_from=_gap_free_from(writer, pair.history),
    )


def _gap_free_from(writer: SqliteWriter, history: str | None) -> Position | None:
    """Where the passive's newest unbroken stretch of log begins; its replayed position when it holds none."""
    files = writer.passive_files()
    if history is None:
        return None
    numbers = LogDir(files.logs).history(history).numbers()
    first = next(
        (here for before, here in zip(numbers[-2::-1], numbers[::-1], strict=False) if here != before + 1), None
    )
    offsets = log_offsets(log_path(files.logs, history, first or numbers[0])) if numbers else None
    if offsets is not None:
        return Position(history, offsets[0])
    replayed = writer.pair().passive.replayed
    return replayed if replayed is not None and replayed.history == history else None


def _oldest_held(writer: SqliteWriter, history: str | None) -> Position | None:
    """Where the log that either copy holds begins."""
    starts = []
    for files in (writer.active_files(), writer.passive_files()):
        numbers = held_logs(files.logs).numbers.get(history or "")
        offsets = log_offsets(log_path(files.logs, history, numbers[0])) if numbers and history else None
        if offsets is not None:
            starts.append(offsets[0])
    return Position(history, min(starts)) if starts and history else None


def truncate(writer: SqliteWriter, before: Position, archived: Mapping[str, int]) -> Truncated:
    """Remove log that ends at or before ``before`` on both copies, the active's first.

    Logs of ended histories go too, for no increment can reach back over the end of
    a history; but what is in no backup stays (see ``remove_ended``).
    """
    roots = (writer.active_files().logs, writer.passive_files().logs)
    # Listed before the capture confirms which history is the current one: a history that begins later is not ended.
    known = [found for root in roots for found in _histories(root) if found.history != before.history]
    with writer.capture() as capture:
        active = capture.call("truncate", history=before.history, offset=before.offset, timeout_seconds=60.0)
    with writer.replay() as replay:
        passive = replay.call("truncate", history=before.history, offset=before.offset, timeout_seconds=60.0)
    ended = [(found, remove_ended(found, archived.get(found.history))) for found in known]
    return Truncated(
        removed_logs=int(active["removed_logs"]) + int(passive["removed_logs"]) + sum(one[0] for _, one in ended),
        removed_bytes=int(active["removed_bytes"]) + int(passive["removed_bytes"]) + sum(one[1] for _, one in ended),
        oldest_held=_oldest_held(writer, before.history),
        kept=tuple(_kept(history, archived[history]) for history in sorted(_left(known))),
    )


def _histories(root: Path) -> list[HistoryLogs]:
    logs = LogDir(root)
    return [logs.history(name) for name in logs.histories()]


def _left(known: Iterable[HistoryLogs]) -> set[str]:
    return {found.history for found in known if found.newest() is not None}


def _kept(history: str, offset: int) -> str:
    return (
        f"history {history} has ended, and its log after {history}/{offset} is in no backup: "
        "it stays until the backups of that history are pruned"
    )


def remove_ended(logs: HistoryLogs, archived: int | None) -> tuple[int, int]:
    """Remove the log of an ended history; counts files and bytes.

    ``archived`` is the offset up to which the archive has it.  What comes after it
    led from a backup to the end of the history, and is held nowhere else.  None:
    the archive has no backup of that history, so nothing could be built with its log.
    """
    newest = logs.newest()
    if archived is not None and newest is not None and logs.header(newest).end_offset > archived:
        return logs.remove_through(archived)
    held = logs.held()
    step("truncation.remove_history")
    shutil.rmtree(logs.directory, ignore_errors=True)
    return held.count, held.size_bytes
