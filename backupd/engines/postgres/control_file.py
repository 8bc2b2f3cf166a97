"""Reads what ``global/pg_control`` says first: whose cluster it is, how it was left, and its last checkpoint."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from backupd.errors import NotHealthy
from backupd.model.position import Position

CONTROL_PATH = Path("global") / "pg_control"

# system identifier, version of the format, catalog version, state, time, checkpoint, its redo, its timeline.
_HEAD = struct.Struct("<QIIi4xqQQI")
_FORMATS = range(1300, 2000)


class ClusterState(IntEnum):
    """How the server was last seen, by its control file (DBState)."""

    STARTUP = 0
    SHUTDOWNED = 1
    SHUTDOWNED_IN_RECOVERY = 2
    SHUTDOWNING = 3
    IN_CRASH_RECOVERY = 4
    IN_ARCHIVE_RECOVERY = 5
    IN_PRODUCTION = 6


@dataclass(frozen=True, slots=True)
class ControlFacts:
    """A cluster by its control file; ``checkpoint`` is where its last checkpoint record begins."""

    system_identifier: int
    state: ClusterState
    checkpoint: int
    redo: int
    timeline: int

    @property
    def position(self) -> Position:
        """The last checkpoint as a position."""
        return Position(str(self.timeline), self.checkpoint)


def read_control(path: Path) -> ControlFacts:
    """Read a control file.

    Raises:
        NotHealthy: it is not there, cannot be read, or is none of this byte order or these versions.
    """
    try:
        data = path.read_bytes()[: _HEAD.size]
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    if len(data) < _HEAD.size:
        raise _unreadable(path, "it is too short")
    identifier, version, _, state, _, checkpoint, redo, timeline = _HEAD.unpack(data)
    if version not in _FORMATS or state not in list(ClusterState) or not timeline:
        raise _unreadable(path, "it is not a control file of PostgreSQL 14 to 18 on this kind of machine")
    return ControlFacts(identifier, ClusterState(state), checkpoint, redo, timeline)


def _unreadable(path: Path, because: str) -> NotHealthy:
    return NotHealthy(
        f"{path} cannot be read",
        because=because,
        next_step="let backupd run on the server's host as root or as the server's user; pg_controldata shows the file",
    )
