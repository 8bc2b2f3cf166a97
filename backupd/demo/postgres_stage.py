"""The stage of PostgreSQL's story: a primary and its standby, a shop on them, an archive, and what is typed there."""

from __future__ import annotations

import pwd
import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backupd.demo.commands import Commands, expect
from backupd.demo.postgres_server import PgServer
from backupd.demo.postgres_servers import PgPair
from backupd.demo.postgres_shop import DATABASE, Shop

BLOCK_BYTES = 8192
STATE_SECONDS = 30.0
# What pg_wal shows is then what is held: a segment that is let go is removed, and not kept for later use.
_SETTINGS = {"wal_recycle": "off", "min_wal_size": "32MB"}


@dataclass(frozen=True, slots=True)
class FlippedByte:
    """One byte that the disk has changed below the server."""

    file: Path
    name: str
    block: int
    offset: int
    was: int

    def is_back(self) -> bool:
        """Whether the byte is again what it was."""
        with open(self.file, "rb") as file:
            file.seek(self.offset)
            return file.read(1) == bytes([self.was])


class PostgresStage(Commands):
    """Where the story plays; ``strike`` ends every process that it started."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, home / "etc" / "backupd.toml")
        self.archive = home / "archive"
        self.archive.mkdir(mode=0o700)
        self.pair = PgPair.start(home / "pair", settings=_SETTINGS)
        self.shop = Shop(self.pair.active, home / "pair" / "shop")

    def strike(self) -> None:
        """End what runs, at once; the files stay."""
        self.shop.kill()
        self.pair.strike()

    def point_at(self) -> None:
        """Type ``backupctl init`` for the pair as it stands."""
        copies: list[str] = []
        for server in self.pair.servers:
            copies += ["--copy", f"{server.name}={server.conninfo}", "--data-directory", f"{server.name}={server.data}"]
        programs = ("--bin-directory", str(self.pair.a.bin_directory))
        directory = str(self.config.parent)
        archive = f"file://{self.archive}"
        self.ctl("init", directory, "--database", "shop", "--engine", "postgres", *copies, *programs,
                 "--archive", archive)  # fmt: skip

    def shortened(self, text: str) -> str:
        """The text with the demo's folder as ``~demo``, and where PostgreSQL is as ``~pg``."""
        programs = str(self.pair.a.bin_directory)
        return super().shortened(text.replace(programs, "~pg/bin"))

    @property
    def version(self) -> str:
        """PostgreSQL's own number."""
        return self.pair.active.psql("SHOW server_version").split()[0]

    @property
    def owner(self) -> str:
        """The user of the operating system as whom the servers run."""
        uid = self.pair.a.person.uid
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    def now(self) -> datetime:
        """The active's clock."""
        return datetime.fromisoformat(self.pair.active.psql("SELECT to_json(clock_timestamp())#>>'{}'"))

    def wal_bytes(self) -> dict[str, int]:
        """How large ``pg_wal`` is on each copy."""
        found = {}
        for server in self.pair.servers:
            found[server.name] = int(server.psql("SELECT coalesce(sum(size), 0) FROM pg_ls_waldir()"))
        return found

    def wal_shrinks_below(self, before: dict[str, int], seconds_max: float = 20.0) -> dict[str, int]:
        """``pg_wal`` on both copies once it is smaller than before: the passive removes at its own restartpoint."""
        deadline = time.monotonic() + seconds_max
        while True:
            after = self.wal_bytes()
            if all(after[name] < before[name] for name in before) or time.monotonic() > deadline:
                return after
            time.sleep(0.2)

    def wait_state(self, copy: str, wanted: str) -> None:
        """Until ``backupctl status`` says so of a copy; a busy host may take its servers for silent for a moment.

        Raises:
            DemoFailed: it says something else for half a minute.
        """
        deadline = time.monotonic() + STATE_SECONDS
        while True:
            found = next(each for each in self.status()["copies"] if each["name"] == copy)
            if found["state"] == wanted:
                return
            expect(time.monotonic() < deadline, f"copy {copy} is not {wanted}", f"it is {found['state']}")
            time.sleep(0.5)

    def flip_a_byte(self, table: str) -> FlippedByte:
        """Change one byte in the middle of a table's file on the passive, below its server."""
        passive = self.pair.passive
        name = passive.psql(f"SELECT pg_relation_filepath('{table}')", DATABASE)
        file = passive.data / name
        block = file.stat().st_size // BLOCK_BYTES // 2
        offset = block * BLOCK_BYTES + BLOCK_BYTES // 2
        with open(file, "r+b", buffering=0) as opened:
            opened.seek(offset)
            was = opened.read(1)[0]
            opened.seek(offset)
            opened.write(bytes([was ^ 1]))
        return FlippedByte(file, name, block, offset, was)

    def check_sums_at_rest(self, server: PgServer) -> int:
        """Stop a server and let ``pg_checksums`` read all its pages; answers with their number."""
        server.stop()
        told = server.program("pg_checksums", "--check", "-D", server.data)
        bad = re.search(r"Bad checksums:\s+(\d+)", told)
        read = re.search(r"Blocks scanned:\s+(\d+)", told)
        expect(bool(bad and read and int(bad[1]) == 0), f"pg_checksums finds fault with {server.name}", told.strip())
        return int(read[1]) if read else 0
