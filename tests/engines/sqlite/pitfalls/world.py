"""A pair whose every step a test decides: applications, a capture and a passive that move only when told."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from backupd.engines.sqlite import wal
from backupd.engines.sqlite.inspect import Inspector
from backupd.engines.sqlite.log_source import SameHost
from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.logheader import LogKindCode
from backupd.engines.sqlite.replay import Replay
from backupd.errors import BackupdError
from backupd.model.pair import CopyState

HERE = Path(__file__).parent
ROOT = HERE.parents[3]


class OrderFailed(Exception):
    """What was ordered raised this error in the other process."""

    def __init__(self, kind: str, because: str) -> None:
        super().__init__(f"{kind}: {because}")
        self.kind, self.because = kind, because


class Driven:
    """A process that carries out one line at a time and answers each."""

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None) -> None:
        path = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **path, **(env or {})},
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def send(self, **order: Any) -> None:
        """Order something without waiting for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """The answer to the oldest order; raises what was raised there."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise OrderFailed("Died", f"status {self.process.wait()}")
        found = json.loads(line)
        if "failed" in found:
            raise OrderFailed(found["failed"], found["because"])
        return found["ok"]

    def order(self, **order: Any) -> Any:
        """Order something and wait for it."""
        self.send(**order)
        return self.answer()

    def kill(self) -> None:
        """SIGKILL: no handler, no last words."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Close its standard input and let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)


class App(Driven):
    """An unmodified application."""

    def __init__(self, path: Path, env: dict[str, str] | None = None) -> None:
        super().__init__([sys.executable, str(HERE / "app_process.py")], env)
        self.path = path

    def open(self, *pragmas: str, name: str = "main", timeout: float = 0.0) -> None:
        """Open a connection; it never waits for a lock unless told."""
        self.order(do="open", name=name, path=str(self.path), pragmas=pragmas, timeout=timeout)

    def execute(self, sql: str, *values: Any, name: str = "main") -> list[list[Any]]:
        """One statement; its rows."""
        return cast(list[list[Any]], self.order(do="execute", name=name, sql=sql, values=values))

    def write(self, text: str, rows: int = 1, name: str = "main") -> None:
        """One commit of rows that hold ``text``."""
        self.execute("BEGIN IMMEDIATE", name=name)
        self.insert(text, rows, name)
        self.execute("COMMIT", name=name)

    def insert(self, text: str, rows: int = 1, name: str = "main") -> None:
        """Rows inside the transaction at hand."""
        wide = [[text, "x" * 1500]] * rows
        self.order(do="many", name=name, sql="INSERT INTO t(word, wide) VALUES (?, ?)", rows=wide)

    def words(self) -> list[str]:
        """What the application sees."""
        return [row[0] for row in self.execute("SELECT DISTINCT word FROM t ORDER BY id")]

    def close(self, name: str = "main") -> None:
        """Close a connection, as SQLite does it: the last one checkpoints."""
        self.order(do="close", name=name)


class Agent(Driven):
    """The capture, moved step by step."""

    def __init__(self, config: Path, wrap: Sequence[str] = ()) -> None:
        super().__init__([*wrap, sys.executable, str(HERE / "agent_process.py"), str(config)])
        self.own_pid = int(self.answer())

    def run(self, code: str) -> None:
        """Run statements there."""
        self.order(run=code)

    def value(self, code: str) -> Any:
        """The value of an expression there."""
        return self.order(value=code)

    def begin(self, because: str = "") -> str:
        """Begin to capture; answers how it was judged."""
        self.run(f"begin_capture(capture, {because!r})")
        return str(self.value("Begins.how"))

    def tick(self) -> None:
        """One turn of the loop, with the names looked at."""
        self.run("capture._names_checked = 0.0; capture.tick()")

    def ship(self) -> None:
        """Cut what is committed."""
        self.run("capture.ship()")

    def seal(self) -> bool:
        """Try to seal once; True when that was full."""
        return bool(self.value("capture.seal(0.0)"))

    def salts(self) -> list[int]:
        """The salts of the log now."""
        return cast(list[int], self.value("[capture.hands.source.index().salt1, capture.hands.source.index().salt2]"))

    def max_frame(self) -> int:
        """The last committed frame."""
        return int(self.value("capture.hands.source.index().max_frame"))

    def cut_frame(self) -> int:
        """The last frame that was cut."""
        return int(self.value("capture.hands.cutter.cursor.frame"))

    def stop_at(self, number: int, prefix: str) -> None:
        """Stand still (SIGSTOP) right before the n-th of these steps from now on."""
        self.run(f"steps.arm('stop', {number}, {prefix!r})")

    def wait_stopped(self) -> None:
        """Wait until it stands still."""
        found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None
        assert found.si_code == os.CLD_STOPPED

    def go_on(self) -> None:
        """Let it go on."""
        self.process.send_signal(18)


class Passive:
    """The real inspector and the real replay, moved by hand."""

    def __init__(self, directory: Path, active_logs: Path) -> None:
        directory.mkdir()
        self.path = directory / "app.db"
        self.seed_path = directory / "app.db.backupd-seed"
        self.kept_seed = directory / "kept-seed"
        self.source = SameHost(active_logs)
        self.active_logs = LogDir(active_logs)
        self.replay = Replay(self.path, directory)
        self.inspector = Inspector(self.replay.logs, None)

    def follow(self) -> None:
        """Adopt a seed if there is one, then take and replay every log that goes on from it."""
        if self.seed_path.exists():
            shutil.copy(self.seed_path, self.kept_seed)
            history, number = self.newest_seed()
            self.inspector.receive(history, number, self.source.fetch, seed=True)
            self.replay.adopt_seed(self.seed_path, self.replay.logs.history(history).path_of(number))
        while self.take_next():
            pass
        assert self.replay.marker.state is CopyState.HEALTHY, self.replay.marker.because

    def follow_anyway(self) -> None:
        """The same, for logs that lead elsewhere: what their checksum says is not asked."""
        with contextlib.suppress(AssertionError, BackupdError):
            self.follow()

    def take_next(self) -> bool:
        """Receive, inspect and replay the next log."""
        end = self.inspector.end
        assert end is not None, "it was never seeded"
        history, number = end.history, end.number + 1
        if not self.source.holds(history, number):
            following = self.source.successor(end.history, end.offset)
            if following is None:
                return False
            history, number = following, 1
        self.inspector.receive(history, number, self.source.fetch)
        self.replay.apply(self.replay.logs.history(history).path_of(number))
        return True

    def newest_seed(self) -> tuple[str, int]:
        """The SEED log that was closed last."""
        seeds = [
            (path.stat().st_mtime_ns, one, number)
            for one in self.active_logs.histories()
            for number in self.active_logs.history(one).numbers()
            if self.active_logs.history(one).header(number).kind is LogKindCode.SEED
            for path in [self.active_logs.history(one).path_of(number)]
        ]
        return max(seeds)[1:]


class World:
    """One database with its pair."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "a" / "app.db"
        self.path.parent.mkdir()
        self.wal = self.path.with_name("app.db-wal")
        self.shm = self.path.with_name("app.db-shm")
        self.state = directory / "state"
        self.state.mkdir()
        self.logs = LogDir(self.state / "log")
        self.passive = Passive(directory / "b", self.logs.root)
        self.config = directory / "capture.config.json"
        self.driven: list[Driven] = []
        options = {
            "log_file_seconds_max": 0.0,  # each tick cuts what is there
            "seal_seconds": 1e12,
            "seal_wal_bytes": 1 << 50,  # seals when told only
            "exposed_after_seconds": 1e9,
            "drain_seconds": 0.0,
        }
        self.config.write_text(
            json.dumps(
                {
                    "database": "orders",
                    "db_path": str(self.path),
                    "directory": str(self.state),
                    "pair_path": str(directory / "pair.json"),
                    "seed_path": str(self.passive.seed_path),
                    "replay_socket": str(directory / "nobody.sock"),
                    "options": options,
                }
            )
        )

    def app(self, env: dict[str, str] | None = None) -> App:
        """Start an application."""
        made = App(self.path, env)
        self.driven.append(made)
        return made

    def writing_app(self, *pragmas: str) -> App:
        """An application with a connection, a table and one committed row."""
        made = self.app()
        made.open("journal_mode=WAL", "wal_autocheckpoint=0", *pragmas)
        made.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, word TEXT, wide TEXT)")
        made.write("first")
        return made

    def agent(self, wrap: Sequence[str] = ()) -> Agent:
        """Start a capture that has not begun."""
        made = Agent(self.config, wrap)
        self.driven.append(made)
        return made

    def kinds(self) -> list[str]:
        """The kind of each log, history after history in the order in which they follow."""
        found = []
        for history in sorted(
            self.logs.histories(), key=lambda one: self.logs.history(one).path_of(1).stat().st_mtime_ns
        ):
            logs = self.logs.history(history)
            found += [logs.header(number).kind.name for number in logs.numbers()]
        return found

    def content(self, app: App) -> bytes:
        """The database as the application sees it now."""
        to = self.directory / "content"
        app.order(do="bytes", to=str(to))
        return to.read_bytes()

    def assert_equal(self, app: App) -> None:
        """The passive takes all there is, and then holds the very bytes that the application sees."""
        self.passive.follow()
        assert self.passive.path.read_bytes() == self.content(app)

    def assert_restorable(self, app: App) -> None:
        """The first seed and all logs since, replayed once more from nothing, give the same bytes."""
        again = Passive(self.directory / f"again-{len(list(self.directory.iterdir()))}", self.logs.root)
        shutil.copy(self.passive.kept_seed, again.seed_path)
        again.follow()
        assert again.path.read_bytes() == self.content(app)

    def file_frames(self, page_bytes: int = 4096) -> int:
        """How many whole frames the -wal file has room for, committed or not."""
        return (self.wal.stat().st_size - wal.WAL_HEADER_BYTES) // wal.frame_bytes(page_bytes)

    def close(self) -> None:
        """End all processes, captures last."""
        for one in self.driven:
            one.kill()
