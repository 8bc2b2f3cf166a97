"""Verify with a memory: samples that come to all, marks of damage that stay, read errors, interruptions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backupd.archive.coverage import data_objects
from backupd.archive.local import LocalStore
from backupd.errors import ArchiveUnreachable, InjectedFault, UsageProblem
from backupd.journal.records import RunKind
from backupd.model.records import BackupType, Progress
from backupd.model.rules import VerifyRules
from backupd.model.states import RunState
from backupd.runs.backup import run_backup
from backupd.runs.fitness import unfit_backups, verified_backups
from backupd.runs.listing import list_backups, show_backup
from backupd.runs.prune import plan_prune
from backupd.runs.status import status_of
from backupd.runs.verify import VerifyOutcome, run_verify
from backupd.steps import arm, disarm
from tests.runs.world import World

ONE_OBJECT = VerifyRules(bytes_max=1)


@pytest.fixture
def world(world: World) -> World:
    """Two fulls, each with an incremental, and a differential that shares the log of the last one."""
    for number in range(2):
        world.writer.commit(f"full {number}")
        run_backup(world.context(), BackupType.FULL)
        world.writer.commit(f"incremental {number}")
        run_backup(world.context(), BackupType.INCREMENTAL)
    run_backup(world.context(), BackupType.DIFFERENTIAL)
    return world


def ids(world: World) -> list[str]:
    return [backup.record.id for backup in world.context().archive().list().backups]


def count_of_objects(world: World) -> int:
    backups = world.context().archive().list().backups
    return len({each for backup in backups for each in data_objects(backup.record)})


def segment_of(world: World, backup_id: str) -> Path:
    return min(path for path in world.backups.glob(f"db/*/data/{backup_id}/*"))


def flip(path: Path) -> bytes:
    good = path.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(bad))
    return good


def share(outcome: VerifyOutcome) -> float:
    assert outcome.coverage is not None
    return outcome.coverage.share


class TestSamples:
    def test_as_many_samples_as_there_are_objects_read_each_once(self, world: World) -> None:
        count = count_of_objects(world)
        seen, last = 0, -1.0
        for number in range(count):
            outcome = run_verify(world.context(), rules=ONE_OBJECT)
            assert outcome.sound
            assert outcome.is_sample
            assert share(outcome) > last
            last = share(outcome)
            seen += outcome.read_bytes
            done = verified_backups(world.context().archive())
            assert (len(done) == len(ids(world))) == (number == count - 1)
        assert last == 1
        total = outcome.coverage.total_bytes if outcome.coverage else 0
        assert seen == total
        assert outcome.coverage is not None
        oldest = outcome.coverage.oldest_verified_at
        assert oldest is not None
        run_verify(world.context(), rules=ONE_OBJECT)
        after = run_verify(world.context(), rules=ONE_OBJECT).coverage
        assert after is not None
        assert after.oldest_verified_at is not None
        assert after.oldest_verified_at > oldest

    def test_a_share_reaches_all_in_about_its_number_of_runs(self, world: World) -> None:
        outcomes = [run_verify(world.context(), rules=VerifyRules(share_max=0.5)) for _ in range(4)]
        assert share(outcomes[0]) < 1
        assert share(outcomes[-1]) == 1

    def test_a_budget_that_is_enough_for_all_is_a_whole_read(self, world: World) -> None:
        outcome = run_verify(world.context(), rules=VerifyRules(bytes_max=2**40))
        assert not outcome.is_sample
        archive = world.context().archive()
        assert all(archive.verdicts(backup_id)[-1].whole for backup_id in ids(world))

    def test_what_is_fresh_is_left_out(self, world: World) -> None:
        run_verify(world.context())
        rules = VerifyRules(reverify_days=30)
        again = run_verify(world.context(), rules=rules)
        assert (again.read_bytes, again.sound, share(again)) == (0, True, 1)
        world.writer.commit("a new one")
        run_backup(world.context(), BackupType.FULL)
        third = run_verify(world.context(), rules=rules)
        assert 0 < third.read_bytes < again.coverage.total_bytes  # type: ignore[union-attr]
        assert share(third) == 1
        world.clock.sleep(31 * 86400)
        assert run_verify(world.context(), rules=rules).read_bytes == third.coverage.total_bytes  # type: ignore[union-attr]

    def test_time_ends_a_sample_after_an_object(self, world: World) -> None:
        outcome = run_verify(world.context(), rules=VerifyRules(budget_seconds_max=0.001))
        assert 0 < share(outcome) < 1
        assert outcome.is_sample

    def test_a_sample_writes_only_beside_what_it_read(self, world: World) -> None:
        run_verify(world.context(), rules=ONE_OBJECT)
        archive = world.context().archive()
        said = [backup_id for backup_id in ids(world) if archive.verdicts(backup_id)]
        assert len(said) == 1
        assert show_backup(world.context(), said[0])["verdicts"][0]["whole"] is False  # type: ignore[index, call-overload]

    def test_show_and_status_tell_the_coverage(self, world: World) -> None:
        before = show_backup(world.context(), ids(world)[0])["verified"]
        assert before["verified_bytes"] == 0  # type: ignore[index, call-overload]
        run_verify(world.context(), backup_ids=ids(world)[:1])
        after = show_backup(world.context(), ids(world)[0])["verified"]
        assert after["verified_share"] == 1  # type: ignore[index, call-overload]
        assert after["oldest_verified_at"] is not None  # type: ignore[index, call-overload]
        told = status_of(world.context())["verified"]
        assert 0 < told["verified_share"] < 1  # type: ignore[index, call-overload, operator]
        assert told["oldest_verified_at"] is None  # type: ignore[index, call-overload]

    def test_a_log_is_read_once_and_credited_to_all(self, world: World) -> None:
        *_, incremental, differential = ids(world)
        run_verify(world.context(), backup_ids=[incremental])
        told = show_backup(world.context(), differential)["verified"]
        assert told["verified_bytes"] > 0  # type: ignore[index, call-overload, operator]
        assert world.context().archive().verdicts(differential)[0].sound

    def test_a_light_level_has_no_budget(self, world: World) -> None:
        with pytest.raises(UsageProblem, match="has no budget"):
            run_verify(world.context(), level="presence", rules=ONE_OBJECT)


class TestDamage:
    def test_a_sample_that_did_not_read_it_forgets_nothing(self, world: World) -> None:
        full = ids(world)[0]
        good = flip(segment_of(world, full))
        assert run_verify(world.context()).exit_status == 6
        for _ in range(count_of_objects(world) + 2):
            outcome = run_verify(world.context(), rules=ONE_OBJECT)
            assert outcome.exit_status == 6
            assert full in [known.backup_id for known in outcome.known_damage] or full in str(outcome.details)
        segment_of(world, full).write_bytes(good)
        # It reads well again, but a sample takes nothing back; a look at the whole backup does.
        for _ in range(count_of_objects(world) + 2):
            outcome = run_verify(world.context(), rules=ONE_OBJECT)
        assert [known.backup_id for known in outcome.known_damage] == [full]
        assert outcome.exit_status == 6
        assert full not in verified_backups(world.context().archive())
        assert run_verify(world.context(), backup_ids=[full]).exit_status == 0
        assert run_verify(world.context(), rules=ONE_OBJECT).exit_status == 0
        assert full in verified_backups(world.context().archive())

    def test_a_damaged_object_does_not_keep_samples_from_the_others(self, world: World) -> None:
        flip(segment_of(world, ids(world)[0]))
        for _ in range(count_of_objects(world)):
            run_verify(world.context(), rules=ONE_OBJECT)
        assert verified_backups(world.context().archive()) == frozenset(ids(world)[1:])

    def test_damage_that_a_sample_finds_marks_the_chain_and_deletes_nothing(self, world: World) -> None:
        newest_full = ids(world)[2]
        before = ids(world)
        flip(segment_of(world, newest_full))
        found = [run_verify(world.context(), rules=ONE_OBJECT) for _ in range(count_of_objects(world))]
        assert sum(len(outcome.findings) for outcome in found) == 1
        assert set(unfit_backups(world.context().archive(), world.context().archive().list())) == {newest_full}
        following = run_backup(world.context(), BackupType.INCREMENTAL)
        assert following.plan.type is BackupType.FULL
        assert any("cannot be built on" in note for note in following.plan.notes)
        assert ids(world)[:-1] == before
        kept = {
            kept.id: [reason.code for reason in kept.reasons] for kept in plan_prune(world.context()).retention.keep
        }
        assert "around-damage" in kept.get(before[0], []) or "last-verified-chain" in kept.get(before[0], [])

    def test_a_shared_log_marks_every_backup_that_needs_it(self, world: World) -> None:
        *_, incremental, differential = ids(world)
        archive = world.context().archive()
        flip(world.backups / archive.get(differential).record.logs[0].name)
        outcome = run_verify(world.context(), backup_ids=[incremental])
        assert outcome.exit_status == 6
        assert {incremental, differential} <= set(unfit_backups(archive, archive.list()))

    def test_a_damaged_verdict_is_named_and_marks_no_backup(self, world: World) -> None:
        run_verify(world.context())
        victim = min(world.backups.glob("db/*/verify/*/*"))
        flip(victim)
        outcome = run_verify(world.context())
        assert [victim.name in finding for finding in outcome.findings] == [True]
        archive = world.context().archive()
        assert unfit_backups(archive, archive.list()) == {}
        assert show_backup(world.context(), ids(world)[0])["state"] == "complete"


class TestReadErrors:
    @pytest.fixture
    def unreadable(self, world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of objects that the disk does not give."""
        bad: list[str] = []
        read = LocalStore.read

        def failing(self: LocalStore, name: str) -> Iterator[bytes]:
            if name in bad:
                raise ArchiveUnreachable(f"cannot read {name}", because="an I/O error", next_step="look at the disk")
            return read(self, name)

        monkeypatch.setattr(LocalStore, "read", failing)
        return bad

    def test_it_is_status_8_and_the_rest_is_remembered(self, world: World, unreadable: list[str]) -> None:
        name = str(segment_of(world, ids(world)[0]).relative_to(world.backups))
        unreadable.append(name)
        outcome = run_verify(world.context())
        assert (outcome.exit_status, outcome.sound, outcome.unreadable_objects) == (8, True, 1)
        assert outcome.coverage is not None
        assert outcome.coverage.unverified_objects == 1
        assert verified_backups(world.context().archive()) == frozenset(ids(world)[1:])
        archive = world.context().archive()
        assert unfit_backups(archive, archive.list()) == {}
        assert world.context().journal.runs("orders", RunKind.VERIFY)[0].state is RunState.FAILED
        told = outcome.to_json()
        assert name in str(told["unreachable"])
        # The disk gives it again: the sample goes for what was never read.
        unreadable.clear()
        outcome = run_verify(world.context(), rules=ONE_OBJECT)
        assert (outcome.exit_status, share(outcome)) == (0, 1)

    def test_damage_is_said_before_a_read_error(self, world: World, unreadable: list[str]) -> None:
        unreadable.append(str(segment_of(world, ids(world)[0]).relative_to(world.backups)))
        flip(segment_of(world, ids(world)[2]))
        outcome = run_verify(world.context())
        assert outcome.exit_status == 6
        assert outcome.unreachable is not None

    def test_one_bad_sector_does_not_keep_samples_from_the_others(self, world: World, unreadable: list[str]) -> None:
        unreadable.append(str(segment_of(world, ids(world)[0]).relative_to(world.backups)))
        statuses = [run_verify(world.context(), rules=ONE_OBJECT).exit_status for _ in range(count_of_objects(world))]
        assert sorted(statuses) == [*[0] * (len(statuses) - 1), 8]
        assert verified_backups(world.context().archive()) == frozenset(ids(world)[1:])

    def test_an_archive_that_gives_no_data_is_no_damage(self, world: World, unreadable: list[str]) -> None:
        archive = world.context().archive()
        unreadable.extend(each.name for backup in archive.list().backups for each in data_objects(backup.record))
        outcome = run_verify(world.context())
        assert (outcome.exit_status, outcome.sound, outcome.read_bytes) == (8, True, 0)
        assert outcome.unreadable_objects == 3
        assert unfit_backups(archive, archive.list()) == {}
        assert verified_backups(archive) == frozenset()

    def test_an_archive_that_is_away_is_an_error(self, world: World) -> None:
        context = world.context()
        context.archive()
        shutil.move(world.backups, world.root / "away")
        with pytest.raises(ArchiveUnreachable):
            run_verify(context)
        assert world.context().journal.runs("orders", RunKind.VERIFY)[0].state is RunState.FAILED


class TestCutOff:
    def test_a_person_who_stops_it_keeps_what_was_read(self, world: World) -> None:
        def report(progress: Progress) -> None:
            if progress.done_bytes:
                raise KeyboardInterrupt

        context = replace(world.context(), report=report)
        with pytest.raises(KeyboardInterrupt):
            run_verify(context)
        archive = world.context().archive()
        (verdict,) = [verdict for backup_id in ids(world) for verdict in archive.verdicts(backup_id)]
        assert verdict.sound
        assert not verdict.whole
        assert run_verify(world.context(), rules=ONE_OBJECT).coverage.unverified_objects == (  # type: ignore[union-attr]
            count_of_objects(world) - 2
        )

    def test_one_that_dies_between_two_verdicts_leaves_an_archive_that_is_sound(self, world: World) -> None:
        arm("fail", 2, "archive.verdict")
        try:
            with pytest.raises(InjectedFault):
                run_verify(world.context())
        finally:
            disarm()
        assert len(list(world.backups.glob("db/*/verify/*/*"))) == 1
        outcome = run_verify(world.context())
        assert outcome.sound
        assert [row["state"] for row in list_backups(world.context())] == ["complete"] * 5
