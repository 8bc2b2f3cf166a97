"""Runs a command of the administrator's that speaks JSON: one object in, one object out, within a limit."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from backupd.errors import NotHealthy
from backupd.steps import step

_ANSWER_BYTES_MAX = 64 << 10
_TAIL_CHARACTERS = 300
_DYING_SECONDS = 2.0


def ask_command(argv: Sequence[str], question: Mapping[str, object], seconds_max: float) -> dict[str, Any]:
    """Run ``argv`` with ``question`` on its standard input; its answer, empty when it says nothing.

    It runs in a session of its own, so that at the limit all that it started goes with it.

    Raises:
        NotHealthy: it is not there, failed, took longer than ``seconds_max``, or did not answer in JSON.
    """
    words = shlex.join(argv)
    step("providers.command")
    # Files and not pipes: a mount daemon that a command leaves behind would keep a pipe open for ever.
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as wrong:
        asked.write(json.dumps(dict(question)).encode() + b"\n")
        asked.seek(0)
        try:
            status = _run(argv, asked, said, wrong, seconds_max)
        except subprocess.TimeoutExpired:
            raise _failed(words, f"it was not done after {seconds_max:g} s and was killed") from None
        except OSError as error:
            raise _failed(words, error.strerror or str(error)) from error
        if status != 0:
            complaint = _text(wrong) or _text(said)
            tail = f": {complaint[-_TAIL_CHARACTERS:]}" if complaint else ""
            raise _failed(words, f"it ended with status {status}{tail}")
        return _read_answer(words, _text(said, _ANSWER_BYTES_MAX + 1))


def _run(argv: Sequence[str], asked: IO[bytes], said: IO[bytes], wrong: IO[bytes], seconds_max: float) -> int:
    process = subprocess.Popen(list(argv), stdin=asked, stdout=said, stderr=wrong, start_new_session=True)
    try:
        return process.wait(seconds_max)
    except BaseException:
        with suppress(ProcessLookupError, PermissionError):  # what sudo started is not ours to kill
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_DYING_SECONDS)
        raise


def _text(file: IO[bytes], size_max: int = 4096) -> str:
    """The end of what was written there, at most so many bytes."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - size_max))
    return file.read().decode("utf-8", "replace").strip()


def _read_answer(words: str, text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        answer = json.loads(text) if len(text) <= _ANSWER_BYTES_MAX else None
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _failed(words, f"its answer is not one JSON object: {text[:80]!r}")
    return answer


def _failed(words: str, because: str) -> NotHealthy:
    return NotHealthy(
        f"the command {words} did not work",
        because=" ".join(because.split()),
        next_step=f"run it by hand and look: echo '{{\"action\": ...}}' | {words} (contrib/snapshots tells how)",
    )
