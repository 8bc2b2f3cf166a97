"""What a backup run came to, as a value and as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from backupd.journal.records import JsonValue, TruncationNote
from backupd.model.records import BackupRecord
from backupd.model.states import RunState
from backupd.runs.backup_plan import BackupPlan
from backupd.runs.listing import backup_json


@dataclass(frozen=True, slots=True)
class BackupOutcome:
    """What a backup run came to; ``record`` is None only for a dry run."""

    plan: BackupPlan
    record: BackupRecord | None
    state: RunState
    truncation: TruncationNote | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """The keys of the backup JSON; a dry run shows its plan."""
        if self.record is None:
            return {"dry_run": True, "state": self.state.value, **self.plan.to_json()}
        return {**backup_json(self.record, self.state.value, self.truncation), "notes": list(self.notes)}
