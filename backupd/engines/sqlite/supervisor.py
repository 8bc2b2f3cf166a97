"""Runs the capture and the replay process of one database, and starts them again when they die.

Used by the service for as long as it runs, and by a single ``backupctl`` run
for as long as that takes.  A lock file says who of the two it is.  This module
stays small in memory: it imports neither numpy nor sqlite3.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.engines.sqlite.layout import CopyLayout, PairLayout, make_directory
from backupd.engines.sqlite.locks import lock_is_free
from backupd.engines.sqlite.marker import read_marker
from backupd.engines.sqlite.pairfile import PairState, change_pair, load_pair, open_pair
from backupd.engines.sqlite.passive_file import refuse_foreign
from backupd.errors import Busy
from backupd.steps import step

LOG = logging.getLogger("replication")
BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_SECONDS = 30.0
STOP_SECONDS = 20.0


@dataclass(slots=True)
class Child:
    """One process and its history of deaths."""

    role: str
    module: str
    config: Path
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    started_at: float = 0.0
    start_not_before: float = 0.0
    alarm: str = ""


class Supervisor:
    """Replication of one pair: ``start``, then ``poll`` a few times a second, then ``stop``.

    Args:
        database: the name, for logs.
        layout: the state directory.
        copies: name and path of each of the two.
        first_active: which is active when the pair is made.
        options: of the capture process (see ``CaptureOptions``).
        log_to: where the processes write their log; None: to this process's stderr.
    """

    def __init__(
        self,
        database: str,
        layout: PairLayout,
        copies: Mapping[str, Path],
        *,
        first_active: str,
        options: Mapping[str, Any],
        log_to: Path | None = None,
    ) -> None:
        self.database = database
        self._about = {"facts": {"database": database}}
        self._layout = layout
        self._copies = dict(copies)
        self._first_active = first_active
        self._options = dict(options)
        self._log_to = log_to
        self._lock_fd = -1
        self._children: dict[str, Child] = {}
        self._mutex = threading.Lock()

    def start(self) -> None:
        """Become the one who replicates this database, and start both processes.

        Raises:
            Busy: another service or run replicates it already.
            Refused: somebody's file is at the passive's path.
        """
        make_directory(self._layout.directory)
        fd = os.open(self._layout.replication_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise Busy(
                f"cannot start replication of {self.database}",
                because="another backupd process replicates it already",
                next_step="use the running service, or stop it first",
            ) from None
        self._lock_fd = fd
        try:
            names = sorted(self._copies)
            pair = open_pair(self._layout.pair, (names[0], names[1]), self._first_active)
            passive = self._layout.copy(pair.passive, self._copies[pair.passive])
            refuse_foreign(passive.path, read_marker(passive.marker))
            self._prepare(pair)
        except BaseException:
            self._release()
            raise
        self.poll()

    def _prepare(self, pair: PairState) -> None:
        active = self._layout.copy(pair.active, self._copies[pair.active])
        passive = self._layout.copy(pair.passive, self._copies[pair.passive])
        for copy in (active, passive):
            make_directory(copy.directory)
        self._children = {
            "replay": Child("replay", "backupd.engines.sqlite.replayer", self._replay_config(active, passive)),
            "capture": Child(
                "capture", "backupd.engines.sqlite.capture_process", self._capture_config(active, passive)
            ),
        }

    def _capture_config(self, active: CopyLayout, passive: CopyLayout) -> Path:
        return _write_config(
            active.directory / "capture.config.json",
            {
                "database": self.database,
                "db_path": str(active.path),
                "directory": str(active.directory),
                "pair_path": str(self._layout.pair),
                "seed_path": str(passive.seed),
                "replay_socket": str(passive.replay_socket),
                "options": self._options,
            },
        )

    def _replay_config(self, active: CopyLayout, passive: CopyLayout) -> Path:
        return _write_config(
            passive.directory / "replay.config.json",
            {
                "database": self.database,
                "copy": passive.name,
                "db_path": str(passive.path),
                "state_dir": str(passive.directory),
                "source_log_dir": str(active.logs),
                "capture_socket": str(active.capture_socket),
                "control_socket": str(passive.replay_socket),
                "name_of_active": active.name,
            },
        )

    def poll(self) -> None:
        """Start what should run and does not; stop the capture while a restore has the file in hand."""
        with self._mutex:
            if self._lock_fd < 0:
                return
            wanted = not self._restoring()
            for child in self._children.values():
                self._reap(child)
                if child.process is None and wanted and time.monotonic() >= child.start_not_before:
                    self._spawn(child)
                elif child.process is not None and not wanted:
                    self._end(child)

    def _restoring(self) -> bool:
        """Whether a living restore has claimed the active's file; a dead one's claim is cleared here."""
        pair = load_pair(self._layout.pair)
        if pair is None or not pair.restoring:
            return False
        if lock_is_free(self._layout.directory / "run.lock"):
            LOG.warning("restore %s died; replication goes on", pair.restoring, extra=self._about)
            change_pair(self._layout.pair, restoring="")
            return False
        return True

    def _spawn(self, child: Child) -> None:
        step(f"supervisor.spawn_{child.role}")
        environment = dict(os.environ)
        root = str(Path(__file__).resolve().parents[3])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
        environment.setdefault("OMP_NUM_THREADS", "1")
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")
        with contextlib.ExitStack() as stack:
            errors = stack.enter_context(open(self._log_to, "ab")) if self._log_to else None
            child.process = subprocess.Popen(
                [sys.executable, "-m", child.module, str(child.config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        child.started_at = time.monotonic()
        LOG.info("started %s pid=%d", child.role, child.process.pid, extra=self._about)

    def _reap(self, child: Child) -> None:
        if child.process is None:
            return
        status = child.process.poll()
        now = time.monotonic()
        if status is None:
            if now - child.started_at > STEADY_SECONDS:
                child.deaths, child.alarm = 0, ""
            return
        self._close_pipe(child)
        child.process = None
        wait = BACKOFF_SECONDS[min(child.deaths, len(BACKOFF_SECONDS) - 1)]
        child.deaths += 1
        child.start_not_before = now + wait
        child.alarm = f"{child.role} ended with status {status}; starting again in {wait:g} s"
        LOG.warning("%s", child.alarm, extra=self._about)

    def _close_pipe(self, child: Child) -> None:
        if child.process is not None and child.process.stdin is not None:
            with contextlib.suppress(OSError):
                child.process.stdin.close()

    def _end(self, child: Child) -> None:
        """Ask the process to end, wait, and make it end."""
        process = child.process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        self._close_pipe(child)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            LOG.warning("%s does not end; killing it", child.role, extra=self._about)
            process.kill()
            process.wait()
        child.process, child.deaths, child.start_not_before = None, 0, 0.0

    def alarms(self) -> tuple[str, ...]:
        """What is wrong with the processes now."""
        return tuple(child.alarm for child in self._children.values() if child.alarm and child.process is None)

    def pids(self) -> dict[str, int]:
        """The processes that run, by role."""
        return {role: child.process.pid for role, child in self._children.items() if child.process is not None}

    def stop(self) -> None:
        """End both processes, capture first so that the passive still takes its last log; release the lock."""
        with self._mutex:
            for role in ("capture", "replay"):
                if role in self._children:
                    self._end(self._children[role])
            self._release()

    def _release(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def _write_config(path: Path, value: dict[str, Any]) -> Path:
    path.write_text(json.dumps(value, indent=1))
    os.chmod(path, 0o600)
    return path
