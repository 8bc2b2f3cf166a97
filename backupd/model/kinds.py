"""The types of a backup and the kinds of a log file."""

from __future__ import annotations

from enum import StrEnum


class BackupType(StrEnum):
    """The types of a backup (design: words)."""

    FULL = "full"
    INCREMENTAL = "incremental"
    DIFFERENTIAL = "differential"
    COPY = "copy"

    @property
    def takes_pages(self) -> bool:
        """Whether it holds every page (full, copy) or only names log files."""
        return self in (BackupType.FULL, BackupType.COPY)

    @property
    def moves_stamp(self) -> bool:
        """Whether it becomes the base of the next increment."""
        return self in (BackupType.FULL, BackupType.INCREMENTAL)


class LogKind(StrEnum):
    """What a log file carries."""

    SEED = "seed"
    FRAMES = "frames"
    DELTA = "delta"
    CONTROL = "control"
    SEGMENT = "segment"
