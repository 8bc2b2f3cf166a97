"""Read a moment as a person writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from backupd.errors import UsageProblem

_AGO = re.compile(
    r"^\s*(\d+(?:\.\d+)?)\s*(s|sec|secs|seconds?|m|min|mins|minutes?|h|hours?|d|days?|w|weeks?)\s*(?:ago)?\s*$"
)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DAY = re.compile(r"^\s*(today|yesterday)(?:\s+(?:at\s+)?(\d{1,2}:\d{2}(?::\d{2})?))?\s*$")


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time with its offset; ``note`` says how it was read when that was not certain."""

    at: datetime
    note: str = ""


def parse_when(text: str, now: datetime) -> Moment:
    """Read ISO 8601, ``now``, ``10 min ago``, ``today 14:00`` or ``yesterday 14:00:30``.

    Args:
        text: what the person wrote.
        now: the present, with an offset.

    Raises:
        UsageProblem: it is none of these, or it lies in the future.
    """
    moment = _read(text.strip().lower(), now)
    if moment is None:
        moment = _read_iso(text.strip())
    if moment.at > now + timedelta(minutes=1):
        raise UsageProblem(
            f"the time {text!r} is in the future",
            because=f"it means {moment.at.isoformat()}, and now is {now.isoformat(timespec='seconds')}",
            next_step="give a time that has passed, or leave --at away for the latest point",
        )
    return moment


def _read(text: str, now: datetime) -> Moment | None:
    if text == "now":
        return Moment(now)
    if ago := _AGO.match(text):
        seconds = float(ago[1]) * _SECONDS[ago[2][0]]
        at = now - timedelta(seconds=seconds)
        return Moment(at, f"{text!r} is read as {at.astimezone().isoformat(timespec='seconds')}")
    if day := _DAY.match(text):
        date = (now.astimezone() - timedelta(days=day[1] == "yesterday")).date()
        try:
            clock = time.fromisoformat((day[2] or "00:00").rjust(5, "0"))
        except ValueError:
            return None
        return _local(datetime.combine(date, clock))
    return None


def _read_iso(text: str) -> Moment:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageProblem(
            f"{text!r} is not a time",
            because="a time looks like 2026-11-22T14:05:00+01:00, 2026-11-22 14:05, '10 min ago' or 'yesterday 14:00'",
            next_step="write the time in one of these ways",
        ) from None
    return Moment(at) if at.tzinfo else _local(at)


def _local(naive: datetime) -> Moment:
    # A time without an offset can only mean the zone of the machine that the person sits at.
    at = naive.astimezone()
    return Moment(at, f"the time has no offset: it is read in the local zone, {at.isoformat()}")
