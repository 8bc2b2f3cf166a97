"""What the capture process tells of itself, while it lives and after it has ended."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backupd.durable import read_json, write_json
from backupd.engines.sqlite import wal
from backupd.errors import BackupdError

if TYPE_CHECKING:
    from backupd.engines.sqlite.capture import Capture


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000


def facts_of(capture: Capture) -> dict[str, Any]:
    """State, position and cost; the position only when the capture stands at the log."""
    facts: dict[str, Any] = {
        "state": capture.state,
        "because": capture.because,
        "pid": os.getpid(),
        "at_us": capture.now_us(),
    }
    if not capture.begun:
        return facts
    hands, acks = capture.hands, capture.acks
    cursor, index = hands.cutter.cursor, hands.source.index()
    return facts | {
        "history": cursor.history,
        "number": cursor.number,
        "offset": cursor.offset,
        "identity": asdict(hands.source.identity),
        "checkpointed": list(capture.checkpointed) if capture.checkpointed else None,
        "acknowledged_number": acks.last_number,
        "exposed": acks.exposed(time.monotonic()),
        "wal_bytes": index.max_frame * wal.frame_bytes(index.page_bytes),  # in use; the file never shrinks by itself
        "wal_file_bytes": hands.source.wal_bytes(),
        "wal_bytes_warn": capture.options.wal_bytes_warn,
        "seals": asdict(hands.sealer.stats),
        "pages": cursor.pages,
        "page_bytes": cursor.page_bytes,
    }


def leave_failure(path: Path, error: BackupdError) -> None:
    """Leave the reason where ``status`` finds it, beside what was known before. Raises NotHealthy."""
    facts = read_json(path) or {}
    facts |= {"state": "failed", "because": f"{error.problem}: {error.because}", "next_step": error.next_step}
    facts |= {"problem": error.problem, "reason": error.because, "kind": type(error).__name__}
    write_json(path, facts, durable=False, step_name="capture.state")
