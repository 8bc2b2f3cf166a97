"""How the demo speaks: chapters, commands, sentences, and the closing table."""

from __future__ import annotations

from collections.abc import Sequence

from backupd.cli.output import Cell, Table, print_line, print_sentences, print_table

_CHAPTER, _COMMAND, _GOOD = "bold cyan", "bold", "green"


def title(text: str) -> None:
    """The first line."""
    print_line(Cell(text, "bold"))


def chapter(number: int, text: str) -> None:
    """A new chapter of the story."""
    print_line()
    print_line((Cell(f"{number}. ", _CHAPTER), Cell(text, _CHAPTER)))


def command(text: str) -> None:
    """What was typed."""
    print_line((Cell("   $ ", "dim"), Cell(text, _COMMAND)))


def say(*sentences: str) -> None:
    """What happened."""
    print_sentences(sentences, indent=3, bullet="-")


def quote(text: str, lines_max: int = 12) -> None:
    """What a command printed."""
    for line in text.rstrip().splitlines()[:lines_max]:
        print_line(Cell("     " + line, "dim"))


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
