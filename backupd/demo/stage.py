"""The demo's stage: a folder with a shop, a pair and an archive, and the commands that are typed there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from backupd.demo import tell
from backupd.demo.commands import Commands, expect
from backupd.errors import NotHealthy

READY_SECONDS = 60.0


class Stage(Commands):
    """Where the demo plays; ``strike`` ends every process that it started."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, home / "etc" / "backupd.toml")
        self.active = home / "data" / "shop.db"
        self.passive = home / "passive" / "shop.db"
        self.archive = home / "archive"
        self._stats = home / "shop.json"
        self._shop: subprocess.Popen[bytes] | None = None
        self._service: subprocess.Popen[bytes] | None = None
        self.sales_before = 0
        self.longest_seconds = 0.0
        for directory in (self.active.parent, self.passive.parent, self.archive):
            directory.mkdir(parents=True, mode=0o700)

    # --- replication ---------------------------------------------------------

    def open_service(self) -> None:
        """Start ``backupd`` and wait until the passive is seeded and healthy."""
        tell.command("backupd --config ~demo/etc/backupd.toml &")
        with open(self.home / "backupd.log", "ab") as log:
            self._service = subprocess.Popen(
                [sys.executable, "-m", "backupd.service.main", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_healthy()

    def wait_healthy(self) -> None:
        """Until both copies are healthy. Raises NotHealthy after a minute."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            copies = self.status()["copies"]
            if all(copy["state"] == "healthy" for copy in copies):
                return
            time.sleep(0.2)
        raise NotHealthy(
            "the demo's pair does not become healthy",
            because="; ".join(f"{copy['name']} is {copy['state']}" for copy in self.status()["copies"]),
            next_step=f"look at {self.home / 'backupd.log'} (use --keep DIR)",
        )

    # --- the shop -----------------------------------------------------------

    def open_shop(self) -> None:
        """Let the application work; returns when it sells."""
        program = Path(__file__).with_name("shop.py")
        self._stats.unlink(missing_ok=True)
        self._shop = subprocess.Popen(
            [sys.executable, "-I", str(program), str(self.active), str(self._stats)], stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + READY_SECONDS
        while not self._stats.exists():
            expect(self._shop.poll() is None and time.monotonic() < deadline, "the shop does not open", "see above")
            time.sleep(0.05)

    def sales(self) -> int:
        """How many sales were committed since the demo began."""
        return self.sales_before + int(self._read_stats()["sales"])

    def _read_stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._stats.read_text())
        self.longest_seconds = max(self.longest_seconds, float(found["longest_seconds"]))
        return found

    def let_it_sell(self, count: int) -> None:
        """Wait until so many more sales are committed."""
        goal, deadline = self.sales() + count, time.monotonic() + READY_SECONDS
        while self.sales() < goal and time.monotonic() < deadline:
            time.sleep(0.05)

    def close_shop(self) -> None:
        """End the application, as its operator would."""
        if self._shop is not None:
            self._shop.send_signal(signal.SIGTERM)
            self._shop.wait()
            self._shop = None
            self.sales_before += int(self._read_stats()["sales"])
            self._stats.write_text('{"sales": 0, "longest_seconds": 0}')

    def sql(self, path: Path, statement: str) -> list[tuple[Any, ...]]:
        """Ask a database as any program would."""
        with contextlib.closing(sqlite3.connect(path, timeout=10.0, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    # --- proofs -------------------------------------------------------------

    def digest(self, path: Path) -> str:
        """SHA-256 of a file."""
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def strike(self) -> None:
        """End what runs."""
        for process in (self._shop, self._service):
            if process is not None and process.poll() is None:
                process.terminate()
        for process in (self._shop, self._service):
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)
                if process.poll() is None:
                    process.kill()
                    process.wait()
