"""Sizes, durations and times as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from backupd.model import lsn_words
from backupd.model.amounts import ago_text, duration_text, size_text

# The page says it in the same words.
duration, ago, with_lsns = duration_text, ago_text, lsn_words.with_lsns


def size(count_bytes: float | None) -> str:
    """``1536`` is ``1.5 KiB``; None is ``-``."""
    return "-" if count_bytes is None else size_text(count_bytes)


def coverage(verified: Mapping[str, Any], now: datetime) -> str:
    """``all of 1.2 GiB, the oldest byte 3 d ago``, or ``43% of 1.2 GiB``: how much of it verify has read."""
    total = size(verified["total_bytes"])
    oldest = as_time(verified["oldest_verified_at"])
    if oldest is not None:
        return f"all of {total}, the oldest byte {ago(oldest, now)}"
    # Rounded down: what is not all is never called 100 %.
    share = int(float(verified["verified_share"]) * 100)
    return f"{share}% of {total}" if verified["verified_bytes"] else f"nothing of {total} yet"


def as_time(value: datetime | str | None) -> datetime | None:
    """The moment, whether it came as a value or as ISO 8601 text."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value)


def clock_time(value: datetime | str | None) -> str:
    """``2026-11-22 02:00:05 +0100`` in the local zone; None is ``-``."""
    moment = as_time(value)
    return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def short_time(value: datetime | str | None) -> str:
    """``2026-11-22 02:00:05`` in the local zone, for a column whose head says so; None is ``-``."""
    moment = as_time(value)
    return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 backup``, ``2 backups``, ``3,000 pages``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
