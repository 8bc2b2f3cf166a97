"""Amounts of bytes and of time as a person reads them; JSON keeps the plain numbers."""

from __future__ import annotations

from datetime import datetime

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def size_text(count_bytes: float) -> str:
    """``1536`` is ``1.5 KiB``."""
    if count_bytes < 1024:
        return f"{int(count_bytes)} B"
    value, unit = count_bytes / 1024, 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}"


def duration_text(seconds: float | None) -> str:
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


def ago_text(then: datetime, now: datetime) -> str:
    """``3 h 10 min ago``, ``in 2 d``, ``just now``."""
    seconds = (now - then).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    if seconds < 0:
        return f"in {duration_text(round(-seconds)) if seconds < -10 else f'{round(-seconds)} s'}"
    return f"{duration_text(round(seconds)) if seconds >= 10 else f'{round(seconds)} s'} ago"
