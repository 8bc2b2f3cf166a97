"""A private place for a look into archived log, which goes away; what a killed look had left goes first."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backupd.errors import NotHealthy
from backupd.process import lives_by_mark, mark_of_process
from backupd.runs.context import RunContext
from backupd.steps import step

_PREFIX = "looking-"


@contextmanager
def looking(context: RunContext) -> Iterator[Path]:
    """A directory of this process's own in the state directory, mode 0700; it is removed at the end.

    Raises:
        NotHealthy: it cannot be made.
    """
    _clear_dead(context.state_dir)
    step("runs.looking")
    try:
        context.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{mark_of_process()}-", dir=context.state_dir))
    except OSError as error:
        raise NotHealthy(
            f"cannot write in {context.state_dir}",
            because=error.strerror or str(error),
            next_step=f"make room there or fix its rights: ls -ld {context.state_dir}",
        ) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _clear_dead(state_dir: Path) -> None:
    """Remove the places of processes that are no more; they hold the database's content."""
    with suppress(OSError):
        for left in state_dir.glob(f"{_PREFIX}*"):
            if lives_by_mark(left.name.removeprefix(_PREFIX)) is False:
                shutil.rmtree(left, ignore_errors=True)
