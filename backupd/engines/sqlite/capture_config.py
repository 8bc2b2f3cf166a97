"""What the supervisor tells the capture process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """How capture behaves; sizes in bytes, times in seconds."""

    log_file_bytes_max: int = 4 << 20
    log_file_seconds_max: float = 2.0
    seal_wal_bytes: int = 8 << 20
    seal_seconds: float = 60.0
    poll_seconds: float = 0.02
    drain_seconds: float = 0.05
    long_drain_seconds: float = 0.3
    wal_bytes_warn: int = 256 << 20
    wal_bytes_max: int = 2 << 30
    exposed_after_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class CaptureConfig:
    """What the supervisor tells this process."""

    database: str
    db_path: Path
    directory: Path
    pair_path: Path
    seed_path: Path
    replay_socket: Path
    options: CaptureOptions

    @classmethod
    def read(cls, path: Path) -> CaptureConfig:
        """Read the JSON that the supervisor wrote."""
        value = json.loads(path.read_text())
        options = CaptureOptions(**value.pop("options"))
        database = value.pop("database")
        return cls(database=database, options=options, **{name: Path(text) for name, text in value.items()})
