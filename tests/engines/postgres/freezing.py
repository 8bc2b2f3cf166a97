"""What the tests of the freeze share: copies of a pair, what replay does there, and a run in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from backupd.demo.postgres_servers import PgPair, PgServer
from backupd.engines.postgres.cluster import PgCopy, PgOptions
from backupd.engines.postgres.freeze import begin_freeze
from backupd.engines.postgres.frozen import PgFreeze
from backupd.engines.postgres.pauses import marker_path, read_marker
from backupd.ports import Place

SOON_SECONDS = 5.0  # what the design promises: so long after a death replay runs again


def copy_of(server: PgServer) -> PgCopy:
    return PgCopy(server.name, server.conninfo, server.data)


def replay(server: PgServer) -> str:
    """What the server says: ``not paused``, ``pause requested``, ``paused``; ``promoted`` when it is no standby."""
    return server.psql("SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() ELSE 'promoted' END")


def until(fact: Callable[[], bool], seconds_max: float = SOON_SECONDS) -> bool:
    deadline = time.monotonic() + seconds_max
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def runs_soon(pair: PgPair, seconds_max: float = SOON_SECONDS) -> bool:
    """Whether replay of the passive runs within so long, and really goes on."""
    if not until(lambda: replay(pair.b) == "not paused", seconds_max):
        return False
    pair.wait_caught_up(10)
    return True


def marker_gone(state_dir: Path, seconds_max: float = SOON_SECONDS) -> bool:
    return until(lambda: not marker_path(state_dir).exists(), seconds_max)


def freeze(pair: PgPair, state_dir: Path, *, limit_seconds: float = 20.0, options: PgOptions | None = None) -> PgFreeze:
    """Freeze copy ``b``."""
    frozen = begin_freeze(
        copy_of(pair.a),
        copy_of(pair.b),
        options or PgOptions(server_seconds_max=20.0),
        state_dir=state_dir,
        label="backupd test",
        limit_seconds=limit_seconds,
        places=lambda: [Place(pair.b.data, ("base", "global"))],
    )
    assert isinstance(frozen, PgFreeze)
    return frozen


@contextlib.contextmanager
def load(server: PgServer, *words: str | int) -> Iterator[None]:
    """A pgbench that goes on while inside."""
    running = server.start_pgbench("-T", 600, *(words or ("-c", 2)))
    try:
        time.sleep(0.5)
        yield
    finally:
        running.terminate()
        running.wait(10)


DATA = ("base", "global", "pg_xact", "pg_multixact", "pg_commit_ts", "pg_tblspc")


def digests(data: Path) -> dict[str, str]:
    """SHA-256 of every data file that a backup takes (tablespaces too), by path below the data directory."""
    found = {}
    for directory, _, names in (each for top in DATA for each in os.walk(data / top, followlinks=True)):
        for name in names:
            path = Path(directory, name)
            # Rebuilt at any time by whoever connects, and left out of every backup.
            if name.startswith(("pg_internal.init", "pgsql_tmp")) or name == "pg_control":
                continue
            found[str(path.relative_to(data))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Run:
    """A run in a process of its own: it freezes, says so, and thaws when told; or dies as its environment says."""

    def __init__(
        self, pair: PgPair, state_dir: Path, *, limit_seconds: float = 20.0, forks: bool = False, **environment: str
    ) -> None:
        words = {"a": pair.a.conninfo, "b": pair.b.conninfo, "data": str(pair.b.data), "state_dir": str(state_dir),
                 "limit_seconds": limit_seconds, "forks": forks}  # fmt: skip
        root = str(Path(__file__).resolve().parents[3])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.postgres.freezing", json.dumps(words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": root, **environment},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in (self.process.pid, *self.guardians):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.process.kill()
        self.process.communicate()

    @property
    def guardians(self) -> list[int]:
        """The guardians that this run has started."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        with contextlib.suppress(OSError):
            children = [int(word) for each in tasks.iterdir() for word in (each / "children").read_text().split()]
            return [pid for pid in children if b"guardian" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return []

    def hears(self) -> dict[str, Any]:
        """The next thing that the run says; empty when it is dead."""
        line = self.process.stdout.readline() if self.process.stdout else ""
        said: dict[str, Any] = json.loads(line) if line else {}
        return said

    def thaw(self) -> dict[str, Any]:
        """Tell it to thaw, and hear how that went."""
        if self.process.stdin:
            self.process.stdin.write("thaw\n")
            self.process.stdin.flush()
        return self.hears()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)


def main(words: dict[str, Any]) -> None:
    """The run: freeze, say ``frozen``, wait for a word, thaw, say how it was."""
    frozen = begin_freeze(
        PgCopy("a", words["a"], Path()),
        PgCopy("b", words["b"], Path(words["data"])),
        PgOptions(server_seconds_max=20.0),
        state_dir=Path(words["state_dir"]),
        label="backupd test",
        limit_seconds=words["limit_seconds"],
        places=list,
    )
    if words["forks"] and os.fork() == 0:
        # A worker that was forked, and has all that its parent had open.
        for number in (0, 1):
            os.close(number)
        time.sleep(10)
        os._exit(0)
    _say({"frozen": str(frozen.position), "token": getattr(read_marker(Path(words["state_dir"])), "token", "")})
    sys.stdin.readline()
    end = frozen.thaw()
    _say({"held": end.held, "seconds": end.frozen_seconds, "because": frozen.because})


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
