"""Where things lie: the state directory of one SQLite database, and the durable writing of its small files."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.errors import NotHealthy
from backupd.steps import step


@dataclass(frozen=True, slots=True)
class CopyLayout:
    """The files that backupd keeps about one copy; ``path`` is the database file itself."""

    name: str
    path: Path
    directory: Path

    @property
    def logs(self) -> Path:
        """Closed log files, one directory a history."""
        return self.directory / "log"

    @property
    def capture_state(self) -> Path:
        """What the capture process last knew (not needed for correctness)."""
        return self.directory / "capture.json"

    @property
    def map(self) -> Path:
        """The page map of what the capture process has shipped."""
        return self.directory / "shipped.map"

    @property
    def capture_socket(self) -> Path:
        """Control socket of the capture process."""
        return self.directory / "capture.sock"

    @property
    def replay_socket(self) -> Path:
        """Control socket of the replay process."""
        return self.directory / "replay.sock"

    @property
    def marker(self) -> Path:
        """The durable replay marker."""
        return self.directory / "replay.json"

    @property
    def seed(self) -> Path:
        """Where a seed of this copy is built: beside the file, so that a rename puts it in place."""
        return self.path.with_name(self.path.name + ".backupd-seed")


@dataclass(frozen=True, slots=True)
class PairLayout:
    """The state directory of one database."""

    directory: Path

    @property
    def pair(self) -> Path:
        """Who is active, and what a restore has asked of the next start."""
        return self.directory / "pair.json"

    @property
    def replication_lock(self) -> Path:
        """Held by whoever runs the capture and replay processes."""
        return self.directory / "replication.lock"

    def copy(self, name: str, path: Path) -> CopyLayout:
        """The layout of the copy called ``name``."""
        return CopyLayout(name, path, self.directory / "copies" / name)


def write_json(path: Path, value: dict[str, Any], *, durable: bool = True, step_name: str = "state.write") -> None:
    """Replace a small JSON file at once: tmp, fsync, rename, fsync of the directory.

    Raises:
        NotHealthy: the disk refuses (full, read-only).
    """
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    step(step_name)
    try:
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps(value, indent=1, sort_keys=True).encode())
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(tmp, path)
        if durable:
            sync_directory(path.parent)
    except OSError as error:
        raise NotHealthy(
            f"cannot write {path}",
            because=error.strerror or str(error),
            next_step=f"make room or fix the rights of {path.parent}",
        ) from None


def make_directory(path: Path) -> None:
    """Make a directory and all that is missing above it, each for its owner only; it may be there already.

    One by one, for ``mkdir(parents=True, mode=...)`` gives the mode to the last one
    only and leaves those above it to the umask.  Raises OSError.
    """
    for missing in [place for place in (*reversed(path.parents), path) if not place.exists()]:
        missing.mkdir(mode=0o700, exist_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """The file's object; None when it is not there or not JSON."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def sync_directory(path: Path) -> None:
    """After this, names made or removed in ``path`` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
