"""Plain ASCII in a pipe, tables on a terminal."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest

from backupd.cli import output
from backupd.cli.output import Cell, Table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """To be called in the test: pytest puts its own standard output back between a fixture and the test."""
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return screen


def some_table() -> Table:
    table = Table(("COPY", ">LOGS", "WHY"), last_wraps=True)
    table.add("a", "1", Cell("healthy", output.GOOD))
    table.add("bb", "1000", "a long sentence that does not fit on one line of a terminal of eighty columns at all")
    return table


def test_in_a_pipe_a_table_is_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(some_table(), indent=2)
    out = capsys.readouterr().out
    assert out.isascii()
    assert out.splitlines()[:2] == ["  COPY  LOGS  WHY", "  a        1  healthy"]
    assert len(out.splitlines()) == 3


def test_on_a_terminal_a_table_fits_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    output.print_table(some_table(), indent=2)
    lines = screen.getvalue().splitlines()
    assert "\x1b[" in screen.getvalue()
    assert len(lines) > 4
    assert "columns at all" in " ".join(" ".join(line.split()) for line in lines)


def test_brackets_are_not_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    output.print_line("[red]x[/red]")
    output.print_sentences(["a [b] c"])
    assert "[red]x[/red]" in screen.getvalue()
    assert "a [b] c" in screen.getvalue()


def test_an_empty_table_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(Table(("A",)))
    assert not capsys.readouterr().out


def test_facts_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_facts((("read", "3 GiB"), ("parent", ""), ("stored", Cell("1 GiB"))), indent=2)
    assert capsys.readouterr().out.splitlines() == ["  read    3 GiB", "  stored  1 GiB"]


def test_json_knows_times_and_sets(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"at": datetime(2026, 1, 1, tzinfo=UTC), "names": frozenset({"b", "a"})})
    assert json.loads(capsys.readouterr().out) == {"at": "2026-01-01T00:00:00+00:00", "names": ["a", "b"]}
