"""The durable marker of replay: which log the passive's file stands at, and which one is being applied."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from backupd.durable import read_json, write_json
from backupd.model.pair import CopyState
from backupd.model.position import Position

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """The passive's file as replay left it; anything else means that somebody else touched it."""

    inode: int
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Applying:
    """The log that was begun; ``seed`` is the path of the seed file that goes with it, or empty."""

    history: str
    number: int
    seed: str = ""


@dataclass(frozen=True, slots=True)
class Marker:
    """What the passive's file is: the state after log ``number`` of ``history``.

    While ``applying`` is set the file is in between: it is offered to nobody, and
    that log is applied again from its start.
    """

    state: CopyState = CopyState.INITIALIZING
    because: str = "the passive was never seeded"
    history: str = ""
    number: int = 0
    offset: int = 0
    digest: str = ""
    checksum: int = 0
    pages: int = 0
    page_bytes: int = 0
    last_commit_us: int = 0
    applying: Applying | None = None
    identity: Identity | None = None
    stamps: dict[str, dict[str, str] | None] = field(default_factory=dict)

    @property
    def position(self) -> Position | None:
        """The replayed position; None before the first seed."""
        return Position(self.history, self.offset) if self.history else None

    def with_stamp(self, stamp: dict[str, str]) -> dict[str, dict[str, str] | None]:
        """The stamps after ``stamp`` was seen: a full starts a new chain."""
        if stamp["type"] == "full":
            return {"full": stamp, "incremental": None}
        return {**self.stamps, stamp["type"]: stamp}

    def with_seen(self, stamp: dict[str, str]) -> Marker:
        """The same state, with one more stamp seen."""
        return replace(self, stamps=self.with_stamp(stamp))

    def as_json(self) -> dict[str, Any]:
        """The stored form."""
        return {"version": _VERSION, **asdict(self), "state": str(self.state), "checksum": f"{self.checksum:016x}"}


def read_marker(path: Path) -> Marker | None:
    """The marker as it was last written; None when there is none or it cannot be read (then: seed)."""
    stored = read_json(path)
    if stored is None or stored.pop("version", None) != _VERSION:
        return None
    try:
        applying, identity = stored.pop("applying"), stored.pop("identity")
        return Marker(
            **{
                **stored,
                "state": CopyState(stored["state"]),
                "checksum": int(stored["checksum"], 16),
                "applying": Applying(**applying) if applying else None,
                "identity": Identity(**identity) if identity else None,
            }
        )
    except (KeyError, TypeError, ValueError):
        return None


def write_marker(path: Path, marker: Marker) -> None:
    """Make the marker durable in place of the old one. Raises NotHealthy."""
    write_json(path, marker.as_json(), step_name="replay.marker")
