"""What a verify or a drill found, kept beside the backup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from backupd.archive.coverage import NamedObjects, read_ranges
from backupd.model.drill import DrillFacts
from backupd.ports import StoredObject

VERIFY, DRILL = "verify", "drill"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``kind`` is verify or drill; ``level`` is manifest, presence or data for a verify.

    ``read`` are the backup's objects that were read whole and found sound, as
    ranges (``coverage.as_ranges``); None, in verdicts of versions that did not say
    it, stands for all that are not ``damaged``.  ``unreadable`` met a read error,
    which says nothing of them.  ``whole``: every object that the record names was
    read in this run, with page maps and whole-file sums compared; only such a
    verdict takes an older bad one back.  ``drill`` is what a drill has to say beyond
    that: it lies beside the last backup that it restored, or beside the one that it found damaged.
    """

    backup_id: str
    kind: str
    level: str
    at: datetime
    sound: bool
    findings: tuple[str, ...] = ()
    read_bytes: int = 0
    seconds: float = 0.0
    read: Mapping[str, str] | None = None
    damaged: tuple[str, ...] = ()
    whole: bool = False
    unreadable: tuple[str, ...] = ()
    drill: DrillFacts | None = None

    @property
    def finds_damage(self) -> bool:
        """Whether the backup itself is bad: a drill may fail for other reasons, like a full disk."""
        return not self.sound and (self.kind != DRILL or bool(self.damaged))

    def read_of(self, objects: NamedObjects) -> Iterable[StoredObject]:
        """Which of the backup's objects it says were read and sound."""
        if self.read is not None:
            return objects.in_ranges(self.read)
        # Without names of what was damaged, an unsound verdict proves nothing of the rest.
        return objects.every if self.whole and self.sound else ()

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
            "read": None if self.read is None else dict(self.read),
            "damaged": list(self.damaged),
            "whole": self.whole,
            "unreadable": list(self.unreadable),
            **({} if self.drill is None else {"drill": self.drill.to_json()}),
        }


def verdict_from_json(content: dict[str, Any]) -> Verdict:
    """The reverse. Raises KeyError, ValueError, TypeError, AttributeError."""
    read, drill = content.get("read"), content.get("drill")
    for ranges in (read or {}).values():
        read_ranges(ranges)
    return Verdict(
        content["backup_id"],
        content["kind"],
        content["level"],
        datetime.fromisoformat(content["at"]),
        content["sound"],
        tuple(content["findings"]),
        content["read_bytes"],
        content["seconds"],
        read,
        tuple(content.get("damaged", ())),
        # Before there was a budget, every verify of the data read all of it.
        content.get("whole", content["level"] == "data" or content["kind"] == DRILL),
        tuple(content.get("unreadable", ())),
        None if drill is None else DrillFacts.from_json(drill),
    )
