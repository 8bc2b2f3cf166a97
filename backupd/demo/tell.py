"""How the demo speaks: chapters, commands, sentences, and the closing table."""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Sequence

from backupd.cli.output import Cell, Table, print_line, print_sentences, print_table, width

_CHAPTER, _COMMAND, _GOOD = "bold cyan", "bold", "green"
_COMMAND_INDENT = 5


def title(text: str) -> None:
    """The first line; what follows is seen as it happens, in a pipe too."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    print_line(Cell(text, "bold"))


def chapter(number: int, text: str) -> None:
    """A new chapter of the story."""
    print_line()
    print_line((Cell(f"{number}. ", _CHAPTER), Cell(text, _CHAPTER)))


def command(text: str) -> None:
    """What was typed; on a terminal a long one goes on in the next lines, as a shell would read it."""
    first, *rest = continued(text, width() - _COMMAND_INDENT)
    print_line((Cell("   $ ", "dim"), Cell(first, _COMMAND)))
    for line in rest:
        print_line(Cell(" " * _COMMAND_INDENT + line, _COMMAND))


def continued(text: str, columns: int) -> list[str]:
    """A command in lines of so many columns where that can be, broken before its options."""
    lines: list[str] = []
    for piece in text.replace(" --", "\0--").split("\0"):
        if lines and len(lines[-1]) + len(piece) + 3 <= columns:  # the blank between, and " \\" at the end
            lines[-1] += " " + piece
        else:
            lines.append(piece)
    return [line + " \\" for line in lines[:-1]] + lines[-1:]


def say(*sentences: str) -> None:
    """What happened."""
    print_sentences(sentences, indent=3, bullet="-")


def quote(text: str, lines_max: int = 12) -> None:
    """What a command printed."""
    for line in text.rstrip().splitlines()[:lines_max]:
        room = width() - _COMMAND_INDENT
        pieces = [line] if len(line) <= room else textwrap.wrap(line, room, subsequent_indent="  ")
        for piece in pieces:
            print_line(Cell(" " * _COMMAND_INDENT + piece, "dim"))


def closing(rows: Sequence[tuple[str, str]]) -> None:
    """What was proven, with the figures of this run."""
    print_line()
    table = Table(("PROVEN IN THIS RUN", "MEASURED"), last_wraps=True)
    for what, figure in rows:
        table.add(Cell(what, _GOOD), figure)
    print_table(table)


def mib(size_bytes: float) -> str:
    """Bytes as MiB."""
    return f"{size_bytes / 2**20:,.1f} MiB"
