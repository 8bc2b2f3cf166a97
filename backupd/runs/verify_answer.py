"""What a verify answers, as a value and as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from backupd.archive.coverage import CoverageShare
from backupd.archive.findings import Finding
from backupd.errors import ArchiveUnreachable, DamageFound
from backupd.journal.records import JsonValue


@dataclass(frozen=True, slots=True)
class KnownDamage:
    """A backup that an earlier verify found damaged, and that no whole read has found sound since."""

    backup_id: str
    sentence: str
    since: str

    def in_words(self) -> str:
        """For a person."""
        return (
            f"backup {self.backup_id} is known to be damaged since {self.since}: {self.sentence}"
            f" (only a whole read takes that back: backupctl verify {self.backup_id})"
        )


@dataclass(frozen=True, slots=True)
class VerifyOutcome:
    """What was looked at and what was found; no findings mean that it is sound at this level.

    ``is_sample``: only a part of the data was to be read.  ``coverage`` is what all
    verifies together have read of the backups that were asked for.
    ``unreachable`` is the read error that ended it, or that left objects out.
    ``as_stored_backups`` are encrypted, and no key was there to look into them.
    """

    level: str
    findings: tuple[str, ...]
    details: tuple[dict[str, JsonValue], ...]
    backups_checked: int
    objects_checked: int
    read_bytes: int
    seconds: float
    is_sample: bool = False
    coverage: CoverageShare | None = None
    known_damage: tuple[KnownDamage, ...] = ()
    unreadable_objects: int = 0
    unreachable: ArchiveUnreachable | None = None
    as_stored_backups: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing was found, now or before."""
        return not self.findings and not self.known_damage

    @property
    def exit_status(self) -> int:
        """0; 6 when there is damage; 8 when there is none, but not all could be read."""
        if not self.sound:
            return DamageFound.exit_status
        return 0 if self.unreachable is None else self.unreachable.exit_status

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``verify --json`` shows.

        ``level``; ``sound``; ``sample``; ``findings`` (each with object, problem,
        backup, file, first_page, last_page, sentence); ``known_damage`` (backup,
        sentence, since); ``backups_checked``; ``objects_checked``; ``read_bytes``;
        ``seconds``; ``as_stored_backups`` (encrypted, compared as stored for want of a key);
        ``unreadable_objects``; ``unreachable`` (None, or the sentence of the read error);
        ``coverage`` (total_bytes, verified_bytes, verified_share from 0 to 1,
        unverified_objects, oldest_verified_at: None while a byte was never read).
        """
        coverage: JsonValue = None if self.coverage is None else dict(self.coverage.to_json())
        unreachable = self.unreachable
        return {
            "level": self.level,
            "sound": self.sound,
            "sample": self.is_sample,
            "findings": list(self.details),
            "known_damage": [
                {"backup": known.backup_id, "sentence": known.sentence, "since": known.since}
                for known in self.known_damage
            ],
            "backups_checked": self.backups_checked,
            "objects_checked": self.objects_checked,
            "read_bytes": self.read_bytes,
            "seconds": round(self.seconds, 3),
            "as_stored_backups": self.as_stored_backups,
            "unreadable_objects": self.unreadable_objects,
            "unreachable": None if unreachable is None else f"{unreachable.problem}: {unreachable.because}",
            "coverage": coverage,
        }


def finding_json(finding: Finding) -> dict[str, JsonValue]:
    """A finding as ``verify --json`` shows it."""
    values: dict[str, JsonValue] = {}
    for key, value in finding.to_json().items():
        values[key] = value if isinstance(value, (str, int)) or value is None else str(value)
    return values | {"sentence": finding.sentence()}
