"""What a person or a script sees: tables, facts, JSON, progress and the three-line error.

On a terminal the tables are rich's; elsewhere they are plain ASCII columns, so
that a pipe reads what a person reads, and rich is not even imported.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from backupd.cli.human import with_lsns
from backupd.errors import BackupdError

if TYPE_CHECKING:
    from rich.console import Console

GOOD, WARN, BAD, DIM, STRONG = "green", "yellow", "bold red", "dim", "bold"

STATE_STYLES: Mapping[str, str] = {
    "healthy": GOOD,
    "complete": GOOD,
    "truncated": GOOD,
    "ok": GOOD,
    "keep": GOOD,
    "pending": WARN,
    "kept": WARN,
    "deferred": WARN,
    "suspended": WARN,
    "initializing": WARN,
    "seeding": WARN,
    "restoring": WARN,
    "stopped": WARN,
    "drop": WARN,
    "must be seeded": BAD,
    "suspect": BAD,
    "failed": BAD,
    "missing": BAD,
    "damaged": BAD,
    "aborted": BAD,
    "refused": BAD,
    "FIX": BAD,
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of text with rich's name of a style; off a terminal only the text counts."""

    text: str
    style: str = ""


def state(text: str) -> Cell:
    """A state's word in the colour that says how it is."""
    return Cell(text, STATE_STYLES.get(text, ""))


@dataclass(slots=True)
class Table:
    """Rows under heads; a head that starts with ``>`` is a column of numbers, set to the right.

    ``last_wraps`` says that the last column holds sentences and may take several lines.
    """

    heads: Sequence[str]
    rows: list[Sequence[Cell | str]] = field(default_factory=list)
    last_wraps: bool = False

    def add(self, *cells: Cell | str) -> None:
        """One more row."""
        self.rows.append(cells)


def width() -> int:
    """How many columns there are for output; a pipe has room for all."""
    return shutil.get_terminal_size((80, 24)).columns if is_terminal() else 1000


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether the stream (standard output by default) is a terminal that can do more than print."""
    stream = stream or sys.stdout
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def console(stream: TextIO | None = None) -> Console:
    """Rich's console on the stream; it keeps to NO_COLOR and to COLUMNS by itself."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, highlight=False, soft_wrap=False, emoji=False, markup=False)


def _text(cell: Cell | str) -> str:
    """What is shown of a cell: a person reads a position of PostgreSQL as PostgreSQL writes it."""
    return with_lsns(cell.text if isinstance(cell, Cell) else cell)


def print_table(table: Table, *, indent: int = 0) -> None:
    """Show the table; nothing when it has no rows."""
    if not table.rows:
        return
    if is_terminal():
        _print_rich_table(table, indent)
    else:
        _print_plain_table(table, indent)


def _print_rich_table(table: Table, indent: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    # Where a table does not fit, cells take several lines rather than lose their ends.
    least = table.heads[:-1] if table.last_wraps else table.heads
    widths = [max(len(head), *(len(_text(row[at])) for row in table.rows)) for at, head in enumerate(least)]
    fits = sum(widths) + 2 * len(widths) + indent + (24 if table.last_wraps else 0) <= width()
    shown = RichTable(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for index, head in enumerate(table.heads):
        wraps = table.last_wraps and index == len(table.heads) - 1
        shown.add_column(
            head.removeprefix(">"),
            justify="right" if head.startswith(">") else "left",
            overflow="fold",
            no_wrap=not wraps and fits,
        )
    for row in table.rows:
        shown.add_row(*(Text(_text(cell), cell.style) if isinstance(cell, Cell) else Text(_text(cell)) for cell in row))
    console().print(Padding(shown, (0, 0, 0, indent)))


def _print_plain_table(table: Table, indent: int) -> None:
    heads = [head.removeprefix(">") for head in table.heads]
    widths = [
        max(len(heads[index]), *(len(_text(row[index])) for row in table.rows)) for index in range(len(table.heads))
    ]

    def line(cells: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if head.startswith(">") else cell.ljust(width)
            for cell, width, head in zip(cells, widths, table.heads, strict=True)
        ]
        return (" " * indent + "  ".join(parts)).rstrip()

    print(line(heads))
    for row in table.rows:
        print(line([_text(cell) for cell in row]))


def print_facts(facts: Iterable[tuple[str, Cell | str]], *, indent: int = 0) -> None:
    """``name   value`` lines with the values under each other; long values go on below themselves."""
    pairs = [(name, value) for name, value in facts if _text(value)]
    if not pairs:
        return
    width = max(len(name) for name, _ in pairs) + 2
    for name, value in pairs:
        lines = _wrapped(_text(value), indent + width)
        style = value.style if isinstance(value, Cell) else ""
        print_line((Cell(" " * indent + name.ljust(width), DIM), Cell(lines[0], style)))
        for more in lines[1:]:
            print_line((" " * (indent + width), Cell(more, style)))


def print_sentences(sentences: Iterable[str], *, indent: int = 2, bullet: str = "-", style: str = "") -> None:
    """One sentence a bullet, wrapped on a terminal."""
    for sentence in sentences:
        first, *rest = _wrapped(sentence, indent + len(bullet) + 1)
        print_line((" " * indent + bullet + " ", Cell(first, style)))
        for more in rest:
            print_line((" " * (indent + len(bullet) + 1), Cell(more, style)))


def print_line(cells: Cell | str | Sequence[Cell | str] = "") -> None:
    """One line, or one made of pieces, each in its style; never wrapped."""
    if isinstance(cells, (Cell, str)):
        cells = (cells,)
    if not is_terminal():
        print("".join(_text(cell) for cell in cells).rstrip())
        return
    from rich.text import Text

    text = Text()
    for cell in cells:
        text.append(_text(cell), (cell.style if isinstance(cell, Cell) else "") or None)
    console().print(text, soft_wrap=True)


def _wrapped(text: str, indent: int) -> list[str]:
    if not is_terminal():
        return [text]
    import textwrap

    return textwrap.wrap(text, max(24, width() - indent), break_on_hyphens=False) or [""]


def print_json(value: Any) -> None:
    """The value as JSON on standard output, keys in the order they were given."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=_plain)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def say(sentence: str) -> None:
    """A sentence for the person at the terminal: standard error, so that standard output stays clean."""
    print(sentence, file=sys.stderr, flush=True)


def print_error(error: BackupdError, *, as_json: bool) -> None:
    """The three lines on standard error; with ``as_json`` the same as an object on standard output too."""
    lines = [with_lsns(line) for line in error.lines()]
    if is_terminal(sys.stderr):
        from rich.text import Text

        shown = console(sys.stderr)
        for text, style in zip(lines, (BAD, WARN, GOOD), strict=True):
            name, colon, rest = text.partition(":")
            shown.print(Text.assemble((name + colon, style), rest), soft_wrap=True)
    else:
        print("\n".join(lines), file=sys.stderr, flush=True)
    if as_json:
        facts: dict[str, Any] = {
            "problem": error.problem,
            "because": error.because,
            "next": error.next_step,
            "exit_status": error.exit_status,
        }
        if error.details:
            facts["details"] = error.details
        print_json({"error": facts})
