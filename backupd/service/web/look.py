"""Templates and the words in them: times, sizes and reasons as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from backupd.model.amounts import ago_text, duration_text, size_text
from backupd.model.lsn_words import with_lsns

# Which of three looks a state has; every other one is plain.
_GOOD = frozenset({"healthy", "complete", "truncated", "well", "ok"})
_WARN = frozenset(
    {"pending", "kept", "deferred", "suspended", "initializing", "seeding", "restoring", "stopped", "warning"}
)
_BAD = frozenset({"must be seeded", "suspect", "failed", "missing", "damaged", "aborted", "refused", "critical"})


def environment(directory: Path) -> Environment:
    """Templates that escape everything, and fail on a name that is not there."""
    made = Environment(
        loader=FileSystemLoader(directory),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ago": _ago,
        "moment": _moment,
        "clock": _clock,
        "at": _time,
        "tick": _tick,
        "size": _size,
        "duration": duration_text,
        "look": look,
        "lsns": lambda value: with_lsns(str(value)),
        "reason": _reason,
        "words": lambda value: str(value).replace("_", " "),
    }
    return made


def look(state: object) -> str:
    """``good``, ``warn``, ``bad`` or ``plain``: the word stands beside it always."""
    word = str(state)
    for name, states in (("good", _GOOD), ("warn", _WARN), ("bad", _BAD)):
        if word in states:
            return name
    return "plain"


def _time(value: object) -> datetime | None:
    if isinstance(value, str) and value:
        return datetime.fromisoformat(value)
    return value if isinstance(value, datetime) else None


def _ago(value: object, now: datetime) -> str:
    at = _time(value)
    return "none" if at is None else ago_text(at, now)


def _clock(value: object) -> str:
    at = _time(value)
    return "" if at is None else f"{at.astimezone():%a %Y-%m-%d %H:%M}"


def _tick(value: datetime, days: int) -> str:
    local = value.astimezone()
    return f"{local:%H:%M}" if days == 1 else f"{local:%d %b}" if days in {7, 35} else f"{local:%b %Y}"


def _moment(value: object) -> str:
    at = _time(value)
    return "" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S %z}"


def _size(value: float | None) -> str:
    return "" if value is None else size_text(value)


def _reason(value: object) -> str:
    if isinstance(value, Mapping):
        return with_lsns(str(value.get("because") or value.get("code")))
    return with_lsns(str(value))
