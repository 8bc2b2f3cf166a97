"""A whole installation around a real PostgreSQL pair: servers, config, policy, archive, and ``backupctl``."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from backupd.demo.postgres_server import PgServer
from backupd.demo.postgres_servers import PgPair
from backupd.errors import NotHealthy
from tests.pg_pairs import bin_directory
from tests.stories.home import Answer

ROOT = Path(__file__).parents[2]


@dataclass
class PgHome:
    """One database ``orders`` on a pair; everything of backupd's is below ``root``."""

    root: Path
    pair: PgPair

    def __post_init__(self) -> None:
        self.config = self.root / "backupd.toml"
        self.policy = self.root / "policies" / "orders.toml"
        self.state = self.root / "state" / "orders"
        self.archive = self.root / "archive"
        for each in (self.policy.parent, self.archive):
            each.mkdir(parents=True, exist_ok=True)
        self.config.write_text("[service]\n", encoding="utf-8")
        self.write_policy()

    def write_policy(self, *, more: str = "", **tables: str) -> None:
        """The policy as it stands; ``tables`` are whole lines of TOML by the name of their table."""
        copies = "".join(
            f'[copies.{each.name}]\nconninfo = "{each.conninfo}"\ndata_directory = "{each.data}"\n'
            for each in self.pair.servers
        )
        lines = {"retention": "keep_days = 7", "postgres": f'bin_directory = "{self.pair.a.bin_directory}"'} | tables
        told = "".join(f"[{name}]\n{text}\n" for name, text in lines.items())
        head = f'database = "orders"\nengine = "postgres"\narchive = "file://{self.archive}"\n'
        self.policy.write_text(f"{head}{copies}{told}{more}", encoding="utf-8")

    # --- commands -------------------------------------------------------------

    def command(self, *words: str) -> list[str]:
        """The argument list of one ``backupctl``."""
        return [sys.executable, "-m", "backupd.cli.main", "--config", str(self.config), *words]

    def environment(self, **more: str) -> dict[str, str]:
        """Of a command: nothing of the outside may steer it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BACKUPD_", "PG"))}
        return {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "140", **more}

    def run(self, *words: str, seconds_max: float = 300, **environment: str) -> Answer:
        """``backupctl`` to its end; a traceback is never an answer."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=seconds_max,
            cwd=self.root,
            check=False,
        )
        answer = Answer(words, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, answer.told()
        return answer

    def ok(self, *words: str, **how: Any) -> Answer:
        """A command that must end well."""
        answer = self.run(*words, **how)
        assert answer.status == 0, answer.told()
        return answer

    def refused(self, status: int, *words: str, **how: Any) -> Answer:
        """A command that must end with this status and three lines."""
        answer = self.run(*words, **how)
        assert answer.status == status, answer.told()
        lines = [line.partition(":")[0] for line in answer.err.strip().splitlines()[-3:]]
        assert lines == ["error", "because", "next"], answer.told()
        return answer

    def backup(self, kind: str, **how: Any) -> dict[str, Any]:
        """Take a backup; answers with its JSON."""
        found: dict[str, Any] = self.ok("backup", "orders", "--type", kind, "--json", **how).json
        return found

    def status(self) -> dict[str, Any]:
        """The database's status as JSON."""
        found: dict[str, Any] = self.ok("status", "orders", "--json").json["databases"][0]
        return found

    # --- the database -----------------------------------------------------------

    def now(self) -> datetime:
        """The active's clock."""
        return datetime.fromisoformat(self.pair.active.psql("SELECT to_json(clock_timestamp())#>>'{}'"))

    def rows(self) -> int:
        """Rows of pgbench's history on the active."""
        return int(self.pair.active.psql("SELECT count(*) FROM pgbench_history"))

    @contextlib.contextmanager
    def load(self, *words: str | int) -> Iterator[subprocess.Popen[str]]:
        """pgbench on the active for as long as the block lasts."""
        process = self.pair.active.start_pgbench(*(words or ("-c", 2, "-T", 3600)))
        try:
            yield process
        finally:
            process.terminate()
            process.wait()

    # --- a restored cluster -------------------------------------------------------

    @contextlib.contextmanager
    def opened(self, directory: Path) -> Iterator[PgServer]:
        """Start what was restored to a directory, on a port of its own."""
        like = self.pair.a
        server = PgServer("restored", directory.parent, like.bin_directory, like.sockets, like.person)
        assert server.data == directory, "restore to a directory called data"
        # What was restored to a directory answers nobody; the tests' programs are let in as they are at the active.
        settings = {"port": server.port, "listen_addresses": "127.0.0.1", "hba_file": like.data / "pg_hba.conf"}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        log = directory / "start.log"
        try:
            server.program("pg_ctl", "-D", directory, "-w", "-l", log, "-o", options, "start")
        except NotHealthy:
            raise AssertionError(log.read_text(encoding="utf-8")[-3000:]) from None
        try:
            yield server
        finally:
            server.program("pg_ctl", "-D", directory, "-w", "-m", "fast", "stop")

    def check_opened(self, server: PgServer) -> None:
        """Every row and index entry of a restored cluster: by pg_amcheck, or where it is not by reading all twice."""
        words = ("-h", "127.0.0.1", "-p", server.port, "-U", "postgres")
        if server.psql("SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'") == "1":
            server.program("pg_amcheck", *words, "--install-missing", "--heapallindexed", "--all")
            return
        server.program("pg_dumpall", *words, "--no-sync", "-f", server.data.parent / "everything.sql")
        for table, key in (("pgbench_accounts", "aid"), ("pgbench_tellers", "tid"), ("pgbench_branches", "bid")):
            by_heap = f"SET enable_indexscan = off; SET enable_indexonlyscan = off; SELECT count({key}) FROM {table}"
            by_index = f"SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count({key}) FROM {table}"
            assert server.psql(by_heap) == server.psql(by_index), table

    def check_restored(self, directory: Path) -> None:
        """The strongest checks that the binaries allow, on a cluster that is stopped."""
        sums = self.pair.a.program("pg_checksums", "--check", "-D", directory)
        assert "Bad checksums:  0" in sums, sums


@contextlib.contextmanager
def pg_home(major: int | None = None, *, home: Path | None = None, scale: int = 2, **how: Any) -> Iterator[PgHome]:
    """A pair with pgbench's tables, and everything around it, in a short directory that goes away.

    Args:
        major: which PostgreSQL.
        home: where the standby's home is instead, on another mount.
        scale: of pgbench's tables.
        how: words of ``PgPair.start``.
    """
    programs = bin_directory(major)
    root = Path(tempfile.mkdtemp(prefix="pgh-", dir="/tmp"))
    root.chmod(0o755)
    try:
        with PgPair.start(root / "pair", programs, standby_home=home, **{"fsync": False, **how}) as pair:
            made = PgHome(root, pair)
            pair.active.pgbench("-i", "-q", "-s", scale)
            pair.wait_caught_up()
            yield made
    finally:
        shutil.rmtree(root, ignore_errors=True)
