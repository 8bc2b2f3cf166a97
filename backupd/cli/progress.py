"""Progress of long work: told on the terminal's standard error as it happens, nothing when it is piped."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from backupd.cli import human, output

if TYPE_CHECKING:
    from rich.progress import Progress as Drawing
    from rich.progress import TaskID

    from backupd.model.records import Progress
    from backupd.ports import ReportProgress


def _silent(progress: Progress) -> None:
    """Tell nobody."""


@contextlib.contextmanager
def shown() -> Iterator[ReportProgress]:
    """A reporter for a run: draws while inside on a terminal, does nothing elsewhere.

    Each state that is reached stays as a line; the moving line below vanishes at the end.
    """
    if not output.is_terminal(sys.stderr):
        yield _silent
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Drawing

    drawing = Drawing(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[bytes]}", style=output.DIM, markup=False),
        console=output.console(sys.stderr),
        transient=True,
    )
    with drawing:
        yield _Drawer(drawing)


class _Drawer:
    """One line for the work under way; rich's own lock makes it safe from any thread."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        """Show how far it has come; work that starts takes the place of the work before it."""
        if "state" in progress.facts:
            self._drawing.console.print(f"  {progress.what}", style=output.DIM)
            return
        task = self._tasks.get(progress.what)
        if task is None:
            for earlier in self._tasks.values():
                self._drawing.update(earlier, visible=False)
            task = self._tasks[progress.what] = self._drawing.add_task(progress.what, total=None, bytes="")
            self._began[progress.what] = time.monotonic()
        seconds = time.monotonic() - self._began[progress.what]
        self._drawing.update(
            task, completed=progress.done_bytes, total=progress.total_bytes or None, bytes=amount(progress, seconds)
        )


def amount(progress: Progress, seconds: float) -> str:
    """``1.2 GiB of 3.0 GiB, 410.0 MiB/s``; as much of it as is known."""
    if not progress.done_bytes:
        return ""
    of = f" of {human.size(progress.total_bytes)}" if progress.total_bytes else ""
    speed = f", {human.size(progress.done_bytes / seconds)}/s" if seconds > 0.5 else ""
    return human.size(progress.done_bytes) + of + speed
