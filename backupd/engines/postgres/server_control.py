"""Starts, stops and promotes the server of one data directory, as its owner and by no shell of ours."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from backupd.engines.postgres.binaries import find_binaries, major_of, start_words, version_of
from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.postmaster import Postmaster, complaint, find_postmaster, last_words, read_tail
from backupd.errors import BackupdError, NotHealthy
from backupd.steps import step

_POLL_SECONDS = 0.05
_STOP_POLL_SECONDS = 0.02
_PROGRAM_SECONDS_MAX = 60.0
START_LOG = "backupd-start.log"


class PgControl:
    """The server of one data directory.

    Args:
        data_directory: where ``PG_VERSION`` is, or will be.
        bin_directory: the policy's; None: found by ``binaries.find_binaries``.
        major: of the server; None: read from the directory when it is first needed.
        owner: whom the server runs as; None: the owner of the directory.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        bin_directory: Path | None = None,
        major: int | None = None,
        owner: Owner | None = None,
    ) -> None:
        self.data_directory = data_directory
        self._chosen = bin_directory
        self._major = major
        self._owner = owner
        self._found: Path | None = None

    @property
    def major(self) -> int:
        """The major version of the cluster. Raises NotHealthy when there is none."""
        if self._major is None:
            self._major = major_of(self.data_directory)
        return self._major

    @property
    def owner(self) -> Owner:
        """Whom the server runs as. Raises NotHealthy when the directory is not there."""
        if self._owner is None:
            try:
                self._owner = Owner.of(self.data_directory)
            except OSError as error:
                raise NotHealthy(
                    f"the data directory {self.data_directory} cannot be looked at",
                    because=error.strerror or str(error),
                    next_step="run backupd on the server's host, as root or as the server's user",
                ) from None
        return self._owner

    def bin_directory(self) -> Path:
        """Where the programs of this cluster's version are. Raises NotHealthy."""
        if self._found is None:
            running = self.postmaster()
            self._found = find_binaries(
                self.major,
                chosen=self._chosen,
                data_directory=self.data_directory,
                running_pid=running.pid if running else None,
            )
        return self._found

    def program(self, name: str) -> Path | None:
        """A program of this cluster's version (``pg_amcheck``, ``pg_waldump``); None when it is not installed."""
        path = self.bin_directory() / name
        return path if version_of(path) == self.major else None

    def run(
        self, name: str, *words: str, seconds_max: float = _PROGRAM_SECONDS_MAX, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the programs to its end as the owner; its answer may be a failure.

        Raises:
            NotHealthy: it is not there, or took longer than ``seconds_max``.
        """
        argv = [str(self.bin_directory() / name), *words]
        step(f"pg.server.{name}")
        try:
            return subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds_max,
                check=False,
                cwd="/",
                env=plain_environment({"HOME": self.owner.home, **(env or {})}),
                **self.owner.run_as(),
            )
        except subprocess.TimeoutExpired:
            because = f"it was not done after {seconds_max:g} s and was killed"
        except OSError as error:
            because = error.strerror or str(error)
        raise NotHealthy(f"{name} did not work", because=because, next_step=f"run it by hand: {shlex.join(argv)}")

    # --- what runs ----------------------------------------------------------

    def postmaster(self) -> Postmaster | None:
        """The running server of this directory; None when there is none (a stale postmaster.pid is no server)."""
        return find_postmaster(self.data_directory)

    def is_running(self) -> bool:
        """Whether a server uses this directory."""
        return self.postmaster() is not None

    def start_options(self) -> list[str]:
        """The options that the last server was started with, without the program and without ``-D``."""
        words, options = start_words(self.data_directory)[1:], []
        while words:
            word = words.pop(0)
            if word == "-D":
                del words[:1]
            elif not word.startswith("-D"):
                options.append(word)
        return options

    # --- acts ---------------------------------------------------------------

    def start(
        self,
        options: Sequence[str] = (),
        *,
        log_file: Path | None = None,
        seconds_max: float = 120.0,
        wait: bool = True,
        starting: bool = False,
    ) -> Postmaster | None:
        """Start the server by ``pg_ctl`` and wait until it accepts connections; a running one is only waited for.

        With ``starting`` it is enough that it has begun to; without ``wait`` not even that is looked at.

        Raises:
            NotHealthy: it did not start; ``because`` is what its log says.
        """
        log = log_file or self.data_directory / START_LOG
        if not self.is_running():
            began = log.stat().st_size if log.exists() else 0
            self.owner.run_as()
            step("pg.server.start")
            words = ["start", "-W", "-D", str(self.data_directory), "-l", str(log)]
            if options:
                words += ["-o", shlex.join(options)]
            done = self.run("pg_ctl", *words)
            if done.returncode:
                raise self._did_not_start(complaint(done.stderr) or done.stderr.strip() or done.stdout.strip())
        else:
            began = log.stat().st_size if log.exists() else 0
        if not wait:
            return self.postmaster()
        return self.wait_ready(seconds_max, log=log, log_from=began, starting=starting)

    def wait_ready(
        self, seconds_max: float, *, log: Path | None = None, log_from: int = 0, starting: bool = False
    ) -> Postmaster:
        """Wait until the server accepts connections. Raises NotHealthy when it ended or the time is up."""
        deadline = time.monotonic() + seconds_max
        seen = 0
        while True:
            running = self.postmaster()
            if running is not None and (running.ready or (starting and running.status)):
                return running
            # pg_ctl's child needs a moment to write its postmaster.pid.
            seen = 0 if running else seen + 1
            if seen > 100 or (seen > 10 and log is not None and complaint(read_tail(log, log_from))):
                raise self._did_not_start(last_words(read_tail(log, log_from)) if log else "")
            if time.monotonic() > deadline:
                raise NotHealthy(
                    f"the server of {self.data_directory} does not accept connections",
                    because=f"it is still {running.status or 'starting' if running else 'starting'} "
                    f"after {seconds_max:g} s",
                    next_step=f"look at its log{f' {log}' if log else ''}; it may need more time to recover",
                )
            time.sleep(_POLL_SECONDS)

    def stop(self, mode: str = "fast", *, seconds_max: float = 120.0) -> bool:
        """Stop the server (``fast``: backends are ended and a checkpoint is made; ``immediate``: neither).

        False when none ran.  Raises NotHealthy when it still runs after ``seconds_max``.
        """
        running = self.postmaster()
        if running is None:
            return False
        step("pg.server.stop")
        try:
            os.kill(running.pid, signal.SIGQUIT if mode == "immediate" else signal.SIGINT)
        except ProcessLookupError:
            return True
        except PermissionError:
            raise NotHealthy(
                f"the server of {self.data_directory} (pid {running.pid}) cannot be stopped",
                because=f"it belongs to {self.owner.name}, and backupd runs as another user",
                next_step="run the restore as that user or as root, or give the policy a restore.stop_command",
            ) from None
        deadline = time.monotonic() + seconds_max
        while self.postmaster() is not None:
            if time.monotonic() > deadline:
                raise NotHealthy(
                    f"the server of {self.data_directory} (pid {running.pid}) does not stop",
                    because=f"it still runs {seconds_max:g} s after it was asked to ({mode})",
                    next_step="look at its log and stop it by hand, then run the same command again",
                )
            time.sleep(_STOP_POLL_SECONDS)
        return True

    def promote(self) -> None:
        """Ask a standby to become a primary; does not wait. Raises NotHealthy."""
        done = self.run("pg_ctl", "promote", "-W", "-D", str(self.data_directory))
        if done.returncode:
            raise NotHealthy(
                f"the server of {self.data_directory} was not promoted",
                because=done.stderr.strip() or done.stdout.strip() or f"pg_ctl ended with status {done.returncode}",
                next_step="look at the server's log",
            )

    def reload(self) -> None:
        """Let the running server read its configuration again; nothing happens when none runs."""
        running = self.postmaster()
        if running is not None:
            step("pg.server.reload")
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGHUP)

    def _did_not_start(self, because: str) -> BackupdError:
        return NotHealthy(
            f"the server of {self.data_directory} did not start",
            because=because or "it ended without a word",
            next_step=f"start it by hand and look: pg_ctl -D {self.data_directory} start",
        )


def plain_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without what would change how PostgreSQL's programs speak or connect."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", **(more or {})}
