"""The stamps of the last full and incremental, as the passive has seen them in its log."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from backupd.engines.sqlite.marker import read_marker
from backupd.model.position import Position
from backupd.model.records import BackupType, Stamp, Stamps


def seen_stamps(marker_path: Path) -> Stamps:
    """What the passive's marker says; none before it was seeded."""
    marker = read_marker(marker_path)
    if marker is None:
        return Stamps()
    return Stamps(full=_stamp(marker.stamps.get("full")), incremental=_stamp(marker.stamps.get("incremental")))


def _stamp(value: dict[str, str] | None) -> Stamp | None:
    if value is None:
        return None
    return Stamp(
        type=BackupType(value["type"]),
        backup_id=value["backup_id"],
        end=Position.parse(value["end"]),
        at=datetime.fromisoformat(value["at"]),
    )
