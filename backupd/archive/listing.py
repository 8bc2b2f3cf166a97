"""What a listing answers: committed backups, aborted ones, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from backupd.archive.findings import Finding
from backupd.archive.record import AbortRecord
from backupd.model.records import ArchivedBackup, BackupType


@dataclass(frozen=True, slots=True)
class Listing:
    """All records of one database, oldest first; a damaged one is a finding and never silently left out."""

    backups: tuple[ArchivedBackup, ...]
    aborted: tuple[AbortRecord, ...]
    findings: tuple[Finding, ...]
    # Of each bare full: the log files that its record names and that may be gone. The record here is without them.
    let_go: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def by_id(self) -> dict[str, ArchivedBackup]:
        """The committed ones by their id."""
        return {backup.record.id: backup for backup in self.backups}

    def without(self, backup_id: str) -> Listing:
        """The listing without a backup that was deleted since: an ABORT record may stand under its name now."""
        return replace(self, backups=tuple(backup for backup in self.backups if backup.record.id != backup_id))

    def labels(self) -> set[str]:
        """Labels that have a readable record of either verdict."""
        return {backup.record.id for backup in self.backups} | {abort.id for abort in self.aborted}

    def children_of(self, backup_id: str) -> tuple[str, ...]:
        """Ids of the committed backups that build on it directly."""
        return tuple(backup.record.id for backup in self.backups if backup.record.parent == backup_id)


def chain_findings(backups: dict[str, ArchivedBackup], record_name_of: dict[str, str]) -> list[Finding]:
    """A finding for every backup whose parent is gone, is another one, or does not end where it goes on."""
    found = []
    for backup in backups.values():
        record = backup.record
        if record.parent is None:
            if not record.type.takes_pages or record.type is BackupType.EXPRESS:
                holds = "only what differs" if record.type.takes_pages else "only log"
                found.append(Finding(record_name_of[record.id], f"it holds {holds} and names no parent", record.id))
            continue
        parent = backups.get(record.parent)
        problem = ""
        if parent is None:
            problem = f"the chain has a hole: its parent {record.parent} is not there or not readable"
        elif parent.sha256 != record.parent_sha256:
            problem = f"the record of its parent {record.parent} is not the one that it was built on"
        elif record.type.takes_pages:
            problem = "" if parent.record.type.takes_pages else f"its parent {record.parent} holds no pages"
        elif parent.record.log_end.same_history(record.log_start) and parent.record.log_end != record.log_start:
            problem = f"the log has a gap: its parent ends at {parent.record.log_end}, it starts at {record.log_start}"
        if problem:
            found.append(Finding(record_name_of[record.id], problem, record.id))
    return found
