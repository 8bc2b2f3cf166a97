"""Where things are on the timeline's picture: places in percent of its width, and marks that would overlap as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

# Marks of one lane that are closer than this are one mark; a finger is wider still.
MARK_PERCENT_MIN = 0.6
SPANS = (1, 7, 35, 400)
_LANES = {
    "full": "fulls",
    "express": "fulls",
    "copy": "fulls",
    "drill": "drills",
    "failover": "failovers",
    "restore": "restores",
    "stamp": "stamps",
    "point": "points",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A window or a gap; an open one ends now: only the copies hold that time yet, and the next backup will."""

    left_percent: float
    width_percent: float
    is_gap: bool
    from_time: datetime
    to_time: datetime
    because: str
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """One or several moments at one place; ``backup`` is the id of the last of them, or empty."""

    left_percent: float
    lane: str
    tells: str
    backup: str
    sound: bool
    count: int = 1


@dataclass(frozen=True, slots=True)
class Tick:
    """A label of the axis."""

    left_percent: float
    at: datetime


@dataclass(frozen=True, slots=True)
class TimelinePicture:
    """All of it, and the span in days that it shows (0: all there is)."""

    from_time: datetime
    to_time: datetime
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    ticks: tuple[Tick, ...]
    days: int


def draw_timeline(timeline: Mapping[str, Any], days: int | None = None) -> TimelinePicture | None:
    """The picture of what ``Desk.timeline`` says; None while nothing was backed up.

    Args:
        timeline: as the API says it.
        days: how much of it, up to its end; 0: all; None: the shortest of ``SPANS`` that shows all, 35 at most.
    """
    if timeline.get("from") is None:
        return None
    begin, end = datetime.fromisoformat(timeline["from"]), datetime.fromisoformat(timeline["to"])
    if days is None:
        whole = end - begin
        days = next((span for span in SPANS[:2] if whole <= timedelta(days=span)), SPANS[2])
    if days:
        begin = end - timedelta(days=days)
    if end <= begin:
        begin = end - timedelta(hours=1)
    length = (end - begin).total_seconds()

    def place(at: datetime) -> float:
        return min(100.0, max(0.0, (at - begin).total_seconds() / length * 100))

    bars = [
        bar
        for key in ("windows", "gaps")
        for one in timeline[key]
        if (bar := _bar(one, place, begin, is_gap=key == "gaps")) is not None
    ]
    bars.sort(key=lambda bar: bar.left_percent)
    if timeline["windows"] and bars and bars[-1].is_gap and bars[-1].to_time == end:
        bars[-1] = replace(bars[-1], is_open=True)
    moments = [one for one in timeline["moments"] if datetime.fromisoformat(one["at"]) >= begin]
    ticks = tuple(Tick(100 * part / 4, begin + (end - begin) * part / 4) for part in range(5))
    return TimelinePicture(begin, end, tuple(bars), tuple(_marks(moments, place)), ticks, days)


def _bar(one: Mapping[str, Any], place: Any, begin: datetime, *, is_gap: bool) -> Bar | None:
    first, last = datetime.fromisoformat(one["from"]), datetime.fromisoformat(one["to"])
    if last < begin:
        return None
    left = place(first)
    width = round(max(place(last) - left, 0.3), 3)
    return Bar(round(min(left, 99.7), 3), width, is_gap, first, last, str(one["because"]))


def _marks(moments: Sequence[Mapping[str, Any]], place: Any) -> Iterable[Mark]:
    lanes: dict[tuple[str, bool], list[tuple[float, Mapping[str, Any]]]] = {}
    for one in moments:
        lane = _LANES.get(one["kind"], "increments")
        lanes.setdefault((lane, bool(one["sound"])), []).append((place(datetime.fromisoformat(one["at"])), one))
    for (lane, sound), found in lanes.items():
        group: list[tuple[float, Mapping[str, Any]]] = []
        for left, one in found:
            if group and left - group[0][0] >= MARK_PERCENT_MIN:
                yield _mark(lane, group, sound=sound)
                group = []
            group.append((left, one))
        if group:
            yield _mark(lane, group, sound=sound)


def _mark(lane: str, group: Sequence[tuple[float, Mapping[str, Any]]], *, sound: bool) -> Mark:
    left, last = group[0][0], group[-1][1]
    at = datetime.fromisoformat(last["at"]).astimezone()
    tells = f"{last['says']}, {at:%Y-%m-%d %H:%M:%S %z}"
    if len(group) > 1:
        tells = f"{len(group)} {lane}, the last: {tells}"
    return Mark(round(left, 3), lane, tells, str(last["backup"]), sound, len(group))
