"""One real PostgreSQL server for the demo and for tests: made, started, loaded, and broken in every way.

Each server has a home: ``home/data`` is its data directory, ``home/node.conf`` what belongs to this
node and not to the database (port, socket, whom to stream from).  ``postgresql.conf`` includes
``../node.conf``, so a data directory that was restored or seeded from the other node still has its own.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backupd.demo.postgres_binaries import Person, empty_directory
from backupd.errors import NotHealthy
from backupd.process import started_ticks, stat_fields

READY_SECONDS = 60.0
_FAST: dict[str, str] = {
    "listen_addresses": "127.0.0.1",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "hot_standby": "on",
    "shared_buffers": "32MB",
    "max_connections": "50",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
    "log_line_prefix": "%m [%p] ",
}


def free_port() -> int:
    """A port of the loopback that nobody has, outside the range that clients get."""
    dice = random.SystemRandom()
    while True:
        port = dice.randint(15000, 32000)
        with socket.socket() as line, contextlib.suppress(OSError):
            line.bind(("127.0.0.1", port))
            return port


@dataclass(slots=True)
class PgServer:
    """One server: its programs, its home, its port. The OS user of the process is not root."""

    name: str
    home: Path
    bin_directory: Path
    sockets: Path
    person: Person
    port: int = field(default_factory=free_port)
    follows: PgServer | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "data"

    @property
    def tablespaces(self) -> Path:
        """Where this server's tablespaces are, each in a directory of its name."""
        return self.home / "tablespaces"

    @property
    def conninfo(self) -> str:
        """How to reach it over TCP as the superuser, without a password."""
        return f"host=127.0.0.1 port={self.port} user=postgres"

    @property
    def slot(self) -> str:
        """The physical slot on the other server that this one streams from when it is the standby."""
        return f"node_{self.name}"

    # --- making -------------------------------------------------------------

    def initialize(self, *, checksums: bool, settings: Mapping[str, str], initdb: tuple[str, ...] = ()) -> None:
        """Make an empty cluster here."""
        self.person.own(self.home)
        sums = ["--data-checksums"] if checksums else []
        if not checksums and self.major >= 18:
            sums = ["--no-data-checksums"]
        self.program("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N",
                     *sums, *initdb)  # fmt: skip
        lines = [f"{name} = {_quoted(value)}" for name, value in {**_FAST, **settings}.items()]
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write("\n".join(["", *lines, "include_if_exists = '../node.conf'", ""]))

    def seed_from(self, other: PgServer) -> None:
        """Make this the standby of ``other``, which runs: pg_basebackup, its slot, and all that streaming needs."""
        self.person.own(self.home)
        self.follows = other
        other.psql(
            f"SELECT pg_create_physical_replication_slot('{self.slot}') "
            f"WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{self.slot}')"
        )
        for old in (self.data, self.tablespaces):
            empty_directory(old)
        self.person.own(self.tablespaces)
        # Both servers are on one host: each has its own place for a tablespace.
        told = other.psql("SELECT spcname, pg_tablespace_location(oid) FROM pg_tablespace WHERE oid >= 16384")
        places = [line.split("|") for line in told.splitlines()]
        mapped = [f"--tablespace-mapping={place}={self.tablespaces / name}" for name, place in places if place]
        self.program("pg_basebackup", "-h", "127.0.0.1", "-p", other.port, "-U", "postgres", "-D", self.data,
                     "-c", "fast", "-X", "stream", "-N", *mapped)  # fmt: skip
        self.person.write(self.data / "standby.signal", "")

    def write_node(self) -> None:
        """Write what belongs to this node: port, socket, and whom it streams from when it is a standby."""
        lines = [f"port = {self.port}", f"unix_socket_directories = {_quoted(str(self.sockets))}"]
        if self.follows is not None:
            primary = f"host=127.0.0.1 port={self.follows.port} user=postgres application_name={self.name}"
            lines += [f"primary_conninfo = {_quoted(primary)}", f"primary_slot_name = {_quoted(self.slot)}"]
        self.person.write(self.home / "node.conf", "\n".join([*lines, ""]))

    # --- running ------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until it answers; where its port was taken meanwhile, it gets another."""
        for attempt in range(5):
            self.write_node()
            try:
                self.program("pg_ctl", "start", "-w", "-s", "-t", int(READY_SECONDS), "-D", self.data,
                             "-l", self.home / "server.log")  # fmt: skip
                return
            except NotHealthy as error:
                if attempt == 4 or "Address already in use" not in self.log_tail():
                    raise NotHealthy(
                        f"server {self.name} does not start",
                        because=" ".join(self.log_tail(600).split()) or error.because,
                        next_step=f"look at {self.home / 'server.log'}",
                    ) from error
                self.port = free_port()

    def stop(self, mode: str = "fast") -> None:
        """Stop it if it runs: ``smart``, ``fast`` or ``immediate``."""
        if self.pid is not None:
            self.program("pg_ctl", "stop", "-w", "-s", "-t", int(READY_SECONDS), "-m", mode, "-D", self.data)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def reload(self) -> None:
        """Let it read its configuration again."""
        self.program("pg_ctl", "reload", "-s", "-D", self.data)

    def kill(self) -> None:
        """SIGKILL to the postmaster and all its children, as a power cut would."""
        pid = self.pid
        if pid is None:
            return
        processes = [pid, *_children(pid)]
        for each in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        until(
            lambda: all(started_ticks(each) is None for each in processes), f"the processes of {self.name} do not die"
        )
        # A process that nobody reaped yet still has its number, and PostgreSQL would believe its lock files.
        for lock in (self.data / "postmaster.pid", *self.sockets.glob(f".s.PGSQL.{self.port}*")):
            lock.unlink(missing_ok=True)

    def end(self, seconds_max: float = 5.0) -> None:
        """End it at once, its shared memory too (which a killed server leaves to the machine); killed when it stays."""
        pid = self.pid
        if pid is not None:
            self.freeze_process(frozen=False)
            with contextlib.suppress(ProcessLookupError, NotHealthy):
                os.kill(pid, signal.SIGQUIT)
                until(lambda: started_ticks(pid) is None, f"{self.name} does not end", seconds_max)
        self.kill()

    def freeze_process(self, *, frozen: bool) -> None:
        """SIGSTOP or SIGCONT to every process of the server: it is there and does not answer."""
        pid = self.pid
        for each in [pid, *_children(pid)] if pid else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP if frozen else signal.SIGCONT)

    def promote(self) -> None:
        """Make the standby a primary."""
        self.program("pg_ctl", "promote", "-w", "-s", "-t", int(READY_SECONDS), "-D", self.data)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None when it does not run."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int((self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
            return pid if started_ticks(pid) is not None else None
        return None

    @property
    def in_recovery(self) -> bool:
        """Whether its files say that it is, or would start as, a standby."""
        return (self.data / "standby.signal").exists()

    @property
    def major(self) -> int:
        """The major version of its programs."""
        told = self.person.run([self.bin_directory / "postgres", "--version"])
        return int(told.split()[-1].partition(".")[0])

    def log_tail(self, characters: int = 4000) -> str:
        """The end of the server's own log."""
        with contextlib.suppress(OSError):
            return (self.home / "server.log").read_text(encoding="utf-8", errors="replace")[-characters:]
        return ""

    # --- using --------------------------------------------------------------

    def program(self, name: str, *words: str | int | Path, seconds_max: float = 120.0) -> str:
        """Run one of PostgreSQL's programs as the server's user; answers with what it printed."""
        return self.person.run([self.bin_directory / name, *map(str, words)], seconds_max=seconds_max)

    def psql(self, sql: str, dbname: str = "postgres") -> str:
        """Run SQL; columns are joined by ``|``, rows by newlines. Raises NotHealthy with what psql said."""
        words = ("-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", self.port)
        return self.program("psql", *words, "-U", "postgres", "-d", dbname, "-c", sql).strip()

    def pgbench(self, *words: str | int) -> str:
        """Run pgbench to its end: ``"-i", "-s", 10`` or ``"-c", 2, "-T", 5``."""
        return self.program("pgbench", *self._pgbench_address(), *words, "postgres", seconds_max=3600)

    def start_pgbench(self, *words: str | int) -> subprocess.Popen[str]:
        """Start a load that goes on by itself (``"-c", 2, "-T", 3600, "-R", 300``); whoever started it ends it."""
        return self.person.start([self.bin_directory / "pgbench", *map(str, (*self._pgbench_address(), *words)),
                                  "postgres"])  # fmt: skip

    def _pgbench_address(self) -> tuple[str | int, ...]:
        return ("-n", "-h", "127.0.0.1", "-p", self.port, "-U", "postgres")

    def pgbench_sums(self) -> tuple[int, int, int, int]:
        """Sums of accounts, tellers, branches and history: all equal in every consistent state."""
        told = self.psql(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), "
            "(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"
        )
        accounts, tellers, branches, history = map(int, told.split("|"))
        return accounts, tellers, branches, history

    def set(self, **settings: str) -> None:
        """ALTER SYSTEM and reload; what needs a restart still does."""
        for name, value in settings.items():
            self.psql(f"ALTER SYSTEM SET {name} = {_quoted(value)}")
        self.psql("SELECT pg_reload_conf()")

    def add_password_user(self, name: str, password: str, *, options: str = "LOGIN") -> str:
        """Make a role that must give its password on the loopback; answers with its conninfo."""
        self.psql(f"CREATE ROLE {name} {options} PASSWORD {_quoted(password)}")
        self.ask_password_of(name)
        return f"host=127.0.0.1 port={self.port} user={name} password={password}"

    def ask_password_of(self, name: str, method: str = "scram-sha-256") -> None:
        """Put a line for this role before all others of pg_hba.conf (``reject`` lets it not in), and reload."""
        file = self.data / "pg_hba.conf"
        lines = "".join(f"host {each} {name} 127.0.0.1/32 {method}\n" for each in ("all", "replication"))
        file.write_text(lines + file.read_text(encoding="utf-8"), encoding="utf-8")
        self.reload()

    def add_tablespace(self, name: str, directory: Path | None = None) -> None:
        """Make a tablespace; its standby must be down, or it would use the very same directory (``PgPair`` does so)."""
        self.person.own(self.tablespaces)
        directory = directory or self.tablespaces / name
        self.person.own(directory)
        self.psql(f"CREATE TABLESPACE {name} LOCATION {_quoted(str(directory))}")


def until(fact: Callable[[], bool], problem: str, seconds_max: float = READY_SECONDS) -> None:
    """Wait until ``fact`` is so. Raises NotHealthy with ``problem`` when it is not in time."""
    deadline = time.monotonic() + seconds_max
    while not fact():
        if time.monotonic() > deadline:
            raise NotHealthy(problem, because=f"not after {seconds_max:g} s", next_step="look at the servers' logs")
        time.sleep(0.02)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _state_and_parent(pid: int) -> tuple[str, int]:
    with contextlib.suppress(OSError, ValueError, IndexError):
        state, parent, *_ = stat_fields(pid)
        return state, int(parent)
    return "", 0


def _children(pid: int) -> list[int]:
    everybody = map(int, filter(str.isdigit, os.listdir("/proc")))
    return [each for each in everybody if _state_and_parent(each)[1] == pid]
