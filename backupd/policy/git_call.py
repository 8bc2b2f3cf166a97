"""Calls git, the one program that policies need: it never asks, never runs hooks, and ends in time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from backupd.errors import BackupdError, NotHealthy

_SECRET_IN_ADDRESS = re.compile(r"(://)[^/@\s]*@")
_SAID_MAX = 300
# Set inside hooks, where they would point at another repository than the one that is meant.
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE")


class GitFailed(NotHealthy):
    """Git could not do what it was asked."""


def call_git(
    arguments: Sequence[str],
    *,
    directory: Path | None = None,
    git_directory: Path | None = None,
    seconds_max: float = 5.0,
    stdin: bytes = b"",
    settings: Mapping[str, str] | None = None,
) -> bytes:
    """What git writes to its output.

    Args:
        arguments: the command and its arguments.
        directory: where it runs; its repository is the one around it.
        git_directory: the repository itself, instead.
        seconds_max: after so long it is ended, with all that it has started (seconds).
        stdin: what it reads.
        settings: more of its environment.

    Raises:
        GitFailed: it is not there, it failed, or it took too long; what it said is told without secrets.
    """
    where = ["-C", str(directory)] if directory is not None else []
    where += [f"--git-dir={git_directory}"] if git_directory is not None else []
    # Hooks of the user's template or config are programs that somebody else wrote.
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *where, *arguments]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(settings or {}),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise _failed(arguments, f"git cannot be started: {error}", "install git on this host") from None
    try:
        out, err = process.communicate(stdin, timeout=seconds_max)
    except subprocess.TimeoutExpired:
        _end(process)
        because = f"it took longer than {seconds_max:g} s and was ended"
        raise _failed(arguments, because, "look at the network and the server of the repository") from None
    except BaseException:
        _end(process)
        raise
    if process.returncode != 0:
        said = _said(err) or f"git ended with status {process.returncode}"
        raise _failed(arguments, said, "run the same git command by hand, as the user that runs backupd")
    return out


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    quiet = {
        "GIT_OPTIONAL_LOCKS": "0",  # a read must not disturb a person's own git at work
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",  # answers nothing, so git fails instead of asking
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_LITERAL_PATHSPECS": "1",  # a file may be called *.toml
        "LC_ALL": "C",
    }
    return {**own, **quiet, **settings}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Git starts ssh and others; all are of its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.communicate()


def _said(err: bytes) -> str:
    """Git's own reason, in one line: what follows ``fatal:`` or ``error:``, else the last line."""
    lines = [line.strip() for line in err.decode("utf-8", "replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "ssh:"))] or lines[-1:]
    said = "; ".join(line.removeprefix("fatal: ").removeprefix("error: ") for line in telling)
    return _SECRET_IN_ADDRESS.sub(r"\1...@", said)[:_SAID_MAX]


def _failed(arguments: Sequence[str], because: str, next_step: str) -> BackupdError:
    return GitFailed(f"git {arguments[0]} failed", because=because, next_step=next_step)
