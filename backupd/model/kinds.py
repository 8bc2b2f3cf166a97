"""The types of a backup and the kinds of a log file."""

from __future__ import annotations

from enum import StrEnum


class BackupType(StrEnum):
    """The types of a backup (design: words)."""

    FULL = "full"
    INCREMENTAL = "incremental"
    DIFFERENTIAL = "differential"
    COPY = "copy"
    EXPRESS = "express"

    @property
    def takes_pages(self) -> bool:
        """Whether its pages are a state of the database (full, express, copy); the others only name log files."""
        return self in (BackupType.FULL, BackupType.EXPRESS, BackupType.COPY)

    @property
    def is_full(self) -> bool:
        """Whether a chain of log may begin with it: a full, or an express full."""
        return self in (BackupType.FULL, BackupType.EXPRESS)

    @property
    def moves_stamp(self) -> bool:
        """Whether it becomes the base of the next increment."""
        return self in (BackupType.FULL, BackupType.EXPRESS, BackupType.INCREMENTAL)


class LogKind(StrEnum):
    """What a log file carries."""

    SEED = "seed"
    FRAMES = "frames"
    DELTA = "delta"
    CONTROL = "control"
    SEGMENT = "segment"
