"""How many commits of the active lie after a place of its log: what a restore to there would lose."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import numpy as np

from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.logfile import commit_ends, read_header, read_marks
from backupd.errors import BackupdError
from backupd.model.position import Position

_READ_BYTES_MAX = 512 << 20  # somebody waits for the plan


def commits_after(root: Path, position: Position, at: datetime | None) -> int | None:
    """Commits in closed log below ``root`` after ``position``, and after ``at`` when it is given.

    None when the log does not go back so far, or is too long to be read while somebody waits.  Log that was cut
    from a database file and not from a WAL counts as one commit a file.
    """
    closed = LogDir(root).history(position.history).closed(position.offset)
    if not closed or closed[0][0].start > position or sum(log.size_bytes for log, _ in closed) > _READ_BYTES_MAX:
        return None
    at_us = int(at.timestamp() * 1_000_000) if at is not None else None
    try:
        return sum(_in_file(path, position.offset, at_us) for _, path in closed)
    except (BackupdError, OSError):
        return None  # truncated meanwhile


def _in_file(path: Path, offset: int, at_us: int | None) -> int:
    header = read_header(path)
    if not header.kind.has_pages:
        return 0
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        skip = max(0, offset - header.start_offset)
        if at_us is not None:
            kept = [mark.entries for mark in read_marks(descriptor, header) if mark.unix_us <= at_us]
            skip = max([skip, *kept])
        return sum(int(np.count_nonzero(ends > skip)) for ends in commit_ends(descriptor, header))
    finally:
        os.close(descriptor)
