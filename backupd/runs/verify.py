"""Checks what the archive holds, and writes the verdict beside each backup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backupd.archive.findings import Finding
from backupd.archive.verdict import Verdict
from backupd.archive.verify import Level, VerifyResult, verify_database
from backupd.errors import BackupdError, UsageProblem
from backupd.journal.records import JsonValue, RunKind
from backupd.model.states import RunState
from backupd.runs.archive_view import remember_archive
from backupd.runs.context import RunContext

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive


@dataclass(frozen=True, slots=True)
class VerifyOutcome:
    """What was looked at and what was found; no findings mean that it is sound at this level."""

    level: str
    findings: tuple[str, ...]
    details: tuple[dict[str, JsonValue], ...]
    backups_checked: int
    objects_checked: int
    read_bytes: int
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def exit_status(self) -> int:
        """0, or 6 when there is damage."""
        return 0 if self.sound else 6

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``verify --json`` shows."""
        return {
            "level": self.level,
            "sound": self.sound,
            "findings": list(self.details),
            "backups_checked": self.backups_checked,
            "objects_checked": self.objects_checked,
            "read_bytes": self.read_bytes,
            "seconds": round(self.seconds, 3),
        }


def run_verify(context: RunContext, *, level: str = "data", backup_ids: Sequence[str] = ()) -> VerifyOutcome:
    """Verify some backups, or all of the database and what lies around them.

    Takes no lease, for it only reads: what a prune removed meanwhile is no finding.

    Raises:
        NotFound: nothing was ever backed up, or an id is not listed.
        ArchiveUnreachable: the archive cannot be read.
        UsageProblem: there is no such level.
    """
    if level not in set(Level):
        raise UsageProblem(
            f"{level!r} is no level of verify",
            because=f"the levels are {', '.join(Level)}",
            next_step=f"backupctl verify --level {Level.DATA}",
        )
    archive = context.archive()
    for backup_id in backup_ids:
        archive.get(backup_id)
    run = context.journal.begin_run(database=context.database, kind=RunKind.VERIFY, facts={"level": str(level)})
    began = context.clock.monotonic()
    try:
        result = verify_database(archive, Level(level), backup_ids=list(backup_ids) or None, report=context.report)
        result_findings = _still_there(archive, result)
        seconds = context.clock.monotonic() - began
        pattern = Verdict("", "verify", str(level), context.clock.now(), True, (), result.read_bytes, seconds)
        _write_verdicts(archive, pattern, tuple(backup_ids), result_findings)
    except BaseException as error:
        context.journal.finish(run.id, RunState.FAILED, f"{type(error).__name__}: {error}")
        raise
    end = f"{len(result_findings)} findings" if result_findings else "sound"
    context.journal.finish(run.id, RunState.COMPLETE, end, read_bytes=result.read_bytes)
    _refresh(context)
    return VerifyOutcome(
        level=str(level),
        findings=tuple(finding.sentence() for finding in result_findings),
        details=tuple(_json(finding) for finding in result_findings),
        backups_checked=result.backups_checked,
        objects_checked=result.objects_checked,
        read_bytes=result.read_bytes,
        seconds=seconds,
    )


def _still_there(archive: DatabaseArchive, result: VerifyResult) -> tuple[Finding, ...]:
    """Findings without those about what a prune has taken away since; asked only when there are any."""
    if not result.findings:
        return ()
    listed = archive.list()
    known = listed.labels() | {finding.backup_id for finding in listed.findings} | {""}
    let_go = {name for gone in listed.let_go.values() for name in gone}
    return tuple(one for one in result.findings if one.backup_id in known and one.object_name not in let_go)


def _write_verdicts(
    archive: DatabaseArchive, pattern: Verdict, wanted: tuple[str, ...], findings: tuple[Finding, ...]
) -> None:
    """One verdict beside each backup that was looked at; the bytes and seconds are those of the whole look."""
    ids = wanted or tuple(backup.record.id for backup in archive.list().backups)
    for backup_id in ids:
        own = tuple(finding.sentence() for finding in findings if finding.backup_id == backup_id)
        archive.write_verdict(replace(pattern, backup_id=backup_id, sound=not own, findings=own))


def _json(finding: Finding) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = {}
    for key, value in finding.to_json().items():
        values[key] = value if isinstance(value, (str, int)) or value is None else str(value)
    return values | {"sentence": finding.sentence()}


def _refresh(context: RunContext) -> None:
    try:
        remember_archive(context)
    except BackupdError:
        return  # status reads the archive itself then
