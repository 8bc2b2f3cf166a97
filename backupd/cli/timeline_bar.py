"""Draws a timeline as a bar of one terminal line: what can be restored, what not, and what happened where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from backupd.cli import output
from backupd.cli.output import Cell
from backupd.decide.timeline import Moment, Stretch, Timeline

WIDTH_MAX = 100
_WHOLE, _NONE, _SOME = "=", ".", "~"
_SAYS = {_WHOLE: "every moment", _NONE: "no moment", _SOME: "some moments"}
_STYLES = {_WHOLE: output.GOOD, _NONE: output.BAD, _SOME: output.WARN}

# By kind its letter and the word that explains it; where several fall on one place, the first of this order is shown.
_MARKS: Mapping[str, tuple[str, str]] = {
    "failover": ("!", "new history"),
    "restore": ("R", "restore"),
    "point": ("@", "restore point"),
    "full": ("F", "full"),
    "express": ("E", "express full"),
    "drill": ("v", "drill"),
    "differential": ("D", "differential"),
    "incremental": ("i", "incremental"),
    "copy": ("c", "copy"),
    "stamp": ("s", "stamp"),
}
_UNSOUND = ("X", "damaged, or a drill that failed")


@dataclass(frozen=True, slots=True)
class Bar:
    """Lines of one width: the bar, the marks under it, the times under these, and what the letters mean."""

    bar: str
    marks: str
    times: str
    letters: tuple[str, ...]


def draw(line: Timeline, width: int) -> Bar:
    """The bar of ``line``, ``width`` columns wide; each column stands for a part of its time.

    A gap that is shorter than a column is still seen, as ``~``.
    """
    width = max(20, min(width, WIDTH_MAX))
    columns = "".join(_column(line, *_span(line, at, width)) for at in range(width))
    letters: dict[int, tuple[str, str]] = {}
    for moment in sorted(line.moments, key=_rank, reverse=True):
        letters[_place(line, moment.at, width)] = _letter(moment)  # what ranks first is written last
    marks = "".join(letters[at][0] if at in letters else " " for at in range(width)).rstrip()
    said = [f"{one} {_SAYS[one]}" for one in (_WHOLE, _SOME, _NONE) if one in columns]
    known = dict.fromkeys(letters.values())
    said += [f"{letter} {word}" for letter, word in (*_MARKS.values(), _UNSOUND) if (letter, word) in known]
    return Bar(columns, marks, _times(line, width), tuple(_packed(said, width)))


def print_bar(line: Timeline) -> None:
    """Show it, in colours on a terminal; a pipe gets the same letters."""
    bar = draw(line, min(output.width(), WIDTH_MAX) - 4)
    output.print_line(("  ", *(Cell("".join(same), _STYLES[letter]) for letter, same in groupby(bar.bar))))
    output.print_line(f"  {bar.marks}")
    output.print_line(("  ", Cell(bar.times, output.DIM)))
    for letters in bar.letters:
        output.print_line(("  ", Cell(letters, output.DIM)))


def _packed(said: Sequence[str], width: int) -> Iterator[str]:
    """As many of them on a line as fit; none is broken in two."""
    line = ""
    for one in said:
        if line and len(line) + 2 + len(one) > width:
            yield line
            line = ""
        line += f"{'  ' if line else ''}{one}"
    yield line


def _span(line: Timeline, column: int, width: int) -> tuple[datetime, datetime]:
    whole = line.to_time - line.from_time
    return line.from_time + whole * column / width, line.from_time + whole * (column + 1) / width


def _column(line: Timeline, begin: datetime, end: datetime) -> str:
    window, gap = _covered(line.windows, begin, end), _covered(line.gaps, begin, end)
    if window and gap:
        return _SOME
    if window or (not gap and any(one.from_time <= begin <= one.to_time for one in line.windows)):
        return _WHOLE
    return _NONE


def _covered(stretches: Sequence[Stretch], begin: datetime, end: datetime) -> timedelta:
    nothing = timedelta()
    return sum((max(nothing, min(one.to_time, end) - max(one.from_time, begin)) for one in stretches), nothing)


def _place(line: Timeline, at: datetime, width: int) -> int:
    whole = (line.to_time - line.from_time).total_seconds()
    share = (at - line.from_time).total_seconds() / whole if whole else 0.0
    return min(width - 1, max(0, int(share * width)))


def _rank(moment: Moment) -> int:
    return -1 if not moment.sound else list(_MARKS).index(moment.kind) if moment.kind in _MARKS else len(_MARKS)


def _letter(moment: Moment) -> tuple[str, str]:
    return _UNSOUND if not moment.sound else _MARKS.get(moment.kind, ("?", moment.kind))


def _times(line: Timeline, width: int) -> str:
    """Times under the bar, in the local zone: as many as fit, the first under its begin and the last under its end."""
    span = line.to_time - line.from_time
    style = "%m-%d %H:%M" if span > timedelta(hours=20) else "%H:%M:%S"
    count = 5 if width >= 70 else 3
    text = [" "] * width
    for number in range(count):
        at = line.from_time + span * number / (count - 1)
        label = at.astimezone().strftime(style)
        place = round((width - len(label)) * number / (count - 1))
        text[place : place + len(label)] = label
    return "".join(text).rstrip()
