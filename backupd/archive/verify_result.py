"""What a verify is asked to look at, and what it has seen so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from backupd.archive.coverage import data_objects
from backupd.archive.findings import Finding
from backupd.errors import ArchiveUnreachable
from backupd.model.records import BackupRecord
from backupd.ports import StoredObject


class Level(StrEnum):
    """How deep to look."""

    MANIFEST = "manifest"
    PRESENCE = "presence"
    DATA = "data"


def never() -> bool:
    """There is time enough."""
    return False


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Which objects the level data reads.

    ``names``, in this order; None: all of them, with page maps and whole-file sums
    compared.  ``doubted`` objects were once found damaged: they are read once
    more, past the cache, before they count as sound.  ``out_of_time`` is asked
    before each object but the first.
    """

    names: tuple[str, ...] | None = None
    doubted: frozenset[str] = frozenset()
    out_of_time: Callable[[], bool] = never


@dataclass(slots=True)
class VerifyResult:
    """What was looked at and what is wrong; it grows while a verify works, so that one that is cut off keeps its part.

    ``read`` are objects that were read whole and are sound; ``damaged`` those that
    are not, with what was found; ``compared`` the files (backup and path) whose page
    map and whole-file sum were compared too; ``unreadable`` are read errors, which are no damage.
    ``as_stored`` are the backups of which, for want of a key, only the stored bytes could be compared with the record.
    """

    findings: list[Finding] = field(default_factory=list)
    backups_checked: int = 0
    objects_checked: int = 0
    read_bytes: int = 0
    read: set[StoredObject] = field(default_factory=set)
    damaged: dict[StoredObject, list[Finding]] = field(default_factory=dict)
    compared: set[tuple[str, str]] = field(default_factory=set)
    unreadable: dict[StoredObject, ArchiveUnreachable] = field(default_factory=dict)
    as_stored: set[str] = field(default_factory=set)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def add(self, other: VerifyResult) -> None:
        """Count another result in."""
        self.findings += other.findings
        self.backups_checked += other.backups_checked
        self.objects_checked += other.objects_checked
        self.read_bytes += other.read_bytes
        self.read |= other.read
        self.damaged |= other.damaged
        self.compared |= other.compared
        self.unreadable |= other.unreadable
        self.as_stored |= other.as_stored

    def found_damaged(self, each: StoredObject, finding: Finding) -> None:
        """Note what is wrong with an object."""
        self.findings.append(finding)
        self.damaged.setdefault(each, []).append(finding)

    def found_sound(self, each: StoredObject) -> None:
        """Note that an object was read whole and is sound."""
        self.read.add(each)
        self.read_bytes += each.size_bytes

    def sound_objects_of(self, record: BackupRecord) -> list[StoredObject]:
        """What the record names and was read and found sound."""
        return [each for each in data_objects(record) if each in self.read and each not in self.damaged]

    def damaged_objects_of(self, record: BackupRecord) -> list[StoredObject]:
        """What the record names and was found damaged, for whichever backup it was read."""
        return [each for each in data_objects(record) if each in self.damaged]

    def findings_of(self, record: BackupRecord) -> list[Finding]:
        """What speaks against this backup: damage of what it needs, also where another backup shares it."""
        own = [each for each in self.findings if each.backup_id == record.id and _is_needed(each)]
        shared = (each for thing in self.damaged_objects_of(record) for each in self.damaged[thing])
        return own + [each for each in shared if each not in own]

    def is_whole(self, record: BackupRecord) -> bool:
        """Whether all that the record names was read and is sound, with maps and sums compared."""
        every_file = all((record.id, file.path) in self.compared for file in record.files)
        return every_file and len(self.sound_objects_of(record)) == sum(1 for _ in data_objects(record))


def _is_needed(finding: Finding) -> bool:
    """Whether it is about what a restore reads, and not about a note beside the backup (an intent, a verdict...)."""
    return finding.object_name.split("/")[2:3] in (["backup"], ["data"], ["map"], ["log"])
