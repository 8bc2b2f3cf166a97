"""Rehearses a restore: into a scratch place, opened, asked, thrown away; the verdict lies beside the backup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from backupd.decide.drill import answer_differs, answer_text
from backupd.decide.restore_wish import RestoreWish
from backupd.errors import BackupdError, Busy, DamageFound, Interrupted, NotHealthy
from backupd.journal.records import Run, RunKind
from backupd.model.drill import CheckAnswer, Phase
from backupd.model.records import BackupRecord
from backupd.model.states import RunState
from backupd.ports import OpenedScratch, ScratchTarget
from backupd.runs.archive_view import remember_quietly
from backupd.runs.context import RunContext
from backupd.runs.drill_answer import DrillOutcome, DrillPlan, in_words
from backupd.runs.drill_place import DrillPlace, clear_dead_drills, refuse_second
from backupd.runs.drill_verdict import Found, drill_facts, drill_verdict
from backupd.runs.needed import needed_objects
from backupd.runs.rebuild import Rebuild
from backupd.runs.restore_plan import RestorePlan, plan_restore
from backupd.steps import step

_NEWEST = RestoreWish.latest()


def plan_drill(context: RunContext, wish: RestoreWish = _NEWEST) -> DrillPlan:
    """What a drill would do; changes nothing. Raises as ``plan_restore``, and Refused: no place for it."""
    place = DrillPlace(context, "plan")
    place.target()
    options = context.policy.drill
    checks = tuple(check.name for check in options.checks) if options else ()
    return DrillPlan(plan_restore(context, wish, str(place.data)), place.directory, checks)


def run_drill(context: RunContext, wish: RestoreWish = _NEWEST) -> DrillOutcome:
    """Restore, open, check, throw away, and keep the verdict.

    Promise: nothing of the pair is touched, no lease is taken, nothing that was restored stays or was ever
    reachable.  What kept it from passing is in the answer, not raised, once it is known which backups were meant.

    Args:
        context: the database.
        wish: the state to restore; the newest, where nothing is said.

    Raises:
        Busy: another drill of it goes on here, or a prune has removed meanwhile what was read.
        NotFound: no backup leads to the wished state.
        ArchiveUnreachable: it cannot be read, or the verdict not be written; the journal has what was found.
        DamageFound: the record of a backup is damaged, so that nothing could be planned.
    """
    notes = clear_dead_drills(context)
    refuse_second(context)
    run = context.journal.begin_run(database=context.database, kind=RunKind.DRILL)
    place = DrillPlace(context, run.id)
    context.journal.note(run.id, f"it happens in {place.directory}", directory=str(place.directory))
    drill = _Drill(context, run, place, wish)
    try:
        outcome = drill.walk(notes)
    except BaseException as error:
        _end_badly(context, run, drill, error)
        raise
    finally:
        remember_quietly(context)
    state = RunState.COMPLETE if outcome.passed else RunState.FAILED
    facts = {"because": outcome.because, "failed_in": str(outcome.facts.failed_in or ""), "next": outcome.next_step}
    context.journal.finish(run.id, state, outcome.because or "passed", backup=outcome.backup_id, **facts)
    return outcome


def _end_badly(context: RunContext, run: Run, drill: _Drill, error: BaseException) -> None:
    stopped = isinstance(error, Busy | Interrupted | KeyboardInterrupt)
    says = in_words(error)
    facts = {} if stopped else {"because": says, "failed_in": drill.found.phase.value}
    with suppress(BackupdError):
        if not drill.place.directory.exists():  # else it stays open, and recovery removes what is left
            context.journal.finish(run.id, RunState.ABORTED if stopped else RunState.FAILED, says, **facts)


class _Drill:
    """One drill on its way."""

    def __init__(self, context: RunContext, run: Run, place: DrillPlace, wish: RestoreWish) -> None:
        self.context, self.run, self.place, self.wish = context, run, place, wish
        self.found = Found()

    def walk(self, notes: tuple[str, ...]) -> DrillOutcome:
        started_at, found = self.context.clock.now(), self.found
        with self._in(Phase.PLAN):
            plan = plan_restore(self.context, self.wish, str(self.place.data))
        records = self._records(plan)
        self.context.journal.note(self.run.id, "what it reads", backups=[*records])
        try:
            self._rehearse(plan)
        except BackupdError as error:
            if isinstance(error, Busy | Interrupted):
                raise
            found.failure = error
        finally:
            self._discard()
        self._refuse_pruned(records)
        archive = self.context.archive()
        facts = drill_facts(
            found, plan, records, archive.keys, run=self.run.id, host=self.context.node, started_at=started_at
        )
        verdict = drill_verdict(found, plan, records, facts, self.context.clock.now())
        # Created once, under the run's own digits.
        archive.write_verdict(verdict, suffix=self.run.id.rpartition("-")[2])
        return DrillOutcome(self.context.database, verdict, facts, found.failure, dict(found.answers), notes)

    def _records(self, plan: RestorePlan) -> dict[str, BackupRecord]:
        """Every backup that is read, by its id: what an express full builds on, the one with the pages, the rest."""
        listed = self.context.archive().list().by_id()
        wanted = dict.fromkeys((*(one.record.id for one in plan.route.pages_from), *plan.backups))
        return {one: listed[one].record for one in wanted if one in listed}

    @contextmanager
    def _in(self, phase: Phase) -> Iterator[None]:
        """Its time counts for the phase; a failure leaves the phase standing, for the verdict to name it."""
        self.found.phase, began = phase, self.context.clock.monotonic()
        self.context.tell(f"drill: {phase}", phase=phase.value)
        try:
            yield
        finally:
            self._count(phase, began)

    def _count(self, phase: Phase, began: float) -> None:
        spent = self.context.clock.monotonic() - began
        self.found.seconds[phase] = self.found.seconds.get(phase, 0.0) + spent

    # --- the walk ---

    def _rehearse(self, plan: RestorePlan) -> None:
        with self._in(Phase.PLAN):
            _refuse_blocked(plan)
            self.place.make()
            target = self.place.target()
            target.begin(self.run.id)
        self._restore(plan, target)
        self._open(target)

    def _restore(self, plan: RestorePlan, target: ScratchTarget) -> None:
        rebuild, found = Rebuild(self.context, plan.route, target, lends_in=self.place.directory), self.found
        found.phase = Phase.FETCH
        try:
            with needed_objects(plan.base):
                rebuild.run()
        finally:
            found.read_bytes = rebuild.read_bytes
            found.seconds[Phase.FETCH] = rebuild.fetch_seconds
            if rebuild.replay_seconds is not None:
                found.phase, found.seconds[Phase.REPLAY] = Phase.REPLAY, rebuild.replay_seconds
        with self._in(Phase.RECOVER):
            rebuild.check()
        found.position = str(rebuild.position)
        with self._in(Phase.PLACE):
            target.activate(came_from=plan.base)
            target.finish()

    def _open(self, target: ScratchTarget) -> None:
        found = self.found
        found.phase, began = Phase.OPEN, self.context.clock.monotonic()
        with target.opened() as opened:
            self._count(Phase.OPEN, began)
            with self._in(Phase.ENGINE_CHECKS):
                look = opened.look()
                found.engine_checks = look.asked
                found.notes += look.notes
                if look.findings:
                    raise _unsound(self.context.database, "the engine finds damage in it", "; ".join(look.findings[:5]))
            with self._in(Phase.OWN_CHECKS):
                self._ask_all(opened)

    def _ask_all(self, opened: OpenedScratch) -> None:
        """All of them are asked, also after one that differs: a person wants to know how many do."""
        options, found = self.context.policy.drill, self.found
        for check in options.checks if options else ():
            step("drill.ask")
            dbname = check.dbname or self.context.policy.postgres.stamp_database
            try:
                rows = opened.ask(check.sql, dbname=dbname, seconds_max=options.check_seconds_max if options else 60.0)
            except BackupdError as error:
                found.checks.append(CheckAnswer(check.name, passed=False, says="it could not be asked"))
                found.answers[check.name] = in_words(error)
                continue
            differs = answer_differs(check.expect, rows)
            found.checks.append(
                CheckAnswer(check.name, passed=differs is None, says=differs.sentence if differs else "")
            )
            found.answers[check.name] = answer_text(rows)
        failed = [one for one in found.checks if not one.passed]
        if failed:
            said = "; ".join(f"{one.name}: {one.says}" for one in failed)
            which = "a check of the policy fails" if len(failed) == 1 else f"{len(failed)} checks of the policy fail"
            raise _unsound(self.context.database, f"{which}: {', '.join(one.name for one in failed)}", said)

    def _discard(self) -> None:
        """Whatever happened, nothing of it stays; what cannot be removed is told, and the next one tries again."""
        began = self.context.clock.monotonic()
        self.context.tell(f"drill: {Phase.DISCARD}", phase=Phase.DISCARD.value)
        try:
            self.place.remove()
        except BackupdError as error:
            self.found.notes.append(in_words(error))
        self._count(Phase.DISCARD, began)

    def _refuse_pruned(self, records: Mapping[str, BackupRecord]) -> None:
        """Nothing keeps a prune of another host from removing what is read here; that is no damage."""
        if not isinstance(self.found.failure, DamageFound):
            return
        listed = self.context.archive().list().labels()
        gone = [one for one in records if one not in listed]
        if gone:
            raise Busy(
                f"the drill of {self.context.database} was given up",
                because=f"{gone[0]} was removed from the archive while it was read",
                next_step=f"backupctl drill {self.context.database}",
            )


def _refuse_blocked(plan: RestorePlan) -> None:
    if plan.blockers:
        raise NotHealthy(
            f"there is no room for a drill of {plan.database}",
            because="; ".join(plan.blockers),
            next_step="make room there, or name another place: drill.directory in the policy",
        )


def _unsound(database: str, what: str, because: str) -> DamageFound:
    return DamageFound(
        f"the restored {database} is not as it should be: {what}",
        because=because,
        next_step=f"look at it: backupctl restore {database} --target DIR; then at the active copy itself",
    )
