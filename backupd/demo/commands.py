"""What both stories need: a place of their own, the commands that are typed there, and claims that are checked."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backupd.demo import tell
from backupd.errors import BackupdError, Refused


class DemoFailed(BackupdError):
    """Something that the demo proves was not so."""

    exit_status = 7


def expect(fact: bool, problem: str, because: str) -> None:
    """Stop the demo when what it has just claimed is not true."""
    if not fact:
        raise DemoFailed(problem, because=because, next_step="run backupctl demo --keep DIR, and look into DIR")


def reason_of(told: str) -> str:
    """Why a command failed, out of what it printed: the last error and its because, or else its last line."""
    said = dict(line.split(": ", 1) for line in told.splitlines() if line.startswith(("error: ", "because: ")))
    return "; ".join(said.values()) or told.splitlines()[-1]


@contextlib.contextmanager
def place_for(keep: Path | None, *, mode: int = 0o700) -> Iterator[Path]:
    """A directory for one story: ``keep``, which stays, or a scratch directory, which goes away at the end.

    Raises:
        Refused: ``keep`` exists and is not empty, or nothing can be made there.
    """
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise Refused(
            f"cannot play the demo in {keep}",
            because="it is there already and not empty" if keep.is_dir() else "it is there already, and no folder",
            next_step="name a folder that does not exist yet",
        )
    try:
        if keep is not None and not keep.exists():
            keep.mkdir(parents=True)
            keep.chmod(mode)
        home = keep.absolute() if keep is not None else Path(tempfile.mkdtemp(prefix="backupd-demo-"))
    except OSError as error:
        raise Refused(
            f"cannot play the demo in {keep or 'a scratch folder'}",
            because=(error.strerror or str(error)).lower(),
            next_step="say --keep DIR with a folder that can be made, or set TMPDIR to one that can be written",
        ) from error
    try:
        yield home
    finally:
        if keep is None:
            shutil.rmtree(home, ignore_errors=True)


class Commands:
    """``backupctl``, as it is typed in the demo's folder ``home`` with the config ``config``."""

    def __init__(self, home: Path, config: Path) -> None:
        self.home = home
        self.config = config

    def ctl(self, *words: str, status: int = 0, quiet: bool = False) -> str:
        """Type a ``backupctl`` command; answers with what it printed. Raises DemoFailed on another exit status."""
        if not quiet:
            tell.command("backupctl " + self.shortened(shlex.join(words)))
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment = {**outside, "BACKUPD_CONFIG": str(self.config)}
        done = subprocess.run(
            [sys.executable, "-m", "backupd.cli.main", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        expect(
            done.returncode == status,
            f"backupctl {words[0]} ended with {done.returncode} and not {status}",
            reason_of(done.stderr.strip() or done.stdout.strip() or "it said nothing"),
        )
        return done.stdout if status == 0 else done.stderr + done.stdout

    def shortened(self, text: str) -> str:
        """The text with the demo's folder as ``~demo``."""
        return text.replace(str(self.home), "~demo")

    def three_lines(self, *words: str, status: int) -> str:
        """Type a command that must fail like this; answers with its error, because and next."""
        told = self.ctl(*words, status=status).splitlines()
        three = [line for line in told if line.partition(":")[0] in ("error", "because", "next")]
        expect(len(three) == 3, f"backupctl {words[0]} did not say why in three lines", "\n".join(told[-3:]))
        return self.shortened("\n".join(three))

    def ask(self, *words: str, quiet: bool = False) -> dict[str, Any]:
        """Type a command with ``--json`` and read its answer."""
        answer: dict[str, Any] = json.loads(self.ctl(*words, "--json", quiet=quiet))
        return answer

    def status(self) -> dict[str, Any]:
        """What ``backupctl status`` says of the shop."""
        found: dict[str, Any] = self.ask("status", quiet=True)["databases"][0]
        return found
