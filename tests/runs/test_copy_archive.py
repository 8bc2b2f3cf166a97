"""The second archive in the runs: every backup goes there too, log waits for it, and a restore comes from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backupd.archive import names
from backupd.archive.local import LocalStore
from backupd.decide.restore_path import RestoreWish
from backupd.errors import ArchiveUnreachable, ConfigInvalid, NotFound, Refused
from backupd.journal.records import RunKind
from backupd.model.records import BackupType
from backupd.model.states import RunState
from backupd.runs.backup import run_backup
from backupd.runs.copy_archive import run_copy_archive
from backupd.runs.prune import plan_prune, run_prune
from backupd.runs.recover import run_recover
from backupd.runs.restore import run_restore
from backupd.runs.restore_plan import plan_restore
from backupd.runs.second_archive import copy_queue
from backupd.runs.status import status_of
from backupd.runs.truncate import explain_truncation, gather_evidence, run_truncate
from backupd.runs.verify import run_verify
from tests.archive_builders import open_archive
from tests.runs.world import World


@pytest.fixture
def two(world: World) -> World:
    """A world whose policy wants both archives; nothing is backed up yet."""
    world.with_second(archives_min=2)
    return world


@pytest.fixture
def behind(world: World) -> World:
    """A full and an incremental in the first archive only, and all log on the copies."""
    world.policy["truncation"] = {"enabled": False}
    run_backup(world.context(), BackupType.FULL)
    world.writer.commit("one")
    run_backup(world.context(), BackupType.INCREMENTAL)
    world.policy["truncation"] = {"enabled": True}
    world.with_second(archives_min=2)
    return world


def objects(place: Path) -> dict[str, bytes]:
    """What a copy brings: every object but verdicts, leases and what is on its way."""
    found = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    own = ("/verify/", "/lease/", "tmp/")
    return {name: data for name, data in found.items() if not any(part in name for part in own)}


def ids(world: World, *, second: bool = False) -> list[str]:
    context = world.context()
    archive = context.second.archive() if second and context.second is not None else context.archive()
    return [backup.record.id for backup in archive.list().backups]


def away(world: World) -> Path:
    shutil.move(world.second, world.root / "away")
    world.second.write_text("a file where the mount was")
    return world.root / "away"


def back(world: World) -> None:
    world.second.unlink()
    shutil.move(world.root / "away", world.second)


class TestAfterABackup:
    def test_a_backup_is_in_both_and_its_log_goes(self, two: World) -> None:
        outcome = run_backup(two.context(), BackupType.FULL)
        assert objects(two.second) == objects(two.backups) != {}
        assert any("1 backup" in note and "copied to the second archive" in note for note in outcome.notes)
        assert outcome.truncation is not None
        assert outcome.truncation.state == "truncated"
        run = two.context().journal.runs("orders", RunKind.COPY_ARCHIVE)[0]
        assert run.state is RunState.COMPLETE

    def test_a_second_place_that_is_away_never_fails_the_backup(self, two: World) -> None:
        run_backup(two.context(), BackupType.FULL)
        away(two)
        two.writer.commit("one")
        held = len(two.writer.logs("b"))
        outcome = run_backup(two.context(), BackupType.INCREMENTAL)
        assert outcome.state is RunState.COMPLETE
        assert any("not copied to the second archive" in note for note in outcome.notes)
        assert outcome.truncation is not None
        assert outcome.truncation.state == "kept"
        assert any("second-archive-end-unknown" in blocker for blocker in outcome.truncation.blocked_by)
        assert len(two.writer.logs("b")) >= held
        status = status_of(two.context())
        assert any("second archive" in str(alarm) for alarm in status["alarms"])  # type: ignore[union-attr]
        assert status["second_archive"]["state"] == "not known"  # type: ignore[index, call-overload]
        with pytest.raises(ArchiveUnreachable) as caught:
            run_copy_archive(two.context())
        assert caught.value.exit_status == 8
        back(two)
        two.writer.commit("two")
        following = run_backup(two.context(), BackupType.INCREMENTAL)
        assert any("2 backups" in note for note in following.notes)
        assert ids(two) == ids(two, second=True)
        assert status_of(two.context())["alarms"] == []

    def test_with_one_archive_wanted_log_does_not_wait(self, world: World) -> None:
        world.with_second(archives_min=1)
        away_at_once = world.second
        away_at_once.write_text("a file")
        outcome = run_backup(world.context(), BackupType.FULL)
        assert outcome.truncation is not None
        assert outcome.truncation.state == "truncated"
        assert any("not copied" in note for note in outcome.notes)


class TestCopy:
    def test_the_plan_says_what_and_changes_nothing(self, behind: World) -> None:
        behind.second.mkdir()
        plan = run_copy_archive(behind.context(), dry_run=True).plan
        assert [item.backup.record.id for item in plan.items] == ids(behind)
        assert plan.missing_bytes > 0
        assert list(behind.second.iterdir()) == []

    def test_a_copy_brings_all_and_a_second_one_nothing(self, behind: World) -> None:
        LocalStore.prepare(behind.second)
        planned = run_copy_archive(behind.context(), dry_run=True).plan
        outcome = run_copy_archive(behind.context())
        assert outcome.copied_bytes == planned.missing_bytes
        assert objects(behind.second) == objects(behind.backups)
        assert run_copy_archive(behind.context()).copied == ()

    def test_a_named_backup_brings_what_it_builds_on(self, behind: World) -> None:
        full, incremental = ids(behind)
        outcome = run_copy_archive(behind.context(), [incremental])
        assert [one.backup_id for one in outcome.copied] == [full, incremental]
        with pytest.raises(NotFound):
            run_copy_archive(behind.context(), ["20261122T010000Z-F-00000000"])

    def test_a_policy_without_a_second_archive_says_so(self, world: World) -> None:
        with pytest.raises(ConfigInvalid, match="no second archive"):
            run_copy_archive(world.context())

    def test_another_archive_at_the_place_is_refused(self, behind: World) -> None:
        open_archive(LocalStore.prepare(behind.second))
        for dry_run in (True, False):
            with pytest.raises(Refused, match="is another archive") as caught:
                run_copy_archive(behind.context(), dry_run=dry_run)
            assert caught.value.exit_status == 4
        evidence = explain_truncation(behind.context())
        assert evidence.state == "kept"
        assert any("is another archive" in blocker for blocker in evidence.blocked_by)

    def test_damage_in_the_first_is_named_and_the_rest_is_copied(self, behind: World) -> None:
        behind.policy["retention"] = {"keep_fulls_min": 5}
        second = behind.policy.pop("second_archive")
        behind.writer.commit("two")
        run_backup(behind.context(), BackupType.FULL)
        behind.policy["second_archive"] = second
        victim = min(path for path in (behind.backups / "db").glob("*/data/**/*") if path.is_file())
        victim.write_bytes(victim.read_bytes()[:-1])
        outcome = run_copy_archive(behind.context())
        full, incremental, good = ids(behind)
        assert [id_ for id_, _ in outcome.failed] == [full, incremental]
        assert victim.name in str(outcome.failed[0][1].details["object"])
        assert ids(behind, second=True) == [good]
        run = behind.context().journal.runs("orders", RunKind.COPY_ARCHIVE)[0]
        assert run.state is RunState.FAILED
        run_verify(behind.context())
        assert set(copy_queue(behind.context()).stuck) == {full, incremental}

    def test_a_second_archive_that_is_suddenly_empty_is_not_begun_anew(self, behind: World) -> None:
        run_copy_archive(behind.context())
        shutil.move(behind.second, behind.root / "away")
        behind.second.mkdir()
        for dry_run in (True, False):
            with pytest.raises(ArchiveUnreachable, match="is empty now"):
                run_copy_archive(behind.context(), dry_run=dry_run)
        assert list(behind.second.iterdir()) == []

    def test_a_dead_copy_is_told_once_and_gone_on_with(self, behind: World) -> None:
        context = behind.context()
        context.journal.begin_run(database="orders", kind=RunKind.COPY_ARCHIVE)
        (said,) = run_recover(behind.context())
        assert "the next one goes on" in said
        assert run_recover(behind.context()) == ()


class TestTruncation:
    def test_log_stays_until_both_hold_it(self, behind: World) -> None:
        held = [log.start for log, _ in behind.writer.logs("b")]
        before = run_truncate(behind.context())
        assert before.state == "kept"
        assert [log.start for log, _ in behind.writer.logs("b")] == held
        LocalStore.prepare(behind.second)
        explained = explain_truncation(behind.context())
        (blocker,) = explained.blocked_by
        assert str(behind.second) in blocker
        assert all(id_ in blocker for id_ in ids(behind))
        full, incremental = ids(behind)
        run_copy_archive(behind.context(), [full])
        partly = explain_truncation(behind.context())
        assert partly.evidence["second_archive"]["lacks"] == [incremental]  # type: ignore[index, call-overload]
        run_truncate(behind.context())
        end = behind.context().archive().get(full).record.log_end
        assert min(log.start.offset for log, _ in behind.writer.logs("b")) <= end.offset
        run_copy_archive(behind.context())
        assert run_truncate(behind.context()).state == "truncated"

    def test_a_backup_that_is_damaged_there_does_not_count(self, behind: World) -> None:
        run_copy_archive(behind.context())
        assert explain_truncation(behind.context()).state == "would truncate"
        victim = min(path for path in (behind.second / "db").glob("*/data/**/*") if path.is_file())
        victim.write_bytes(victim.read_bytes()[:-1])
        second = behind.context().second
        assert second is not None
        assert not run_verify(second).sound
        assert run_verify(behind.context()).sound
        alarms = status_of(behind.context())["alarms"]
        assert any("the second archive: backup" in str(one) and "damaged" in str(one) for one in alarms)  # type: ignore[union-attr]
        assert explain_truncation(behind.context()).state == "kept"

    def test_log_of_an_ended_history_goes_only_as_far_as_both_have_it(self, world: World) -> None:
        world.with_second(archives_min=2, retention={"keep_fulls_min": 1})
        world.policy["retention"] = {"keep_fulls_min": 5}
        full = run_backup(world.context(), BackupType.FULL).record
        assert full is not None
        away(world)
        world.writer.commit("one")
        run_backup(world.context(), BackupType.INCREMENTAL)
        back(world)
        world.writer.change(history="2" * 16, passive="must be seeded")
        world.writer.commit("in another history")
        following = run_backup(world.context(), BackupType.FULL)
        assert following.truncation is not None
        assert following.truncation.state == "truncated"
        assert world.writer.spared == {full.log_end.history: full.log_end.offset}

    def test_log_of_an_ended_history_that_only_the_second_still_holds_stays(self, world: World) -> None:
        """The first archive has pruned it by its own retention: then one archive holds it, and two are wanted."""
        world.with_second(archives_min=2, retention={"keep_fulls_min": 5})
        world.policy["retention"] = {"keep_fulls_min": 1}
        full = run_backup(world.context(), BackupType.FULL).record
        assert full is not None
        world.writer.change(history="2" * 16, passive="must be seeded")
        world.writer.commit("in another history")
        run_backup(world.context(), BackupType.FULL)
        assert full.log_end.history in gather_evidence(world.context()).archived_ended, "both hold it"
        run_prune(world.context(), yes=True)
        assert full.id not in ids(world)
        assert full.id in ids(world, second=True)
        assert full.log_end.history not in gather_evidence(world.context()).archived_ended


class TestPrune:
    def test_what_the_second_lacks_is_not_taken_from_the_first(self, behind: World) -> None:
        second = behind.policy.pop("second_archive")
        behind.writer.commit("two")
        run_backup(behind.context(), BackupType.FULL)
        old = ids(behind)[:2]
        behind.policy["second_archive"] = {**dict(second), "retention": {"keep_days": 30}}  # type: ignore[call-overload]
        LocalStore.prepare(behind.second)
        plan = plan_prune(behind.context())
        assert plan.retention.drop == ()
        reasons = {kept.id: " ".join(map(str, kept.reasons)) for kept in plan.retention.keep}
        assert all("second archive does not hold it yet" in reasons[id_] for id_ in old)
        away(behind)
        assert plan_prune(behind.context()).retention.drop == ()
        back(behind)
        run_copy_archive(behind.context())
        assert set(run_prune(behind.context()).deleted) == set(old)
        assert set(old) < set(ids(behind, second=True))

    def test_the_second_has_a_retention_of_its_own(self, world: World) -> None:
        world.with_second(retention={"keep_fulls_min": 1})
        world.policy["retention"] = {"keep_fulls_min": 5}
        for _ in range(3):
            run_backup(world.context(), BackupType.FULL)
            world.clock.sleep(3600)
        second = world.context().second
        assert second is not None
        assert len(run_prune(second).deleted) == 2
        assert len(ids(world)) == 3
        assert ids(world, second=True) == ids(world)[-1:]
        assert run_copy_archive(world.context()).copied == ()
        assert status_of(world.context())["alarms"] == []


class TestStatusAndRestore:
    def test_the_copy_queue_is_shown_and_alarms(self, behind: World) -> None:
        LocalStore.prepare(behind.second)
        status = status_of(behind.context())
        facts = status["second_archive"]
        assert isinstance(facts, dict)
        assert (facts["state"], facts["waiting"], facts["archives_min"]) == ("behind", ids(behind), 2)
        assert any("2 backups" in str(alarm) and "wait" in str(alarm) for alarm in status["alarms"])  # type: ignore[union-attr]
        run_copy_archive(behind.context())
        status = status_of(behind.context())
        assert status["alarms"] == []
        assert status["second_archive"]["state"] == "whole"  # type: ignore[index, call-overload]

    def test_without_a_second_archive_there_is_none_to_show(self, world: World) -> None:
        assert status_of(world.context())["second_archive"] is None

    def test_a_restore_from_the_second_when_the_first_is_gone(self, two: World) -> None:
        run_backup(two.context(), BackupType.FULL)
        two.writer.commit("one")
        run_backup(two.context(), BackupType.INCREMENTAL)
        content = two.writer.content("a")
        shutil.rmtree(two.backups)
        with pytest.raises(ArchiveUnreachable):
            plan_restore(two.context(), RestoreWish.latest(), str(two.root / "out"))
        second = two.context().second
        assert second is not None
        run_restore(second, plan_restore(second, RestoreWish.latest(), str(two.root / "out")))
        assert (two.root / "out" / "app.db").read_bytes() == content
        run_restore(second, plan_restore(second, RestoreWish.latest(), "active"))
        assert two.writer.content("a") == content


def test_the_second_archive_s_view_is_its_own(two: World) -> None:
    run_backup(two.context(), BackupType.FULL)
    state = two.root / "state" / "orders"
    assert {path.name for path in state.glob("*.json")} >= {"archive-view.json", "second-archive-view.json"}
    dbid = two.context().archive().dbid
    assert list(LocalStore(two.second).list(names.intents_prefix(dbid))) == []
