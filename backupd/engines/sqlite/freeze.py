"""The freeze of replay as a run holds it: bound to an open connection, so it ends with this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backupd.engines.sqlite.control import ControlClient, Message
from backupd.engines.sqlite.layout import CopyLayout
from backupd.errors import NotHealthy
from backupd.model.position import Position
from backupd.ports import FreezeEnd, Place


@dataclass(frozen=True, slots=True)
class FrozenFacts:
    """What the passive's file is while it is frozen.

    ``map_path`` is the page map of this very state; a later freeze replaces the name, not the file.
    """

    position: Position
    last_commit_at: datetime | None
    pages: int
    page_bytes: int
    checksum: int
    map_path: Path


class SqliteFreeze:
    """See ``ports.Freeze``.  When this process dies the kernel closes the connection, and replay goes on."""

    def __init__(self, passive: CopyLayout, limit_seconds: float) -> None:
        self.places: Sequence[Place] = (Place(passive.path.parent, (passive.path.name,)),)
        self._end: FreezeEnd | None = None
        self._client = ControlClient(passive.replay_socket, who="the replay process")
        try:
            answer = self._client.call("freeze", limit_seconds=limit_seconds, timeout_seconds=limit_seconds + 30.0)
            self.facts = _read(answer)
        except BaseException:
            self._client.close()
            raise
        self.position = self.facts.position
        self.last_commit_at = self.facts.last_commit_at

    def close(self) -> None:
        """See ``ports.Freeze``."""
        self.thaw()

    def thaw(self) -> FreezeEnd:
        """See ``ports.Freeze``; a connection that is gone means that replay went on by itself."""
        if self._end is None:
            try:
                answer = self._client.call("thaw", timeout_seconds=10.0)
                self._end = FreezeEnd(float(answer["frozen_seconds"]), bool(answer["held"]))
            except NotHealthy:
                self._end = FreezeEnd(0.0, held=False)
            finally:
                self._client.close()
        return self._end


def _read(answer: Message) -> FrozenFacts:
    last_us = int(answer["last_commit_us"])
    return FrozenFacts(
        position=Position.parse(str(answer["position"])),
        last_commit_at=datetime.fromtimestamp(last_us / 1e6, UTC) if last_us else None,
        pages=int(answer["pages"]),
        page_bytes=int(answer["page_bytes"]),
        checksum=int(str(answer["checksum"]), 16) if isinstance(answer["checksum"], str) else int(answer["checksum"]),
        map_path=Path(str(answer["map_path"])),
    )
