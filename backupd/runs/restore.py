"""Carries out a planned restore: fetch and verify beside the live file, replay, check, and then put it in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import ArchiveUnreachable, BackupdError, DamageFound, Interrupted, NotHealthy, Refused
from backupd.journal.records import JsonValue, Run, RunKind
from backupd.model.pair import CopyState
from backupd.model.position import Position
from backupd.model.records import Progress, StoredLog
from backupd.model.states import RunState
from backupd.pipeline.fetch import fetch_file
from backupd.ports import RestoreTarget
from backupd.runs.context import RunContext
from backupd.runs.needed import needed_objects
from backupd.runs.recover import adopt_archive, recover_under_lease
from backupd.runs.restore_plan import RestorePlan, judge_again
from backupd.steps import step

_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class RestoreOutcome:
    """What a restore came to; ``passive_state`` is empty for a directory."""

    plan: RestorePlan
    position: Position
    read_bytes: int
    fetched_pages: int
    reused_pages: int
    logs_applied: int
    seconds: float
    passive_state: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``restore --json`` shows."""
        return {
            "database": self.plan.database,
            "target": self.plan.target,
            "path": self.plan.path,
            "base": self.plan.base,
            "backups": list(self.plan.backups),
            "position": str(self.position),
            "read_bytes": self.read_bytes,
            "fetched_pages": self.fetched_pages,
            "reused_pages": self.reused_pages,
            "logs_applied": self.logs_applied,
            "seconds": round(self.seconds, 3),
            "passive_state": self.passive_state,
            "notes": list(self.notes),
        }


def run_restore(
    context: RunContext, plan: RestorePlan, *, force: bool = False, seed_wait_seconds: float = 300.0
) -> RestoreOutcome:
    """Restore by ``plan``.

    Promise: until everything was fetched, verified, replayed and checked beside
    it, the live file is not touched; any failure before that leaves it as it was.
    Pages that were fetched stay when the archive went away or a person stopped
    the work, and the next restore takes them up.

    Args:
        context: the database.
        plan: what ``plan_restore`` answered; the target is judged again before anything happens.
        force: lets a directory's file of that name be replaced.
        seed_wait_seconds: how long to wait for the passive to be healthy again.

    Raises:
        Refused: the target is a passive or in use, or the plan's blockers stand.
        DamageFound: an object of the archive is damaged, named; nothing was written over live data.
        ArchiveUnreachable: the archive went away; nothing was written over live data.
    """
    with context.lease(f"restore of {context.database} to {plan.target}"):
        notes = list(recover_under_lease(context, keep_stage=True))
        plan = judge_again(context, plan)
        _refuse_blocked(plan)
        run = context.journal.begin_run(
            database=context.database,
            kind=RunKind.RESTORE,
            facts={"target": plan.target, "role": plan.role, "phase": "planned", "base": plan.base},
        )
        restoring = _Restoring(context, plan, run, notes)
        try:
            outcome = restoring.carry_out(force=force, seed_wait_seconds=seed_wait_seconds)
        except BaseException as error:
            _end(context, run, restoring, error)
            raise
        context.journal.finish(run.id, RunState.COMPLETE, f"restored to {outcome.position}")
        return outcome


def _refuse_blocked(plan: RestorePlan) -> None:
    if plan.users and plan.blockers:
        user = plan.users[0]
        raise Refused(
            f"{plan.path} is in use",
            because="; ".join(plan.blockers),
            next_step=f"stop {user.command} (pid {user.pid}), or give the policy a restore.stop_command",
            users=[{"pid": one.pid, "command": one.command} for one in plan.users],
        )
    if plan.blockers:
        raise NotHealthy(
            f"{plan.database} cannot be restored to {plan.path}",
            because="; ".join(plan.blockers),
            next_step=f"make room, or restore to another place: backupctl restore {plan.database} --target DIR",
        )


def _end(context: RunContext, run: Run, restoring: _Restoring, error: BaseException) -> None:
    """Note the end. What could not be undone, or only has to be finished, stays open for recovery."""
    if restoring.left_open or restoring.phase in {"activating", "activated"}:
        return
    says = f"{error.problem} ({error.because})" if isinstance(error, BackupdError) else type(error).__name__
    with suppress(BackupdError):
        context.journal.finish(run.id, RunState.FAILED, f"{says}; the live files are as they were")


class _Restoring:
    """One restore on its way: what it has done so far and in which phase it is."""

    def __init__(self, context: RunContext, plan: RestorePlan, run: Run, notes: list[str]) -> None:
        self.context = context
        self.plan = plan
        self.run = run
        self.notes = notes
        self.phase = "planned"
        self.left_open = False
        self.target: RestoreTarget = context.writer.restore_target(plan.target)
        self.read_bytes = 0
        self.fetched_pages = 0
        self.reused_pages = 0
        self.position = plan.route.full.record.log_end

    def carry_out(self, *, force: bool, seed_wait_seconds: float) -> RestoreOutcome:
        began = self.context.clock.monotonic()
        with self._application_stopped():
            self._to("begun")
            try:
                self.target.begin(self.run.id, force=force)
                with needed_objects(self.plan.base):
                    self._fetch_pages()
                    self._replay()
                self._check()
                self._to("activating")
            except BaseException as error:
                # What the archive's absence or a person interrupted is worth resuming; damage is not.
                keep = isinstance(error, (ArchiveUnreachable, Interrupted, KeyboardInterrupt))
                self._abandon(keep_stage=keep)
                raise
            self.target.activate(came_from=self.plan.base)
            self._to("activated")
            if self.plan.role != "directory":
                adopt_archive(self.context)
        passive = self._finish(seed_wait_seconds)
        seconds = self.context.clock.monotonic() - began
        return RestoreOutcome(
            plan=self.plan,
            position=self.position,
            read_bytes=self.read_bytes,
            fetched_pages=self.fetched_pages,
            reused_pages=self.reused_pages,
            logs_applied=len(self.plan.route.logs),
            seconds=seconds,
            passive_state=passive,
            notes=tuple(self.notes),
        )

    def _abandon(self, *, keep_stage: bool) -> None:
        """Undo what was begun; when that fails too, recovery does it, for the run stays open."""
        try:
            self.target.abandon(keep_stage=keep_stage)
        except BackupdError:
            self.left_open = True

    def _to(self, phase: str) -> None:
        """Write the phase down before it begins; recovery reads it."""
        self.context.journal.note(self.run.id, f"restore: {phase}", phase=phase)
        self.phase = phase

    @contextmanager
    def _application_stopped(self) -> Iterator[None]:
        """The application is stopped by the policy's command, and started however the restore or the stop ends."""
        rules = self.context.policy.restore
        if self.plan.role == "directory" or not rules.stop_command:
            yield
            return
        self.context.journal.note(self.run.id, "the policy's stop command runs", stopped=True)
        try:
            step("restore.stop_command")
            self.context.run_command(rules.stop_command, rules.command_seconds_max)
            yield
        finally:
            self._start_application()

    def _start_application(self) -> None:
        rules = self.context.policy.restore
        if not rules.start_command:
            return
        step("restore.start_command")
        try:
            self.context.run_command(rules.start_command, rules.command_seconds_max)
        except BackupdError as error:
            self.notes.append(f"the application was not started: {error.because}")
        self.context.journal.note(self.run.id, "the policy's start command ran", stopped=False)

    def _fetch_pages(self) -> None:
        archive = self.context.archive()
        # What was stored last says how to lay out what came before it.
        for file in reversed(self.plan.route.full.record.files):
            result = fetch_file(
                file,
                archive.store,
                self.target.stage_file(file),
                self.target.live_file(file),
                workers=self.context.policy.archive_options.threads,
                report=self.context.report,
            )
            self.read_bytes += result.read_bytes
            self.fetched_pages += result.fetched_pages
            self.reused_pages += result.reused_pages

    def _replay(self) -> None:
        """Fetch, verify and apply log files one after the other; only one lies around at a time."""
        route = self.plan.route
        done, total = 0, self.plan.log_bytes
        lent = self.context.state_dir / "restore-log"
        for stored in route.logs:
            place = self.target.log_path(stored.log) or lent
            try:
                self._fetch_log(stored, place)
                self.position = self.target.apply_log(place, until=route.until, at=route.at)
            finally:
                with suppress(OSError):
                    lent.unlink(missing_ok=True)
            done += stored.stored_bytes
            self.read_bytes += stored.stored_bytes
            self.context.report(Progress("replaying log", done, total))
            if self.position < stored.log.end:
                return  # nothing can follow a log file that was not taken whole (its clock went back inside it)

    def _fetch_log(self, stored: StoredLog, place: Path) -> None:
        with suppress(OSError):
            place.unlink(missing_ok=True)
        self.context.archive().fetch_log(stored, place)
        found = self.target.read_log(place)
        if (found.history, found.number, found.digest) != (stored.log.history, stored.log.number, stored.log.digest):
            raise DamageFound(
                f"{stored.name} is another log file",
                because=f"it says that it is number {found.number} of {found.history}; "
                f"the record names number {stored.log.number} of {stored.log.history}",
                next_step=f"backupctl verify --level data {self.plan.base}",
                object=stored.name,
            )

    def _check(self) -> None:
        self.context.tell("the engine checks the restored state", state="check")
        route = self.plan.route
        exact = route.until is not None and route.until != route.end
        findings = self.target.check(route.until if exact else None, route.at)
        self.position = self.target.reached() or self.position
        if findings:
            raise DamageFound(
                f"the restored state of {self.plan.database} is not sound",
                because=findings[0],
                next_step=f"backupctl verify --level data {' '.join(self.plan.backups)}",
                findings=list(findings),
            )

    def _finish(self, seed_wait_seconds: float) -> str:
        self.target.finish()
        if self.plan.role == "directory":
            return ""
        with self.context.writer.replication():
            state = self._await_passive(seed_wait_seconds)
        self.notes.append(f"a new full is due: backupctl backup {self.plan.database} --type full")
        return state

    def _await_passive(self, seed_wait_seconds: float) -> str:
        clock = self.context.clock
        began = clock.monotonic()
        while True:
            passive = self.context.writer.pair().passive
            if passive.state is CopyState.HEALTHY:
                return passive.state.value
            if clock.monotonic() - began > seed_wait_seconds or passive.state is CopyState.FAILED:
                because = f" ({passive.because})" if passive.because else ""
                self.notes.append(f"the passive is {passive.state}{because}; watch it: backupctl status")
                return passive.state.value
            self.context.tell(f"the passive is {passive.state}", state="seeding")
            clock.sleep(_POLL_SECONDS)
