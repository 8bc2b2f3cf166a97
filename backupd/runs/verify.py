"""Checks what the archive holds, and writes the verdict beside each backup."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from backupd.archive.coverage import as_ranges, coverage_of, data_objects
from backupd.archive.verdict import Verdict
from backupd.archive.verify import Level, VerifyResult, verify_database
from backupd.errors import ArchiveUnreachable, BackupdError, UsageProblem
from backupd.journal.records import JsonValue, RunKind
from backupd.model.rules import VerifyRules
from backupd.model.states import RunState
from backupd.runs.archive_view import remember_quietly
from backupd.runs.context import RunContext
from backupd.runs.fitness import damage_sentence, standing_damage, verdicts_by_backup
from backupd.runs.verify_answer import KnownDamage, VerifyOutcome, finding_json
from backupd.runs.verify_plan import Planner

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive
    from backupd.archive.findings import Finding

__all__ = ["VerifyOutcome", "run_verify"]

_EVERYTHING = VerifyRules()


def run_verify(
    context: RunContext, *, level: str = "data", backup_ids: Sequence[str] = (), rules: VerifyRules = _EVERYTHING
) -> VerifyOutcome:
    """Verify some backups, or all of the database and what lies around them.

    Takes no lease, for it only reads: what a prune removed meanwhile is no finding.
    What was read is remembered in verdicts beside the backups, also when the
    archive goes away in the middle or a person stops it.

    Args:
        context: the database.
        level: manifest, presence or data.
        backup_ids: only these; none: all.
        rules: how much the level data reads.

    Raises:
        NotFound: nothing was ever backed up, or an id is not listed.
        ArchiveUnreachable: the archive cannot be read at all.
        UsageProblem: there is no such level, or a lighter one was asked to keep to a budget.
    """
    _refuse_odd_wishes(level, rules)
    archive = context.archive()
    for backup_id in backup_ids:
        archive.get(backup_id)
    facts: dict[str, JsonValue] = {"level": str(level), "sample": not rules.reads_all}
    run = context.journal.begin_run(database=context.database, kind=RunKind.VERIFY, facts=facts)
    try:
        outcome = _Run(context, archive, Level(level), tuple(backup_ids), rules).walk()
    except BaseException as error:
        context.journal.finish(run.id, RunState.FAILED, f"{type(error).__name__}: {error}")
        raise
    unreachable = outcome.unreachable
    end = "sound" if unreachable is None else f"not all could be read: {unreachable.because}"
    if not outcome.sound:
        end = f"{len(outcome.findings) + len(outcome.known_damage)} findings"
    state = RunState.COMPLETE if unreachable is None else RunState.FAILED
    context.journal.finish(run.id, state, end, read_bytes=outcome.read_bytes)
    remember_quietly(context)
    return outcome


def _refuse_odd_wishes(level: str, rules: VerifyRules) -> None:
    if level not in set(Level):
        raise UsageProblem(
            f"{level!r} is no level of verify",
            because=f"the levels are {', '.join(Level)}",
            next_step=f"backupctl verify --level {Level.DATA}",
        )
    if level != Level.DATA and not rules.reads_all:
        raise UsageProblem(
            f"verify --level {level} has no budget",
            because="a budget is for reading data, and this level reads none",
            next_step=f"leave the budget out, or: backupctl verify --level {Level.DATA}",
        )


class _Run:
    """One verify: look, keep what was seen, answer."""

    def __init__(
        self,
        context: RunContext,
        archive: DatabaseArchive,
        level: Level,
        wanted: tuple[str, ...],
        rules: VerifyRules,
    ) -> None:
        self._context, self._archive = context, archive
        self._level, self._wanted = level, wanted
        self._planner = Planner(archive, context.clock, rules)
        self._result = VerifyResult()

    def walk(self) -> VerifyOutcome:
        unreachable: ArchiveUnreachable | None = None
        try:
            verify_database(
                self._archive,
                self._level,
                backup_ids=self._wanted or None,
                report=self._context.report,
                make_plan=self._planner.plan,
                into=self._result,
            )
        except ArchiveUnreachable as error:
            if not (self._result.read or self._result.findings or self._result.unreadable):
                raise
            unreachable = error
        except BaseException:
            # A signal, most likely: what was read until now was read.
            with suppress(BackupdError):
                self._keep(finished=False)
            raise
        seconds = self._planner.seconds
        findings = self._result.findings
        try:
            findings = self._still_there()
            self._keep(finished=unreachable is None)
        except ArchiveUnreachable as error:
            unreachable = unreachable or error  # and what was found is told all the same
        return self._answer(tuple(findings), seconds, unreachable)

    def _still_there(self) -> list[Finding]:
        """Findings without those about what a prune has taken away since; asked only when there are any."""
        if not self._result.findings:
            return []
        listed = self._archive.list()
        known = listed.labels() | {finding.backup_id for finding in listed.findings} | {""}
        let_go = {name for gone in listed.let_go.values() for name in gone}
        return [one for one in self._result.findings if one.backup_id in known and one.object_name not in let_go]

    def _keep(self, *, finished: bool) -> None:
        """One verdict beside each backup that there is something to say about.

        Its bytes and seconds are those of the whole look.  What was read or found
        for one backup is said of every backup that shares it.
        """
        if self._context.reads_only:
            return
        at, seconds = self._context.clock.now(), self._planner.seconds
        for backup in self._archive.list().backups:
            record = backup.record
            findings = tuple(finding.sentence() for finding in self._result.findings_of(record))
            read = [each.name for each in self._result.sound_objects_of(record)]
            unreadable = tuple(each.name for each in data_objects(record) if each in self._result.unreadable)
            looked_at_whole = finished and not self._planner.is_sample and record.id in (self._wanted or {record.id})
            if not (findings or read or unreadable or looked_at_whole):
                continue
            self._archive.write_verdict(
                Verdict(
                    backup_id=record.id,
                    kind="verify",
                    level=str(self._level),
                    at=at,
                    sound=not findings,
                    findings=findings,
                    read_bytes=self._result.read_bytes,
                    seconds=seconds,
                    read=as_ranges(read),
                    damaged=tuple(each.name for each in self._result.damaged_objects_of(record)),
                    whole=self._level is Level.DATA and self._result.is_whole(record),
                    unreadable=unreadable,
                )
            )

    def _answer(
        self, findings: tuple[Finding, ...], seconds: float, unreachable: ArchiveUnreachable | None
    ) -> VerifyOutcome:
        coverage, known = None, tuple[KnownDamage, ...]()
        try:
            listing = self._archive.list()
            verdicts = verdicts_by_backup(self._archive)
        except ArchiveUnreachable as error:
            unreachable = unreachable or error
        else:
            asked = [each for each in listing.backups if each.record.id in (self._wanted or {each.record.id})]
            if self._level is Level.DATA:
                coverage = coverage_of(listing.backups, verdicts).share_of(asked)
                now_said = {finding.sentence() for finding in findings}
                known = tuple(
                    KnownDamage(bad.backup_id, damage_sentence(bad), bad.at.isoformat(timespec="seconds"))
                    for backup in asked
                    if (bad := standing_damage(verdicts.get(backup.record.id, ()))) is not None
                    and now_said.isdisjoint(bad.findings)
                )
        return VerifyOutcome(
            level=str(self._level),
            findings=tuple(finding.sentence() for finding in findings),
            details=tuple(finding_json(finding) for finding in findings),
            backups_checked=self._result.backups_checked,
            objects_checked=self._result.objects_checked,
            read_bytes=self._result.read_bytes,
            seconds=seconds,
            is_sample=self._planner.is_sample,
            coverage=coverage,
            known_damage=known,
            unreadable_objects=len(self._result.unreadable),
            unreachable=unreachable,
            as_stored_backups=len(self._result.as_stored),
        )
