"""Progress is for a terminal only."""

from __future__ import annotations

import io

import pytest

from backupd.cli import progress
from backupd.model.records import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tell() -> None:
    with progress.shown() as report:
        report(Progress("frozen: replay paused", 0, 0, {"state": "frozen"}))
        report(Progress("storing [app.db]", 2**20, 3 * 2**20))
        report(Progress("reading back", 2**20, 0))


def test_nothing_is_shown_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    tell()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_on_a_terminal_states_stay_and_work_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    tell()
    assert "frozen: replay paused" in screen.getvalue()
    assert "reading back" in screen.getvalue()


def test_amounts() -> None:
    assert not progress.amount(Progress("x", 0, 100), 3)
    assert progress.amount(Progress("x", 1024, 2048), 0) == "1.0 KiB of 2.0 KiB"
    assert progress.amount(Progress("x", 4096, 0), 2) == "4.0 KiB, 2.0 KiB/s"
