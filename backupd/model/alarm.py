"""What is wrong with a database or with the service, as a value that lasts while it is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Severity(StrEnum):
    """How much it matters: a warning can wait for the morning, what is critical cannot."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is wrong now.

    ``code`` and ``subject`` stay the same while it lasts, whatever the sentence says
    meanwhile: by them an alarm is told once when it begins, and once when it ends.

    Attributes:
        database: which; empty: it is the service's own.
        code: what kind, like ``backup-overdue``; words of a-z and ``-``.
        subject: which one of that kind, like a copy's name or a backup's id; empty where there can be only one.
        sentence: what is wrong, with its numbers, in plain words.
        severity: how much it matters.
        next_step: the command or change that helps; empty where the sentence says it.
    """

    database: str
    code: str
    sentence: str
    subject: str = ""
    severity: Severity = Severity.WARNING
    next_step: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from all others."""
        return self.database, self.code, self.subject

    @classmethod
    def from_json(cls, row: Mapping[str, object]) -> Self:
        """What ``to_json`` made. Raises KeyError, ValueError: it is not that."""
        words = {name: str(row[name]) for name in ("database", "code", "sentence", "subject", "next_step")}
        return cls(**words, severity=Severity(str(row["severity"])))

    def to_json(self) -> dict[str, str]:
        """The keys that scripts rely on."""
        return {
            "database": self.database,
            "code": self.code,
            "subject": self.subject,
            "severity": self.severity.value,
            "sentence": self.sentence,
            "next_step": self.next_step,
        }
