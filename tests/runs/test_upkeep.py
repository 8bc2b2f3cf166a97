"""Verify, prune, recover, status, check and the pair's verbs."""

from __future__ import annotations

import shutil

import pytest

from backupd.archive.local import LocalStore
from backupd.errors import KeptByLock, NotFound, Refused, UsageProblem
from backupd.journal.records import RunKind
from backupd.model.records import BackupType
from backupd.runs.backup import run_backup
from backupd.runs.check import run_check
from backupd.runs.copies import resume, seed, suspend
from backupd.runs.holds import backup_holds, hold_backup, release_backup
from backupd.runs.listing import list_backups
from backupd.runs.prune import plan_prune, run_prune
from backupd.runs.recover import run_recover
from backupd.runs.status import status_json, status_of
from backupd.runs.verify import run_verify
from tests.runs.world import World


@pytest.fixture
def two_chains(world: World) -> World:
    """Full, incremental, full, incremental; the retention wants one full."""
    for number in range(2):
        world.writer.commit(f"full {number}")
        run_backup(world.context(), BackupType.FULL)
        world.writer.commit(f"incremental {number}")
        run_backup(world.context(), BackupType.INCREMENTAL)
        world.clock.sleep(3600)
    return world


def harm_a_segment(world: World) -> None:
    victim = max(path for path in (world.backups / "db").glob("*/data/**/*") if path.is_file())
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)


class TestVerify:
    def test_a_sound_archive_is_sound_and_says_so_beside_each_backup(self, two_chains: World) -> None:
        outcome = run_verify(two_chains.context())
        assert outcome.sound
        assert outcome.exit_status == 0
        assert outcome.backups_checked == 4
        archive = two_chains.context().archive()
        assert all(archive.verdicts(backup.record.id)[0].sound for backup in archive.list().backups)

    def test_damage_is_named_and_the_backup_is_no_longer_built_on(self, two_chains: World) -> None:
        harm_a_segment(two_chains)
        outcome = run_verify(two_chains.context())
        assert outcome.exit_status == 6
        assert "/data/" in outcome.findings[0]
        assert "damaged" in [row["state"] for row in list_backups(two_chains.context())]
        following = run_backup(two_chains.context(), BackupType.INCREMENTAL)
        assert following.plan.type is BackupType.FULL
        assert any("cannot be built on" in note for note in following.notes), following.notes

    def test_an_unknown_backup_and_an_unknown_level_are_told(self, two_chains: World) -> None:
        with pytest.raises(NotFound):
            run_verify(two_chains.context(), backup_ids=["20261122T010000Z-F-00000000"])
        with pytest.raises(UsageProblem):
            run_verify(two_chains.context(), level="deep")


class TestPrune:
    def test_whole_old_chains_go_with_their_log(self, two_chains: World) -> None:
        plan = plan_prune(two_chains.context())
        outcome = run_prune(two_chains.context())
        assert list(outcome.deleted) == [gone.id for gone in plan.retention.drop]
        assert len(outcome.deleted) == 2
        assert outcome.removed_logs > 0
        assert [row["type"] for row in list_backups(two_chains.context())] == ["full", "incremental"]
        assert run_verify(two_chains.context()).sound

    def test_a_dry_run_removes_nothing(self, two_chains: World) -> None:
        assert run_prune(two_chains.context(), dry_run=True).deleted == ()
        assert len(list_backups(two_chains.context())) == 4

    def test_an_empty_retention_removes_nothing_and_says_so(self, two_chains: World) -> None:
        del two_chains.policy["retention"]
        with pytest.raises(Refused) as caught:
            run_prune(two_chains.context())
        assert caught.value.exit_status == 4

    def test_a_suspect_passive_keeps_the_older_chains(self, two_chains: World) -> None:
        two_chains.writer.mark_suspect("a page was bad")
        with pytest.raises(Refused, match="no backup of orders is pruned"):
            run_prune(two_chains.context())

    @pytest.mark.parametrize("part", ["/", "/backup/", "/data/", "/log/"])
    def test_what_the_archive_keeps_for_now_is_later_and_no_failure(
        self, two_chains: World, part: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Object Lock, or a role that may not delete."""
        delete = LocalStore.delete

        def keep(store: LocalStore, name: str) -> None:
            if part in name:
                raise KeptByLock(f"{name} stays", because="it is locked", next_step="wait", object=name)
            delete(store, name)

        whole = {row["id"] for row in list_backups(two_chains.context())}
        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "delete", keep)
            outcome = run_prune(two_chains.context())
            assert run_backup(two_chains.context(), BackupType.FULL).plan.type is BackupType.FULL
        if part in {"/", "/backup/"}:
            assert outcome.deleted == ()
            assert "removed later: it is locked" in outcome.notes[-1]
            assert whole <= {row["id"] for row in list_backups(two_chains.context())}
        else:
            assert len(outcome.deleted) == 2
            assert any("removed later: it is locked" in note for note in outcome.notes)
        run_prune(two_chains.context())
        run_recover(two_chains.context())
        assert run_verify(two_chains.context()).sound
        assert not two_chains.context().archive().orphans()

    def test_a_suspiciously_large_prune_wants_a_yes(self, two_chains: World) -> None:
        for _ in range(10):
            run_backup(two_chains.context(), BackupType.FULL)
            two_chains.clock.sleep(60)
        with pytest.raises(Refused, match="would remove 13 of 14 backups") as refused:
            run_prune(two_chains.context())
        assert "repeat it with --yes" in refused.value.next_step
        assert len(run_prune(two_chains.context(), yes=True).deleted) == 13

    def test_a_held_backup_stays_with_what_it_builds_on(self, two_chains: World) -> None:
        held = list_backups(two_chains.context())[1]["id"]
        assert isinstance(held, str)
        hold = hold_backup(two_chains.context(), held, "  for the\nauditor ", "ann")
        assert backup_holds(two_chains.context()) == (hold,)
        assert run_prune(two_chains.context()).deleted == ()
        reasons = plan_prune(two_chains.context()).to_json()["keep"]
        assert "ann holds it since 2026-11-22: for the auditor" in str(reasons)
        release_backup(two_chains.context(), held, dry_run=True)
        assert release_backup(two_chains.context(), held) == hold
        assert len(run_prune(two_chains.context()).deleted) == 2

    def test_a_hold_without_a_reason_is_refused(self, two_chains: World) -> None:
        with pytest.raises(UsageProblem):
            hold_backup(two_chains.context(), str(list_backups(two_chains.context())[0]["id"]), " ", "ann")
        assert backup_holds(two_chains.context()) == ()


class TestRecover:
    def test_with_nothing_left_it_says_nothing(self, two_chains: World) -> None:
        assert run_recover(two_chains.context()) == ()

    def test_an_open_run_is_ended(self, two_chains: World) -> None:
        context = two_chains.context()
        context.journal.begin_run(database="orders", kind=RunKind.BACKUP, type="full")
        assert len(run_recover(context)) == 1
        assert context.journal.in_progress() == []

    def test_a_run_stays_open_while_the_archive_is_away(self, two_chains: World) -> None:
        context = two_chains.context()
        run = context.journal.begin_run(
            database="orders", kind=RunKind.BACKUP, type="full", label="20261122T010000Z-F-00000000"
        )
        from backupd.model.states import RunEvent

        context.journal.move(run.id, RunEvent.PREPARE)
        shutil.move(two_chains.backups, two_chains.root / "away")
        assert "could not be ended yet" in run_recover(two_chains.context())[0]
        assert len(context.journal.in_progress()) == 1
        shutil.move(two_chains.root / "away", two_chains.backups)
        run_recover(two_chains.context())
        assert context.journal.in_progress() == []


class TestStatus:
    def test_the_keys_that_scripts_rely_on(self, two_chains: World) -> None:
        status = status_of(two_chains.context())
        assert set(status) >= {
            *("name", "engine", "copies", "last_full", "last_incremental", "recovery_window", "alarms")
        }
        copy_keys = {"name", "role", "state", "copy_queue_logs", "replay_queue_logs", "held_log_bytes"}
        assert all(set(copy) >= copy_keys for copy in status["copies"])  # type: ignore[union-attr, arg-type]
        assert set(status["recovery_window"]) >= {"from", "to"}  # type: ignore[arg-type]
        assert status["alarms"] == []
        assert list(status_json([status])) == ["databases"]

    def test_without_a_backup_that_is_the_alarm(self, world: World) -> None:
        alarms = status_of(world.context())["alarms"]
        assert any("no full backup yet" in str(alarm) for alarm in alarms)  # type: ignore[union-attr]

    def test_an_archive_that_is_away_is_an_alarm_and_the_rest_still_shows(self, two_chains: World) -> None:
        before = status_of(two_chains.context())
        shutil.move(two_chains.backups, two_chains.root / "away")
        status = status_of(two_chains.context())
        assert status["last_full"] == before["last_full"]
        assert any("archive" in str(alarm) for alarm in status["alarms"])  # type: ignore[union-attr]

    def test_an_archive_that_is_suddenly_empty_is_an_alarm(self, two_chains: World) -> None:
        shutil.move(two_chains.backups, two_chains.root / "away")
        two_chains.backups.mkdir()
        alarms = status_of(two_chains.context())["alarms"]
        assert any("empty now" in str(alarm) for alarm in alarms)  # type: ignore[union-attr]

    def test_a_damaged_backup_is_an_alarm(self, two_chains: World) -> None:
        harm_a_segment(two_chains)
        run_verify(two_chains.context())
        alarms = status_of(two_chains.context())["alarms"]
        assert any("damaged" in str(alarm) for alarm in alarms)  # type: ignore[union-attr]


class TestCheck:
    def test_a_world_in_order_is_fit(self, world: World) -> None:
        result = run_check(world.context())
        assert result.ok, result.to_json()
        assert result.exit_status == 0

    def test_everything_that_is_wrong_is_named_at_once(self, world: World) -> None:
        world.writer.suspend("maintenance")
        shutil.rmtree(world.backups)
        world.backups.write_text("a file")
        result = run_check(world.context())
        wrong = {finding.name: finding for finding in result.findings if not finding.ok}
        assert set(wrong) == {"archive", "replication"}
        assert wrong["replication"].next_step == "backupctl copy resume orders"
        assert result.exit_status == 8

    def test_an_archive_that_is_nearly_full_is_named(self, two_chains: World) -> None:
        two_chains.archive_free_bytes = 100
        result = run_check(two_chains.context())
        assert [finding.name for finding in result.findings if not finding.ok] == ["space in the archive"]
        assert result.exit_status == 8


class TestCopies:
    def test_suspend_resume_and_seed(self, world: World) -> None:
        assert "resume" in suspend(world.context(), "maintenance")
        assert world.writer.state["passive"] == "suspended"
        resume(world.context())
        world.writer.mark_suspect("a page was bad")
        assert any("healthy" in note for note in seed(world.context()))
        assert world.writer.content("a") == world.writer.content("b")
