"""Sizes, durations and times as a person reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from backupd.model.amounts import size_text

# A timeline and an LSN as a number: so positions of PostgreSQL stand in records and in JSON. The first segment
# of a cluster begins at 16 MiB, and a history of SQLite has 16 digits, so nothing else in a sentence looks like this
# but an LSN of digits alone in a text that was shown already: it has " @ " before it.
_TIMELINE_AND_LSN = re.compile(r"(?<![\w/.:@-])(?<!@ )(\d{1,10})/(\d{8,20})(?![\w/])")


def with_lsns(text: str) -> str:
    """``ends at 1/50331648`` is ``ends at 1 @ 0/3000000``: a PostgreSQL position as PostgreSQL writes it."""
    if "/" not in text:
        return text
    return _TIMELINE_AND_LSN.sub(lambda found: f"{found[1]} @ {_lsn(int(found[2]))}", text)


def _lsn(offset: int) -> str:
    return f"{offset >> 32:X}/{offset & 0xFFFFFFFF:X}"


def size(count_bytes: float | None) -> str:
    """``1536`` is ``1.5 KiB``; None is ``-``."""
    return "-" if count_bytes is None else size_text(count_bytes)


def duration(seconds: float | None) -> str:
    """Two units at most: ``0.12 s``, ``41 s``, ``2 min 5 s``, ``3 h 10 min``, ``4 d 2 h``; None is ``-``."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole // 60, "min", whole % 60, "s")
    if whole < 86400:
        return _two(whole // 3600, "h", whole % 3600 // 60, "min")
    return _two(whole // 86400, "d", whole % 86400 // 3600, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit}" + (f" {small} {small_unit}" if small else "")


def ago(then: datetime, now: datetime) -> str:
    """``3 h 10 min ago``, ``in 2 d``, ``just now``."""
    seconds = (now - then).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    if seconds < 0:
        return f"in {duration(round(-seconds)) if seconds < -10 else f'{round(-seconds)} s'}"
    return f"{duration(round(seconds)) if seconds >= 10 else f'{round(seconds)} s'} ago"


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
