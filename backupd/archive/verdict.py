"""What a verify or a drill found, kept beside the backup."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """``kind`` is verify or drill; ``level`` is manifest, presence or data for a verify."""

    backup_id: str
    kind: str
    level: str
    at: datetime
    sound: bool
    findings: tuple[str, ...] = ()
    read_bytes: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """For the object, and for ``show --json``."""
        return {
            "backup_id": self.backup_id,
            "kind": self.kind,
            "level": self.level,
            "at": self.at.isoformat(),
            "sound": self.sound,
            "findings": list(self.findings),
            "read_bytes": self.read_bytes,
            "seconds": self.seconds,
        }


def verdict_from_json(content: dict[str, Any]) -> Verdict:
    """The reverse. Raises KeyError, ValueError, TypeError."""
    return Verdict(
        content["backup_id"],
        content["kind"],
        content["level"],
        datetime.fromisoformat(content["at"]),
        content["sound"],
        tuple(content["findings"]),
        content["read_bytes"],
        content["seconds"],
    )
