"""What a drill leaves in the archive: its facts and its verdict, with nothing of the database's content in clear."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.archive.coverage import data_objects
from backupd.archive.verdict import DRILL, Verdict
from backupd.errors import BackupdError, DamageFound
from backupd.model.drill import CheckAnswer, DrillFacts, Phase
from backupd.model.records import BackupRecord
from backupd.runs.drill_answer import in_words
from backupd.runs.restore_plan import RestorePlan

if TYPE_CHECKING:
    from backupd.archive.keys import ArchiveKeys


@dataclass(slots=True)
class Found:
    """What a drill has found so far; ``phase`` is where it is, or where it failed."""

    phase: Phase = Phase.PLAN
    seconds: dict[Phase, float] = field(default_factory=dict)
    failure: BackupdError | None = None
    position: str = ""
    read_bytes: int = 0
    engine_checks: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    checks: list[CheckAnswer] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)


def drill_facts(
    found: Found,
    plan: RestorePlan,
    records: Mapping[str, BackupRecord],
    keys: ArchiveKeys,
    *,
    run: str,
    host: str,
    started_at: datetime,
) -> DrillFacts:
    """The facts of one drill; ``records`` are of all backups that it read.

    What was answered is content: where backups are encrypted, it is sealed for the same recipients.

    Raises:
        ConfigInvalid: a recipient is none.
    """
    sealed = ""
    if keys.recipients:
        told = {"answers": found.answers, "failure": in_words(found.failure), "notes": found.notes}
        sealed = keys.sealed(json.dumps(told, ensure_ascii=False, sort_keys=True).encode())
    return DrillFacts(
        run=run,
        host=host,
        started_at=started_at,
        backups=tuple(records),
        position=found.position,
        point_at=_moment_of(plan, records.values()) if found.position else None,
        seconds=found.seconds,
        pages_bytes=plan.fetch_bytes,
        log_bytes=plan.log_bytes,
        restored_bytes=plan.total_bytes,
        engine_checks=found.engine_checks,
        notes=() if sealed else tuple(found.notes),
        checks=tuple(found.checks),
        failed_in=found.phase if found.failure else None,
        sealed=sealed,
        answers={} if sealed else dict(found.answers),
    )


def drill_verdict(
    found: Found, plan: RestorePlan, records: Mapping[str, BackupRecord], facts: DrillFacts, at: datetime
) -> Verdict:
    """Beside the last backup that was read; or beside the one whose object is damaged, which is known bad then."""
    findings: tuple[str, ...] = ()
    damaged, owner = "", None
    if found.failure is not None:
        findings = (found.failure.problem if facts.sealed else in_words(found.failure),)
        if isinstance(found.failure, DamageFound):
            damaged = str(found.failure.details.get("object") or "")
            owner = next((one for one, record in records.items() if damaged in _object_names(record)), None)
    return Verdict(
        backup_id=owner or plan.backups[-1],
        kind=DRILL,
        level="restore",
        at=at,
        sound=found.failure is None,
        findings=findings,
        read_bytes=found.read_bytes,
        seconds=round((at - facts.started_at).total_seconds(), 3),
        read={},
        damaged=(damaged,) if owner else (),
        drill=facts,
    )


def _object_names(record: BackupRecord) -> set[str]:
    return {each.name for each in data_objects(record)}


def _moment_of(plan: RestorePlan, records: Iterable[BackupRecord]) -> datetime | None:
    """Up to which moment the restored state is known to be whole."""
    ends = [record.covers_until for record in records if record.log_end == plan.end]
    return plan.at or max(ends, default=None)
