"""Remembers which alarms stand, since when, and who was told; a small file in the state directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from backupd.decide.alarm_news import Standing
from backupd.durable import read_json, write_json
from backupd.model.alarm import Alarm, Severity

FILE_NAME = "alarms.json"


def read_told(state_dir: Path) -> dict[str, tuple[Standing, ...]]:
    """What stands, by whom it was told to; what cannot be understood is forgotten, and told once more."""
    targets = (read_json(state_dir / FILE_NAME) or {}).get("targets")
    found = {}
    for name, rows in targets.items() if isinstance(targets, dict) else ():
        try:
            found[str(name)] = tuple(_standing(row) for row in rows)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return found


def write_told(state_dir: Path, told: Mapping[str, Sequence[Standing]]) -> None:
    """Durably. Raises NotHealthy: the disk refuses."""
    targets = {name: [_row(one) for one in standing] for name, standing in told.items()}
    write_json(state_dir / FILE_NAME, {"targets": targets}, step_name="service.alarms")


def _row(one: Standing) -> dict[str, Any]:
    return {
        **one.alarm.to_json(),
        "since": one.since.isoformat(),
        "told_at": one.told_at.isoformat() if one.told_at else None,
        "told_severity": one.told_severity.value if one.told_severity else None,
    }


def _standing(row: Mapping[str, Any]) -> Standing:
    told_at = row["told_at"]
    severity = row["told_severity"]
    return Standing(
        Alarm.from_json(row),
        datetime.fromisoformat(row["since"]),
        datetime.fromisoformat(told_at) if told_at else None,
        Severity(severity) if severity else None,
    )
