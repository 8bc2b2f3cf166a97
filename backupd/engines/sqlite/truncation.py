"""Removes the log of ended histories from both copies; only a decided truncation calls it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from backupd.engines.sqlite.logdir import LogDir
from backupd.steps import step


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
