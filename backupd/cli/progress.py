"""Progress of long work: a line on the terminal's standard error, nothing when it is piped."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from backupd.cli import output
from backupd.model.records import Progress
from backupd.ports import ReportProgress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


def _silent(progress: Progress) -> None:
    """Tell nobody."""


@contextlib.contextmanager
def shown(*, quiet: bool = False) -> Iterator[ReportProgress]:
    """A reporter for a run: draws while inside on a terminal, does nothing elsewhere.

    The lines vanish at the end, so that only the result stays on the screen.
    """
    if quiet or not output.is_terminal(sys.stderr):
        yield _silent
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Drawing

    drawing = Drawing(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        console=output.console(sys.stderr),
        transient=True,
        expand=True,
    )
    with drawing:
        yield _Drawer(drawing)


class _Drawer:
    """One line for each kind of work; rich's own lock makes it safe from any thread."""

    def __init__(self, drawing: RichProgress) -> None:
        self._drawing = drawing
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        """Show how far it has come; work that starts ends the work before it."""
        total = progress.total_bytes or None
        task = self._tasks.get(progress.what)
        if task is None:
            for earlier in self._tasks.values():
                self._drawing.update(earlier, visible=False)
            task = self._tasks[progress.what] = self._drawing.add_task(progress.what, total=total)
        self._drawing.update(task, completed=progress.done_bytes, total=total, visible=True)
