"""Says how much room the log of each copy has, where its server runs on this host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backupd.disk_room import free_room_bytes
from backupd.engines.postgres.postmaster import find_postmaster
from backupd.model.pair import CopyStatus, PairStatus


def with_log_room(pair: PairStatus) -> PairStatus:
    """The pair with the free bytes of each ``pg_wal`` that is here; a path alone may be another host's."""
    return replace(pair, active=_with_room(pair.active), passive=_with_room(pair.passive))


def _with_room(copy: CopyStatus) -> CopyStatus:
    directory = Path(copy.path)
    if find_postmaster(directory) is None:
        return copy
    return replace(copy, log_disk_free_bytes=free_room_bytes(directory / "pg_wal"))
