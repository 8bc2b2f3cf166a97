"""A whole installation in a temporary directory: database, passive, archive, config, service, ``backupctl``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backupd.engines.sqlite.apply import apply_partially
from backupd.engines.sqlite.logcheck import verify_log
from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.logheader import LogHeader, LogKindCode
from backupd.engines.sqlite.writer import SqliteWriter
from backupd.errors import BackupdError
from backupd.model.position import Position
from backupd.model.records import Progress

ROOT = Path(__file__).parents[2]


class _Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def _quiet(_: Progress) -> None:
    """No progress is shown."""


@dataclass
class Chain:
    """What a walk over closed logs has found."""

    logs: int = 0
    restarts: int = 0
    deltas: int = 0
    histories: int = 0
    faults: list[str] = field(default_factory=list)


class Installation:
    """One database ``orders`` with the copies a (active) and b; every file is below ``root``."""

    def __init__(self, root: Path, **sqlite_options: object) -> None:
        self.root = root
        self.active, self.passive = root / "data" / "app.db", root / "passive" / "app.db"
        for directory in (self.active.parent, self.passive.parent):
            directory.mkdir()
        self.archive, self.config = root / "archive", root / "conf" / "backupd.toml"
        self.service: subprocess.Popen[bytes] | None = None
        self._options = sqlite_options

    # --- commands ---------------------------------------------------------------

    def init(self, *, schedule: bool = False) -> None:
        """Write config and policy, as a person would; the service keeps a ``schedule`` only where that is the test."""
        copies = ["--copy", f"a={self.active}", "--copy", f"b={self.passive}", "--active", "a"]
        made = self.ctl(
            "init", str(self.config.parent), "--database", "orders", *copies, "--archive", f"file://{self.archive}"
        )
        if made.returncode:
            raise RuntimeError(made.stderr)
        policy = self.config.parent / "policies" / "orders.toml"
        text = policy.read_text()
        extra = "".join(f"{name} = {json.dumps(value)}\n" for name, value in self._options.items())
        policy.write_text(text.replace("[sqlite]\n", "[sqlite]\n" + extra))
        # The page's port belongs to one service of a host; and a test that runs at 02:00 UTC would meet a backup
        # that it did not ask for.
        own = 'listen = ""\n' if schedule else 'listen = ""\nschedule = false\n'
        self.config.write_text(self.config.read_text() + own)

    def environment(self) -> dict[str, str]:
        """What backupd's processes get."""
        return {**os.environ, "BACKUPD_CONFIG": str(self.config), "PYTHONPATH": str(ROOT)}

    def ctl_command(self, *words: str) -> list[str]:
        """The argv of ``backupctl``; it names the config, so that its processes are known by their command line."""
        return [sys.executable, "-m", "backupd.cli.main", "--config", str(self.config), *words]

    def ctl(self, *words: str, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run ``backupctl`` to its end."""
        return subprocess.run(
            self.ctl_command(*words),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=ROOT,
            check=False,
        )

    def ctl_json(self, *words: str) -> Any:
        """Run ``backupctl ... --json``, which must succeed."""
        done = self.ctl(*words, "--json")
        if done.returncode:
            raise RuntimeError(f"backupctl {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
        return json.loads(done.stdout)

    def backups(self) -> list[dict[str, Any]]:
        """What is listed, oldest first."""
        found: list[dict[str, Any]] = self.ctl_json("list", "orders")["backups"]
        return found

    # --- the service --------------------------------------------------------------

    def start_service(self, **environment: str) -> None:
        """``backupd`` in the background; what its processes get besides."""
        with open(self.root / "service.log", "ab") as log:
            self.service = subprocess.Popen(
                [sys.executable, "-m", "backupd.service.main", "--config", str(self.config)],
                env={**self.environment(), **environment},
                stderr=log,
                cwd=ROOT,
            )

    def stop_service(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, kindly or not."""
        if self.service is not None:
            self.service.send_signal(how)
            self.service.wait(60)
            self.service = None

    def service_log(self) -> str:
        """Its last words."""
        path = self.root / "service.log"
        return path.read_text()[-6000:] if path.exists() else ""

    def processes(self) -> dict[str, int]:
        """Process ids by role: capture and replay of this installation, and the service."""
        found = {} if self.service is None else {"service": self.service.pid}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{name}/cmdline").read_bytes().decode().split("\0")
                if not any(str(self.root) in word for word in command):
                    continue
                for role in ("capture", "replayer"):
                    if any(word.startswith(f"backupd.engines.sqlite.{role}") for word in command):
                        found[role] = int(name)
        return found

    def writer(self) -> SqliteWriter:
        """The writer's port on this installation."""
        return SqliteWriter(
            database="orders",
            copies={"a": self.active, "b": self.passive},
            first_active="a",
            state_dir=self.config.parent / "state" / "orders",
            options={},
            clock=_Clock(),
        )

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Until ``condition``; a BackupdError counts as not yet."""
        deadline = time.monotonic() + seconds
        told = ""
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except BackupdError as error:
                told = str(error)
            time.sleep(0.1)
        raise TimeoutError(f"waited {seconds:g} s for {what}: {told}\n{self.service_log()}")

    def wait_healthy(self, seconds: float = 60.0) -> None:
        """Until both copies are healthy."""
        writer = self.writer()

        def healthy() -> bool:
            pair = writer.pair()
            return str(pair.active.state) == str(pair.passive.state) == "healthy"

        self.wait("both copies to be healthy", healthy, seconds)

    def settle(self, seconds: float = 120.0) -> Position:
        """With the load stopped: until the active's file and the passive are at the same position, by checkpoint."""
        writer = self.writer()
        at: list[Position] = []

        def same() -> bool:
            at[:] = [writer.prepare(checkpoint=True, timeout_seconds=20, report=_quiet).position]
            evidence = writer.truncation_evidence()
            return evidence.active_checkpointed == at[0] and evidence.passive_replayed == at[0]

        self.wait("equal positions", same, seconds)
        return at[0]

    def logs(self, copy: str) -> LogDir:
        """The closed logs of a copy."""
        return LogDir(self.config.parent / "state" / "orders" / "copies" / copy / "log")


@contextlib.contextmanager
def installation(**sqlite_options: object) -> Iterator[Installation]:
    """A new one; every process of it is ended, every file removed."""
    root = Path(tempfile.mkdtemp(prefix="backupd-soak-"))
    made = Installation(root, **sqlite_options)
    try:
        yield made
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            made.stop_service()
        for pid in made.processes().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if "KEEP_SOAK" not in os.environ:
            shutil.rmtree(root, ignore_errors=True)


def say(text: str) -> None:
    """A figure for who reads along (pytest -s), or for who reads why a test failed."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# --- judgements ----------------------------------------------------------------------


def different_pages(one: Path, other: Path, page_bytes: int = 4096) -> list[int]:
    """Numbers of pages that differ (at most ten); sizes that differ show as pages too."""
    found: list[int] = []
    with open(one, "rb") as left, open(other, "rb") as right:
        number = 0
        while len(found) < 10:
            a, b = left.read(page_bytes), right.read(page_bytes)
            number += 1
            if not a and not b:
                break
            if a != b:
                found.append(number)
    return found


def as_sqlite_would_have_it(active: Path, scratch: Path) -> Path:
    """A copy of the active with its log, checkpointed by SQLite itself; nobody writes meanwhile."""
    copy = scratch / "oracle.db"
    shutil.copyfile(active, copy)
    wal = active.with_name(active.name + "-wal")
    if wal.exists():
        shutil.copyfile(wal, copy.with_name(copy.name + "-wal"))
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return copy


def integrity(path: Path, scratch: Path) -> list[str]:
    """What SQLite's own check says of a copy of ``path``."""
    copy = scratch / "checked.db"
    shutil.copyfile(path, copy)
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    copy.unlink()
    return found


def walk_chain(logs: LogDir, history: str, after: int = 0) -> Chain:
    """Read every closed log of ``history`` that follows number ``after``; any gap is a fault."""
    chain = Chain(histories=1)
    before: LogHeader | None = None
    digest = b""
    for number in logs.history(history).numbers():
        if number <= after:
            continue
        verified = verify_log(logs.history(history).path_of(number))
        header = verified.header
        if before is not None:
            chain.faults += [f"log {number}: {fault}" for fault in _faults(before, digest, header)]
            chain.restarts += header.kind is LogKindCode.FRAMES and header.frame_first == 1
        chain.deltas += header.kind is LogKindCode.DELTA
        chain.logs += 1
        before, digest = header, verified.digest
    return chain


def _faults(before: LogHeader, digest: bytes, header: LogHeader) -> Iterator[str]:
    if header.number != before.number + 1:
        yield f"it follows number {before.number}"
    if header.previous_digest != digest:
        yield "its digest of the log before is another"
    if header.start_offset != before.end_offset:
        yield f"it starts at {header.start_offset}, the log before ended at {before.end_offset}"
    if (header.checksum_before, header.pages_before) != (before.checksum_after, before.pages_after):
        yield "it goes on from another state"
    if header.kind is not LogKindCode.FRAMES:
        return
    same = (header.salt1, header.salt2) == (before.salt1, before.salt2)
    # A stand on a log that was just restarted has no frame, so it has no frame's sums: the header is not written yet.
    linked = header.sums_in == before.sums_out or before.frame_last == 0
    if same and (header.frame_first != before.frame_last + 1 or not linked):
        yield f"frames {before.frame_last + 1} to {header.frame_first - 1} are missing"
    if not same and header.frame_first != 1:
        yield f"frames 1 to {header.frame_first - 1} of a new generation are missing"


def replay_all(base: Path, logs: LogDir, history: str, after: int) -> None:
    """Apply every log of ``history`` after offset ``after`` to ``base``."""
    for _, path in logs.history(history).closed(after):
        apply_partially(base, path, durable=False)
