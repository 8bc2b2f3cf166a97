"""Carries out a planned restore: fetch and verify beside the live file, replay, check, and then put it in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from backupd.errors import ArchiveUnreachable, BackupdError, Interrupted, NotHealthy, Refused
from backupd.journal.records import JsonValue, Run, RunKind
from backupd.model.pair import CopyState
from backupd.model.position import Position
from backupd.model.states import RunState
from backupd.ports import RestoreTarget, ReusesLive
from backupd.runs.context import RunContext
from backupd.runs.needed import needed_objects, refuse_missing
from backupd.runs.one_run import one_run
from backupd.runs.rebuild import Rebuild
from backupd.runs.recover import adopt_archive, recover_under_lease
from backupd.runs.restore_plan import RestorePlan, judge_again
from backupd.runs.seed import seed_passive
from backupd.steps import step

_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class RestoreOutcome:
    """What a restore came to; ``passive_state`` is empty for a directory.

    ``usable_seconds`` is until the restored database was in place and started again, ``seconds`` until its passive was
    seeded too.
    """

    plan: RestorePlan
    position: Position
    read_bytes: int
    fetched_pages: int
    reused_pages: int
    logs_applied: int
    usable_seconds: float
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
            "usable_seconds": round(self.usable_seconds, 3),
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
    A plan that is ``in_place`` promises less: until all objects were seen to be
    there, and the first of them were read.
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
    with one_run(context, f"restore of {context.database} to {plan.target}", patient=True):
        # Where the archive is only read there is no pair and no earlier run that could have died.
        notes = [] if context.reads_only else list(recover_under_lease(context, keep_stage=True))
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
        other = "; or reuse the files that are there: --in-place" if plan.may_be_in_place else ""
        raise NotHealthy(
            f"{plan.database} cannot be restored to {plan.path}",
            because="; ".join(plan.blockers),
            next_step=f"make room, or restore to another place: backupctl restore {plan.database} --target DIR{other}",
        )


def _end(context: RunContext, run: Run, restoring: _Restoring, error: BaseException) -> None:
    """Note the end. What could not be undone, or only has to be finished, stays open for recovery."""
    if restoring.left_open or restoring.phase in {"activating", "activated"}:
        return
    says = f"{error.problem} ({error.because})" if isinstance(error, BackupdError) else type(error).__name__
    with suppress(BackupdError):
        context.journal.finish(run.id, RunState.FAILED, f"{says}; {restoring.left}")


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
        self.rebuild = Rebuild(context, plan.route, self.target)

    @property
    def left(self) -> str:
        """What is at the target after a restore that failed."""
        if self.plan.role == "active" and self.target.facts().given_up:
            return "what was there was given up, and only a restore makes it whole again"
        return "the live files are as they were"

    def carry_out(self, *, force: bool, seed_wait_seconds: float) -> RestoreOutcome:
        began = self.context.clock.monotonic()
        with self._application_stopped():
            self._to("begun")
            try:
                with needed_objects(self.plan.base):
                    if self.plan.in_place:
                        refuse_missing(self.context.archive().store, self.plan.route)
                    self.target.begin(self.run.id, force=force)
                    if self.plan.in_place and isinstance(self.target, ReusesLive):
                        self.target.reuse_live()
                    self.rebuild.run()
                self.rebuild.check()
                with suppress(ArchiveUnreachable):  # all of it is here by now
                    self.context.still_ours()
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
        usable_seconds = self.context.clock.monotonic() - began
        passive = self._finish(seed_wait_seconds)
        seconds = self.context.clock.monotonic() - began
        return RestoreOutcome(
            plan=self.plan,
            position=self.rebuild.position,
            read_bytes=self.rebuild.read_bytes,
            fetched_pages=self.rebuild.fetched_pages,
            reused_pages=self.rebuild.reused_pages,
            logs_applied=len(self.plan.route.logs),
            usable_seconds=usable_seconds,
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

    def _finish(self, seed_wait_seconds: float) -> str:
        self.target.finish()
        if self.plan.role == "directory":
            return ""
        self._seed()
        with self.context.writer.replication():
            state = self._await_passive(seed_wait_seconds)
        self.notes.append(f"a new full is due: backupctl backup {self.plan.database} --type full")
        return state

    def _seed(self) -> None:
        """The restore is done; a passive that cannot be seeded now is only said."""
        try:
            self.notes.extend(seed_passive(self.context, self.run.id, only_from_archive=True))
        except BackupdError as error:
            self.notes.append(f"the passive was not seeded: {error.problem} ({error.because}); {error.next_step}")

    def _await_passive(self, seed_wait_seconds: float) -> str:
        clock = self.context.clock
        began = clock.monotonic()
        while True:
            passive = self.context.writer.pair().passive
            if passive.state is CopyState.HEALTHY:
                return passive.state.value
            if clock.monotonic() - began > seed_wait_seconds or passive.state is CopyState.FAILED:
                because = f" ({passive.because})" if passive.because else ""
                self.notes.append(f"the passive {passive.state.says}{because}; watch it: backupctl status")
                return passive.state.value
            self.context.tell(f"the passive {passive.state.says}", state="seeding")
            clock.sleep(_POLL_SECONDS)
