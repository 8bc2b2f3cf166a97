"""Sizes and durations as people write them: "4MiB", "20s"; a bare number is bytes or seconds."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)")
_SIZE_UNITS = {
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_NUMBER_AND_WORD = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_LONG_SIZES = {"k": "ilobyte", "m": "egabyte", "g": "igabyte", "t": "erabyte"}
_DURATION_WORDS = {
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("msec", "millisecond", "milliseconds"), "ms"),
}
_LIKE_SIZE = "write it like 4MiB, 1GiB or as a number of bytes"
_LIKE_DURATION = "write it like 20s, 10min, 2h or as a number of seconds"


def read_size(value: Any) -> Any:
    """Bytes from ``"4MiB"``; what is not text goes on to the type check.

    Raises:
        ValueError: the text is not a size.
    """
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a size; {_meant_size(value) or _LIKE_SIZE}")
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


def read_duration(value: Any) -> Any:
    """Seconds from ``"20s"`` or ``"10min"``; what is not text goes on to the type check.

    Raises:
        ValueError: the text is not a duration.
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not a duration; {_meant_duration(value) or _LIKE_DURATION}")
    return float(match[1]) * _DURATION_UNITS[match[2]]


def said_size(size_bytes: int) -> str:
    """A size in the largest unit that says it exactly, as a policy may have it."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % _SIZE_UNITS[unit] == 0:
            return f"{size_bytes // _SIZE_UNITS[unit]}{unit}"
    return f"{size_bytes}B"


def said_duration(seconds: float) -> str:
    """A duration in the largest unit that says it exactly, as a policy may have it."""
    for unit in ("d", "h", "min"):
        if seconds and seconds % _DURATION_UNITS[unit] == 0:
            return f"{seconds / _DURATION_UNITS[unit]:g}{unit}"
    return f"{seconds:g}s"


def _meant_size(text: str) -> str:
    """What a size in other words seems to mean: ``4 mb``, ``4M``, ``4 megabytes``; empty when that is not clear."""
    match = _NUMBER_AND_WORD.fullmatch(text.strip())
    if match is None:
        return ""
    if not match[2]:
        return f"a number of bytes has no quotes: {match[1]}"
    if match[2].lower() in _DURATION_WORDS or match[2] in _DURATION_UNITS:
        return f"that is a duration; {_LIKE_SIZE}"
    word = match[2].lower().removesuffix("s")
    if word in ("b", "byte"):
        return f"did you mean {match[1]}B?"
    for letter, rest in _LONG_SIZES.items():
        if word in {letter, f"{letter}b", f"{letter}ib", f"{letter}eg", f"{letter}ig", letter + rest}:
            return f"did you mean {match[1]}{letter.upper()}iB?"
    return ""


def _meant_duration(text: str) -> str:
    match = _NUMBER_AND_WORD.fullmatch(text.strip())
    if match is None:
        return ""
    word = match[2].lower()
    if not word:
        return f"a number of seconds has no quotes: {match[1]}"
    if word in ("w", "week", "weeks"):
        return f"did you mean {float(match[1]) * 7:g}d?"
    if word in _DURATION_WORDS or word in _DURATION_UNITS:
        return f"did you mean {match[1]}{_DURATION_WORDS.get(word, word)}?"
    if _SIZE.fullmatch(text.strip()):
        return f"that is a size; {_LIKE_DURATION}"
    return ""


Bytes = Annotated[
    int,
    BeforeValidator(read_size),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": f"^{_SIZE.pattern}$"}]}),
]
Seconds = Annotated[
    float,
    BeforeValidator(read_duration),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": f"^{_DURATION.pattern}$"}]}),
]
