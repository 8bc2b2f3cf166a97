"""What a drill would do, and what it has found, as values and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backupd.archive.verdict import Verdict
from backupd.errors import BackupdError
from backupd.journal.records import JsonValue
from backupd.model.drill import DrillFacts
from backupd.runs.restore_plan import RestorePlan


def in_words(error: BaseException | None) -> str:
    """A failure in one line; empty when there was none."""
    if error is None:
        return ""
    return f"{error.problem}: {error.because}" if isinstance(error, BackupdError) else type(error).__name__


@dataclass(frozen=True, slots=True)
class DrillPlan:
    """What a drill would restore, where, and what would be asked of it."""

    restore: RestorePlan
    directory: Path
    checks: tuple[str, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``drill --dry-run --json`` shows."""
        plan = self.restore
        return {
            "database": plan.database,
            "directory": str(self.directory),
            "backups": list(plan.backups),
            "position": str(plan.end),
            "pages_bytes": plan.fetch_bytes,
            "log_bytes": plan.log_bytes,
            "total_bytes": plan.total_bytes,
            "free_bytes": plan.free_bytes,
            "checks": list(self.checks),
            "blockers": list(plan.blockers),
        }


@dataclass(frozen=True, slots=True)
class DrillOutcome:
    """How a drill ended: the verdict that lies in the archive now, and what kept it from passing.

    ``answers`` are what the administrator's own questions were answered, for whoever asked here.
    """

    database: str
    verdict: Verdict
    facts: DrillFacts
    failure: BackupdError | None
    answers: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the state was restored, opened, and as it should be."""
        return self.verdict.sound

    @property
    def backup_id(self) -> str:
        """The backup that the verdict lies beside."""
        return self.verdict.backup_id

    @property
    def because(self) -> str:
        """Why it failed, in one line; empty when it passed."""
        return in_words(self.failure)

    @property
    def next_step(self) -> str:
        """What helps, as the failure says it; empty when it passed."""
        return "" if self.failure is None else self.failure.next_step

    @property
    def exit_status(self) -> int:
        """0 when it passed, else that of what kept it from passing."""
        return 0 if self.failure is None else self.failure.exit_status

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``drill --json`` shows."""
        failure = self.failure
        error: dict[str, JsonValue] | None = None
        if failure is not None:
            error = {"problem": failure.problem, "because": failure.because, "next": failure.next_step}
        facts: dict[str, JsonValue] = dict(self.facts.to_json())
        facts["answers"] = dict(self.answers)
        return {
            "database": self.database,
            "passed": self.passed,
            "backup": self.backup_id,
            "at": self.verdict.at.isoformat(),
            "seconds": self.verdict.seconds,
            "read_bytes": self.verdict.read_bytes,
            **facts,
            "cleaned_up": list(self.notes),
            "error": error,
        }
