"""One service over two pairs, an archive in a bucket, a webhook for alarms; and what can go wrong with each."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.s3_proxy import Request, S3Proxy, nothing, proxied
from tests.s3_memory import MemoryS3
from tests.service.peers import WebPeer, web_peer
from tests.stories.home import eventually, sums_of
from tests.stories.pg_home import ROOT, PgHome, pg_home

SCHEDULE = 'full = "*/5 * * * *"\nincremental = "* * * * *"'
BUCKET = "evening"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test12345", "AWS_DEFAULT_REGION": "us-east-1"}
# A program that knows nothing of backupd: it commits, and that is all.
WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
while True:
    connection.execute("INSERT INTO ledger(amount, body) VALUES (abs(random()) % 1000, randomblob(500))")
    time.sleep(0.3)
"""
PG_WRITER = "INSERT INTO ledger(amount, body) VALUES ((random() * 1000)::int, repeat(md5(random()::text), 10));\n"


class Wire:
    """A TCP proxy on loopback; ``cut`` ends what goes over it and lets nothing through until ``mend``."""

    def __init__(self, port: int) -> None:
        self._to, self._open, self._is_cut = port, set[socket.socket](), False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.carried_bytes = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self) -> None:
        self._is_cut = True
        for one in [*self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                if self._is_cut:
                    ours.close()
                    continue
                theirs = socket.create_connection(("127.0.0.1", self._to))
                for one, other in ((ours, theirs), (theirs, ours)):
                    self._open.add(one)
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := one.recv(1 << 16):
                self.carried_bytes += len(piece)
                other.sendall(piece)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.discard(one)
        one.close()


@dataclass
class Evening:
    """Everything of one evening; ``orders`` is on PostgreSQL, ``carts`` is on SQLite."""

    home: PgHome
    s3: S3Proxy
    hook: WebPeer
    service: subprocess.Popen[bytes] | None = None
    writers: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.active = self.home.root / "carts" / "app.db"
        self.carts_policy = self.home.policy.with_name("carts.toml")
        self.log_file = self.home.root / "service.log"
        self.log_file.touch()

    # --- setting up ---

    def prepare(self) -> None:
        """Databases, config and policies; nothing runs yet."""
        for directory in (self.active.parent, self.home.root / "carts-b"):
            directory.mkdir()
        with contextlib.closing(sqlite3.connect(self.active, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE ledger(id INTEGER PRIMARY KEY, amount INTEGER, body BLOB)")
        self.home.pair.active.psql("CREATE TABLE ledger(id serial PRIMARY KEY, amount int, body text)")
        self.s3.memory.buckets.setdefault(BUCKET, {})  # type: ignore[union-attr]
        self._write_policies()
        self.home.config.write_text(
            '[service]\nlisten = ""\nlook_seconds = "5s"\n'
            '[alarms]\ntargets = ["env:EVENING_HOOK"]\nafter_seconds = "15s"\n'
        )

    def _write_policies(self) -> None:
        place = f"s3://{BUCKET}/house"
        s3 = f'endpoint_url = "{self.s3.url}"\npath_style = true\ndeadline_seconds = "15s"\n'
        self.home.write_policy(schedule=SCHEDULE, s3=s3, encryption='mode = "none"')
        text = self.home.policy.read_text()
        self.home.policy.write_text(re.sub(r'archive = "file:.*"', f'archive = "{place}/orders"', text))
        made = self.home.root / "made"
        copies = ["--copy", f"a={self.active}", "--copy", f"b={self.home.root / 'carts-b' / 'app.db'}", "--active", "a"]
        self.home.ok(
            "init", str(made), "--database", "carts", *copies, "--archive", f"{place}/carts", "--encryption", "none"
        )
        text = (made / "policies" / "carts.toml").read_text()
        text = re.sub(r"(?m)^(full|incremental|differential|prune|verify) =.*\n", "", text)
        text = re.sub(r"(?m)^\[schedule\].*$", f"[schedule]\n{SCHEDULE}", text)
        self.carts_policy.write_text(text + (f"\n[s3]\n{s3}" if "[s3]" not in text else ""))
        shutil.rmtree(made)

    def write(self) -> None:
        """Both ledgers are written to from now on."""
        script = self.home.root / "ledger.sql"
        script.write_text(PG_WRITER)
        script.chmod(0o644)
        words = ("-f", str(script), "-c", 1, "-R", 4, "-T", 7200)
        self.writers.append(self.home.pair.active.start_pgbench(*words))
        sqlite = next((one for one in self.writers if one.args[0] == sys.executable), None)  # type: ignore[index]
        if sqlite is None:
            self.writers.append(subprocess.Popen([sys.executable, "-c", WRITER, str(self.active)], text=True))

    def quiet(self) -> None:
        """Nobody writes any more."""
        for writer in self.writers:
            writer.terminate()
            writer.wait()
        self.writers.clear()

    # --- the service ---

    def start_service(self) -> None:
        """One ``backupd``."""
        hook = f"json://127.0.0.1:{self.hook.port}/alarms"
        words = [sys.executable, "-m", "backupd.service.main", "--config", str(self.home.config)]
        with self.log_file.open("ab") as log:
            environment = self.home.environment(EVENING_HOOK=hook, **KEYS)
            self.service = subprocess.Popen(words, env=environment, stderr=log, cwd=ROOT)

    def stop_service(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, kindly or not; answers with its exit status."""
        assert self.service is not None
        self.service.send_signal(how)
        status = self.service.wait(120)
        self.service = None
        return status

    def log(self) -> str:
        """All that it has said, over its restarts."""
        return self.log_file.read_text()

    def wait_log(self, words: str, more_than: int, seconds: float = 150.0) -> None:
        """Until the log has ``words`` once more."""
        eventually(words, lambda: self.log().count(words) > more_than, seconds)

    # --- what goes wrong ---

    @contextlib.contextmanager
    def s3_away(self) -> Iterator[None]:
        """No request is answered: each connection is dropped."""
        self.s3.choose = _dropped
        try:
            yield
        finally:
            self.s3.choose = nothing

    @contextlib.contextmanager
    def wire(self) -> Iterator[Wire]:
        """The standby streams over a wire that can be cut."""
        wire = Wire(self.home.pair.active.port)
        passive = self.home.pair.passive
        told = f"host=127.0.0.1 port={wire.port} user=postgres application_name={passive.name}"
        try:
            passive.psql(f"ALTER SYSTEM SET primary_conninfo = '{told}'")
            passive.psql("SELECT pg_reload_conf()")
            eventually("the standby to stream over the wire", lambda: wire.carried_bytes > 0, 60)
            self.home.pair.wait_streaming()
            yield wire
        finally:
            passive.psql("ALTER SYSTEM RESET primary_conninfo")
            passive.psql("SELECT pg_reload_conf()")
            wire.close()
            self.home.pair.wait_streaming()

    # --- what it came to ---

    def ledger(self, database: str) -> tuple[int, int]:
        """Rows and sum on the active."""
        if database == "orders":
            return _pg_sums(self.home.pair.active.psql("SELECT count(*), sum(amount) FROM ledger"))
        with contextlib.closing(sqlite3.connect(self.active)) as connection:
            rows, total = connection.execute("SELECT count(*), sum(amount) FROM ledger").fetchone()
            return int(rows), int(total)

    def restored(self, database: str) -> tuple[int, int]:
        """The same of the latest that the archive has, restored to a directory."""
        target = self.home.root / f"restored-{database}" / "data"
        self.home.pair.a.person.own(target.parent)
        self.ctl("restore", database, "--target", str(target), "--yes")
        if database == "carts":
            return sums_of(target / "app.db")
        self.home.check_restored(target)
        with self.home.opened(target) as server:
            return _pg_sums(server.psql("SELECT count(*), sum(amount) FROM ledger"))

    def full_by_hand(self, database: str) -> bool:
        """Whether the first full could be taken; the copies may not be healthy yet, or a run may go on."""
        answer = self.home.run("backup", database, "--type", "full", seconds_max=300, **KEYS)
        return answer.status == 0

    def ctl(self, *words: str) -> str:
        """A ``backupctl`` that must do its work; answers with what it says."""
        return self.home.ok(*words, **KEYS).out

    def journal(self) -> list[sqlite3.Row]:
        """Every backup run that this node has ever begun, oldest first."""
        path = self.home.root / "state" / "journal.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute("SELECT * FROM runs WHERE kind = 'backup' ORDER BY started_at").fetchall()


@contextlib.contextmanager
def evening() -> Iterator[Evening]:
    """A house that goes away, with all of its processes."""
    with proxied(MemoryS3()) as s3, web_peer() as hook, pg_home(16) as home:
        made = Evening(home, s3, hook)
        try:
            made.prepare()
            yield made
        finally:
            s3.choose = nothing
            made.quiet()
            if made.service is not None:
                made.stop_service()
            if keep := os.environ.get("BACKUPD_EVENING_KEEP"):
                shutil.copytree(
                    home.root / "state", keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock", "copies")
                )
                shutil.copy(made.log_file, keep)


def _dropped(_: Request) -> str:
    return "dropped"


def _pg_sums(told: str) -> tuple[int, int]:
    rows, total = told.split("|")
    return int(rows), int(total)
