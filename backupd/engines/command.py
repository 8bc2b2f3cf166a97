"""Runs one of the policy's commands: an argument list, never a shell, with a limit."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from backupd.errors import NotHealthy
from backupd.steps import step

_TAIL_CHARACTERS = 300


def run_command(argv: Sequence[str], seconds_max: float) -> None:
    """Run ``argv`` to its end; it gets no input, and its output is only told when it fails.

    Raises:
        NotHealthy: it is not there, failed, or took longer than ``seconds_max``.
    """
    words = shlex.join(argv)
    step("command.run")
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds_max,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _failed(words, f"it was not done after {seconds_max:g} s and was killed") from None
    except OSError as error:
        raise _failed(words, error.strerror or str(error)) from error
    if done.returncode != 0:
        said = done.stdout.decode("utf-8", "replace").strip()[-_TAIL_CHARACTERS:]
        raise _failed(words, f"it ended with status {done.returncode}" + (f": {said}" if said else ""))


def _failed(words: str, because: str) -> NotHealthy:
    return NotHealthy(
        f"the command {words} did not work",
        because=" ".join(because.split()),
        next_step=f"run it by hand and look: {words}",
    )
