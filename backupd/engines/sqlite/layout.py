"""Where things lie: the state directory of one SQLite database, and the durable writing of its small files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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


def make_directory(path: Path) -> None:
    """Make a directory and all that is missing above it, each for its owner only; it may be there already.

    One by one, for ``mkdir(parents=True, mode=...)`` gives the mode to the last one
    only and leaves those above it to the umask.  Raises OSError.
    """
    for missing in [place for place in (*reversed(path.parents), path) if not place.exists()]:
        missing.mkdir(mode=0o700, exist_ok=True)
