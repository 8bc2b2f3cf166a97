"""Amounts of bytes as a person reads them; JSON keeps the plain numbers."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def size_text(count_bytes: float) -> str:
    """``1536`` is ``1.5 KiB``."""
    if count_bytes < 1024:
        return f"{int(count_bytes)} B"
    value, unit = count_bytes / 1024, 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}"
