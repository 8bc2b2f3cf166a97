"""Drills: what passes, each way to fail and its alarm, what is proven and kept, and what a dead one leaves."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backupd.archive.verdict import DRILL, Verdict
from backupd.decide.restore_wish import RestoreWish
from backupd.errors import ArchiveUnreachable, Busy, DamageFound, NotFound, NotHealthy
from backupd.journal.records import RunKind
from backupd.model.drill import Phase
from backupd.model.records import BackupType
from backupd.model.rules import Task
from backupd.model.states import RunState
from backupd.runs.backup import run_backup
from backupd.runs.drill import plan_drill, run_drill
from backupd.runs.drill_answer import DrillOutcome
from backupd.runs.drill_place import DrillPlace, try_place
from backupd.runs.fitness import unfit_backups
from backupd.runs.prune import plan_prune, run_prune
from backupd.runs.recover import run_recover
from backupd.runs.restore_plan import plan_restore
from backupd.runs.scheduled import AlreadyServed, run_scheduled
from backupd.runs.status import status_of
from tests.dying import dies_at
from tests.runs.world import World

ROWS = "SELECT count(*) FROM ledger"


@pytest.fixture
def chain(world: World) -> World:
    """A full and an incremental, and a policy that asks one question."""
    world.policy["drill"] = {"schedule": "sun 05:00", "checks": [{"name": "rows", "sql": ROWS, "expect": 3}]}
    world.writer.answers[ROWS] = 3
    run_backup(world.context(), BackupType.FULL)
    world.writer.commit("one")
    run_backup(world.context(), BackupType.INCREMENTAL)
    return world


def status(world: World) -> dict[str, Any]:
    return status_of(world.context())


def alarm(world: World, code: str) -> str:
    """What the alarm of that code says; empty where there is none."""
    found = [one["sentence"] for one in status(world)["alarm_details"] if one["code"] == code]
    assert len(found) < 2
    return str(found[0]) if found else ""


def verdicts(world: World) -> list[Verdict]:
    archive = world.context().archive()
    every = [one for backup in archive.list().backups for one in archive.verdicts(backup.record.id)]
    return sorted((one for one in every if one.kind == DRILL), key=lambda one: one.at)


def test_a_drill_beside_a_restore_leaves_the_log_alone_that_the_restore_has_fetched(chain: World) -> None:
    """A drill takes no lease, so both may be under way."""
    of_the_restore = chain.context().state_dir / "restore-log" / "fetched"
    of_the_restore.parent.mkdir(parents=True)
    of_the_restore.write_text("log")
    context = chain.context()
    assert run_drill(context).verdict.sound
    assert of_the_restore.read_text() == "log"
    assert left(chain) == []


def left(world: World) -> list[Path]:
    """What lies where drills happen."""
    return [*(world.root / world.state / "orders" / "drill").glob("*")]


def stored(world: World, word: str) -> Path:
    """The first object of the archive with that word in its path."""
    return min(path for path in world.backups.rglob("*") if path.is_file() and f"/{word}/" in str(path))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def failed(world: World, phase: Phase, *words: str) -> DrillOutcome:
    """A drill that must fail in that phase, with an alarm, a verdict and a status that say why; nothing of it stays."""
    outcome = run_drill(world.context())
    assert not outcome.passed
    assert outcome.facts.failed_in is phase
    [verdict] = verdicts(world)[-1:]
    assert not verdict.sound
    sentence = alarm(world, "drill-failed")
    for word in words:
        assert word in outcome.because
        assert word in verdict.findings[0]
        assert word in sentence
    assert status(world)["last_drill"]["failed_in"] == phase.value
    assert not left(world)
    return outcome


def test_a_drill_that_passes_is_kept_beside_the_newest_backup(chain: World) -> None:
    before = {path: path.read_bytes() for path in (chain.root / "pair").rglob("*") if path.is_file()}
    outcome = run_drill(chain.context())
    assert outcome.passed
    assert outcome.exit_status == 0
    full, newest = chain.context().archive().list().backups
    [verdict] = verdicts(chain)
    assert verdict.backup_id == newest.record.id
    assert verdict.drill is not None
    assert verdict.drill.to_json() == outcome.facts.to_json()
    facts = outcome.facts
    assert facts.backups == (full.record.id, newest.record.id)
    assert facts.position == str(newest.record.log_end)
    assert facts.point_at == newest.record.covers_until
    assert facts.seconds is not None
    assert set(facts.seconds) == set(Phase)
    assert all(spent > 0 for spent in facts.seconds.values())
    assert facts.answers == {"rows": "3"}
    assert facts.engine_checks == ("its own check",)
    assert not left(chain)
    assert {path: path.read_bytes() for path in (chain.root / "pair").rglob("*") if path.is_file()} == before


def test_status_says_what_is_proven_and_how_long_a_restore_takes(chain: World) -> None:
    assert status(chain)["last_proven"] is None
    outcome = run_drill(chain.context())
    for _ in range(2):  # as it is looked at, and as it is remembered
        seen = status(chain)
        assert seen["last_proven"]["backup"] == outcome.backup_id
        assert seen["last_proven"]["point_at"] == outcome.facts.point_at.isoformat()  # type: ignore[union-attr]
        assert seen["expected_restore_seconds"] == pytest.approx(outcome.facts.restore_seconds, abs=0.001)
        assert seen["last_drill"]["sound"] is True
        assert not [one for one in seen["alarm_details"] if "drill" in one["code"]]


def test_the_plan_of_a_restore_says_how_long_it_may_take(chain: World) -> None:
    assert plan_restore(chain.context(), RestoreWish.latest()).to_json()["expected_seconds"] is None
    seconds = run_drill(chain.context()).facts.restore_seconds
    whole = plan_restore(chain.context(), RestoreWish.latest(), str(chain.root / "out"))
    assert whole.expected_seconds == pytest.approx(seconds)


def test_a_dry_run_only_tells(chain: World) -> None:
    plan = plan_drill(chain.context())
    assert plan.checks == ("rows",)
    assert not plan.restore.blockers
    assert not verdicts(chain)
    assert not left(chain)
    assert not chain.context().journal.runs("orders", RunKind.DRILL)


def test_an_answer_that_differs_fails_and_says_which_and_not_what(chain: World) -> None:
    chain.writer.answers[ROWS] = 77001
    outcome = failed(chain, Phase.OWN_CHECKS, "rows", "another value")
    assert outcome.exit_status == DamageFound.exit_status
    assert outcome.answers == {"rows": "77001"}
    assert "77001" not in alarm(chain, "drill-failed")
    assert "77001" not in str(chain.context().journal.runs("orders", RunKind.DRILL))
    archive = chain.context().archive()
    assert not unfit_backups(archive, archive.list())  # the bytes are whole: nothing says that the backup is bad


def test_a_damaged_chunk_fails_and_marks_the_backup_that_holds_it(chain: World) -> None:
    flip(stored(chain, "data"))
    outcome = failed(chain, Phase.FETCH, "/data/")
    full = chain.context().archive().list().backups[0]
    assert outcome.backup_id == full.record.id
    archive = chain.context().archive()
    assert set(unfit_backups(archive, archive.list())) == {full.record.id}
    assert run_backup(chain.context(), BackupType.INCREMENTAL).plan.type is BackupType.FULL


def test_missing_log_fails_and_is_named(chain: World) -> None:
    logs = sorted(path for path in chain.backups.rglob("*") if path.is_file() and "/log/" in str(path))
    logs[-1].unlink()
    outcome = failed(chain, Phase.REPLAY, "/log/")
    assert isinstance(outcome.failure, DamageFound)
    assert verdicts(chain)[-1].damaged


def test_no_room_fails_before_anything_is_fetched(chain: World) -> None:
    chain.writer.scratch_free_bytes = 1000
    outcome = failed(chain, Phase.PLAN, "no room", "1000 B are free")
    assert outcome.verdict.read_bytes == 0
    archive = chain.context().archive()
    assert not unfit_backups(archive, archive.list())


def test_what_does_not_start_fails(chain: World) -> None:
    chain.writer.does_not_start = "the socket is taken by process 4711"
    assert failed(chain, Phase.OPEN, "the socket is taken by process 4711").exit_status == 7


def test_what_the_engine_finds_damaged_fails(chain: World) -> None:
    chain.writer.look_findings = ["row 7 is missing from index by_name"]
    failed(chain, Phase.ENGINE_CHECKS, "row 7 is missing from index by_name")


def test_a_place_that_cannot_be_made_fails(chain: World) -> None:
    (chain.root / "taken").write_text("a file")
    chain.policy["drill"] = {"directory": str(chain.root / "taken")}
    failed(chain, Phase.PLAN, "no scratch directory")


def test_check_tries_the_place_of_drills_and_leaves_nothing(chain: World, tmp_path: Path) -> None:
    place = tmp_path / "scratch"
    chain.policy["drill"] = {"directory": str(place)}
    assert try_place(chain.context()).startswith(f"a drill can restore to {place / 'orders'}, where ")
    assert os.listdir(place / "orders") == []
    chain.writer.scratch_free_bytes = 1000
    with pytest.raises(NotHealthy, match="no room for a drill") as told:
        try_place(chain.context())
    assert "1000 B are free" in told.value.because
    (tmp_path / "taken").write_text("a file")
    chain.policy["drill"] = {"directory": str(tmp_path / "taken")}
    with pytest.raises(NotHealthy, match="no scratch directory"):
        try_place(chain.context())
    assert os.listdir(place / "orders") == []
    assert not chain.context().journal.runs("orders", RunKind.DRILL)


def test_the_next_one_that_passes_ends_the_alarm(chain: World) -> None:
    chain.writer.answers[ROWS] = 4
    failed(chain, Phase.OWN_CHECKS)
    chain.writer.answers[ROWS] = 3
    run_drill(chain.context())
    assert not alarm(chain, "drill-failed")
    assert status(chain)["last_proven"] is not None


def test_a_failed_drill_takes_nothing_back_that_was_proven(chain: World) -> None:
    proven = run_drill(chain.context())
    chain.writer.answers[ROWS] = 4
    failed(chain, Phase.OWN_CHECKS)
    assert status(chain)["last_proven"]["at"] == proven.verdict.at.isoformat()


def test_a_verdict_that_cannot_be_written_is_an_alarm_all_the_same(
    chain: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> str:
        raise ArchiveUnreachable("the archive cannot be written", because="it is read-only", next_step="mount it")

    with monkeypatch.context() as patched:
        patched.setattr("backupd.archive.database.DatabaseArchive.write_verdict", away)
        with pytest.raises(ArchiveUnreachable):
            run_drill(chain.context())
    assert not verdicts(chain)
    assert not left(chain)
    assert "it is read-only" in alarm(chain, "drill-failed")


def test_nothing_to_drill_is_an_alarm_too(world: World) -> None:
    world.policy["drill"] = {}
    with pytest.raises(NotFound):
        run_drill(world.context())
    assert "drill-failed" in {one["code"] for one in status(world)["alarm_details"]}


def test_what_a_prune_removed_meanwhile_is_no_damage(chain: World, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = chain.context().archive().list().backups[-1].record.id
    real = chain.writer.restore_target

    def and_prune(target: str) -> Any:
        found = real(target)
        begin = found.begin

        def begun(run_id: str, *, force: bool = False) -> None:
            begin(run_id, force=force)
            chain.context().archive().delete_backup(newest, reason="another host prunes")

        found.begin = begun  # type: ignore[method-assign]
        return found

    monkeypatch.setattr(chain.writer, "restore_target", and_prune)
    with pytest.raises(Busy, match="given up"):
        run_drill(chain.context())
    monkeypatch.undo()
    assert not verdicts(chain)
    assert not alarm(chain, "drill-failed")
    assert run_drill(chain.context()).passed


def test_while_it_is_read_nothing_of_it_is_pruned_here(chain: World) -> None:
    context = chain.context()
    every = [backup.record.id for backup in context.archive().list().backups]
    context.journal.begin_run(database="orders", kind=RunKind.DRILL, facts={"backups": list(every)})
    kept = plan_prune(chain.context()).retention.keep
    assert all(any(reason.code == "in-use" for reason in one.reasons) for one in kept)
    with pytest.raises(Busy, match="cannot begin now"):
        run_drill(chain.context())


def test_stopped_by_a_person_it_leaves_nothing_and_is_no_alarm(chain: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.fakes.FakeScratch.look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_drill(chain.context())
    [run] = chain.context().journal.runs("orders", RunKind.DRILL)
    assert run.state is RunState.ABORTED
    assert not left(chain)
    assert not alarm(chain, "drill-failed")


def dies_everywhere(chain: World, prefix: str, judge: Callable[[int], None]) -> int:
    number = 1
    while dies_at(number, lambda: run_drill(chain.context()), prefix):
        judge(number)
        number += 1
    return number


@pytest.mark.parametrize("prefix", ["drill.", "target."])
def test_what_a_killed_drill_leaves_is_removed_by_recovery(chain: World, prefix: str) -> None:
    def judge(number: int) -> None:
        run_recover(chain.context())
        assert not left(chain), number
        [*_, run] = sorted(chain.context().journal.runs("orders", RunKind.DRILL), key=lambda one: one.started_at)
        assert run.state is RunState.ABORTED, number
        assert not chain.context().journal.in_progress("orders")

    assert dies_everywhere(chain, prefix, judge) > 3
    assert not left(chain)


@pytest.mark.slow
def test_what_a_drill_leaves_that_was_killed_at_any_step_is_removed_by_the_next_one(chain: World) -> None:
    def judge(number: int) -> None:
        outcome = run_drill(chain.context())
        assert outcome.passed, number
        assert not left(chain), number
        assert not chain.context().journal.in_progress("orders"), number
        assert len(os.listdir(chain.root / "backups")) > 0

    assert dies_everywhere(chain, "", judge) > 20


def test_retention_keeps_what_a_drill_proved_last(chain: World) -> None:
    proven = run_drill(chain.context())
    chain.clock.sleep(3600)
    for name in ("two", "three"):
        chain.writer.commit(name)
        run_backup(chain.context(), BackupType.FULL)
    plan = plan_prune(chain.context()).retention
    codes = {one.id: {reason.code for reason in one.reasons} for one in plan.keep}
    assert all("last-drilled-chain" in codes[one] for one in proven.facts.backups)
    assert not set(proven.facts.backups) & {gone.id for gone in plan.drop}
    newer = run_drill(chain.context())
    assert newer.facts.backups != proven.facts.backups
    codes = {one.id: {reason.code for reason in one.reasons} for one in plan_prune(chain.context()).retention.keep}
    assert not [one for one in proven.facts.backups if "last-drilled-chain" in codes.get(one, ())]
    assert set(proven.facts.backups) & {gone.id for gone in plan_prune(chain.context()).retention.drop}


def test_a_verdict_goes_with_its_backup(chain: World) -> None:
    run_drill(chain.context())
    for name in ("two", "three"):
        chain.clock.sleep(3600)
        chain.writer.commit(name)
        run_backup(chain.context(), BackupType.FULL)
    chain.writer.answers[ROWS] = 3
    newer = run_drill(chain.context())
    run_prune(chain.context(), yes=True)
    assert {one.backup_id for one in verdicts(chain)} == {newer.backup_id}
    assert {path.parent.name for path in chain.backups.rglob("*/verify/*/*")} == {newer.backup_id}


def test_a_slot_is_served_once_over_both_nodes(chain: World) -> None:
    slot = chain.clock.now() - timedelta(minutes=1)
    assert "was restored" in run_scheduled(chain.context(), Task.DRILL, slot)
    other = World(chain.root, clock=chain.clock, policy=chain.policy, state="other")
    with pytest.raises(AlreadyServed):
        run_scheduled(other.context(), Task.DRILL, slot)
    assert len(verdicts(chain)) == 1


def test_a_scheduled_drill_that_fails_is_a_run_that_failed_and_serves_nothing(chain: World) -> None:
    slot = chain.clock.now() - timedelta(minutes=1)
    chain.writer.answers[ROWS] = 4
    with pytest.raises(DamageFound):
        run_scheduled(chain.context(), Task.DRILL, slot)
    chain.writer.answers[ROWS] = 3
    assert "was restored" in run_scheduled(chain.context(), Task.DRILL, slot)


def test_an_overdue_drill_is_an_alarm_until_one_passes(chain: World) -> None:
    from backupd.runs.slot_evidence import known_since

    known_since(chain.context())  # as the service does when it first reads the policy
    chain.clock.sleep(13 * 86400)
    assert not alarm(chain, "drill-overdue")
    chain.clock.sleep(2 * 86400)
    assert "none has passed yet, and one is planned every 7 d" in alarm(chain, "drill-overdue")
    chain.writer.answers[ROWS] = 4
    run_drill(chain.context())
    assert alarm(chain, "drill-overdue")
    chain.writer.answers[ROWS] = 3
    run_drill(chain.context())
    assert not alarm(chain, "drill-overdue")
    chain.clock.sleep(15 * 86400)
    assert "none has passed since" in alarm(chain, "drill-overdue")
    del chain.policy["drill"]
    assert not alarm(chain, "drill-overdue")


def test_the_table_alone_means_weekly(world: World) -> None:
    world.policy["drill"] = {}
    rules = world.context().policy.schedule_rules()
    assert str(rules.calendars[Task.DRILL]) == "sun 05:00"
    del world.policy["drill"]
    assert Task.DRILL not in world.context().policy.schedule_rules().calendars


def test_a_run_writes_one_verdict_and_no_more(chain: World) -> None:
    run_drill(chain.context())
    archive = chain.context().archive()
    [verdict] = verdicts(chain)
    assert verdict.drill is not None
    with pytest.raises(Busy, match="already"):
        archive.write_verdict(verdict, suffix=verdict.drill.run.rpartition("-")[2])


def test_what_a_dead_drill_left_is_found_without_the_journal_too(chain: World) -> None:
    assert dies_at(1, lambda: run_drill(chain.context()), "target.look")
    [place] = left(chain)
    for part in (chain.root / chain.state).glob("journal.db*"):
        part.unlink()
    assert f"removed {place}, which a drill had left that died" in run_recover(chain.context())
    assert not left(chain)


def test_what_a_living_drill_works_on_is_left_alone(chain: World) -> None:
    context = chain.context()
    place = DrillPlace(context, "20261122T030000Z-drill-0000abcd")
    place.make()
    (place.directory / "data").mkdir()
    assert not [said for said in run_recover(chain.context()) if "drill" in said]
    assert left(chain) == [place.directory]
    place.remove()
    assert not left(chain)


def test_a_policy_may_name_another_place_meanwhile(chain: World, tmp_path: Path) -> None:
    assert dies_at(1, lambda: run_drill(chain.context()), "target.look")
    chain.policy["drill"] = {"directory": str(tmp_path / "elsewhere")}
    run_recover(chain.context())
    assert not left(chain)
    assert run_drill(chain.context()).passed
