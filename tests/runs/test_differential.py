"""Differentials after the log since the full has left the copies: they name what other backups have stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.decide.restore_path import RestoreWish
from backupd.errors import DamageFound, NotHealthy
from backupd.model.position import Position
from backupd.model.records import BackupRecord, BackupType
from backupd.ports import ClosedLog
from backupd.runs.backup import run_backup
from backupd.runs.listing import list_backups
from backupd.runs.restore import run_restore
from backupd.runs.restore_plan import plan_restore
from tests.runs.world import World


def backup(world: World, kind: BackupType) -> BackupRecord:
    record = run_backup(world.context(), kind).record
    assert record is not None
    return record


@pytest.fixture
def let_go(world: World) -> World:
    """A full, an incremental that let its log go, and something newer."""
    backup(world, BackupType.FULL)
    world.writer.commit("one")
    incremental = backup(world, BackupType.INCREMENTAL)
    world.writer.commit("two")
    assert min(log.start for log, _ in world.writer.logs("b")) == incremental.log_end
    return world


def test_a_differential_names_the_log_that_an_incremental_has_stored(let_go: World) -> None:
    differential = backup(let_go, BackupType.DIFFERENTIAL)
    [full, incremental, _] = let_go.context().archive().list().backups
    assert differential.type is BackupType.DIFFERENTIAL
    assert differential.parent == full.record.id
    assert differential.log_start == full.record.log_end
    assert differential.logs[: len(incremental.record.logs)] == incremental.record.logs
    assert len(differential.logs) > len(incremental.record.logs)
    assert differential.logs[-1].log.end == differential.log_end
    assert f"{len(incremental.record.logs)} log files are named that other" in " ".join(differential.notes)
    assert differential.stored_bytes == sum(
        one.stored_bytes for one in differential.logs[len(incremental.record.logs) :]
    )


@pytest.mark.parametrize("gone", ["deleted", "cut"])
def test_it_is_restored_without_the_incremental(let_go: World, gone: str) -> None:
    differential = backup(let_go, BackupType.DIFFERENTIAL)
    archive = let_go.context().archive()
    incremental = archive.list().backups[1].record
    if gone == "deleted":
        archive.delete_backup(incremental.id, reason="a test")
        archive.prune_logs(reason="a test")
    else:
        record = next(let_go.backups.glob(f"db/*/backup/{incremental.id}"))
        record.chmod(0o600)
        record.write_bytes(record.read_bytes()[:-9])
    plan = plan_restore(let_go.context(), RestoreWish.of_backup(differential.id), str(let_go.root / "out"))
    run_restore(let_go.context(), plan)
    assert (let_go.root / "out" / "app.db").read_bytes() == let_go.writer.content("a")


def test_nothing_new_still_names_the_whole_log(let_go: World) -> None:
    first = backup(let_go, BackupType.DIFFERENTIAL)
    second = backup(let_go, BackupType.DIFFERENTIAL)
    assert second.logs[: len(first.logs)] == first.logs
    assert second.log_start == first.log_start


@pytest.mark.parametrize("harm", ["flipped", "missing"])
def test_log_that_is_lent_is_read_back_before_the_commit(let_go: World, harm: str) -> None:
    incremental = let_go.context().archive().list().backups[1].record
    stored = let_go.backups / incremental.logs[0].name
    stored.chmod(0o600)
    if harm == "missing":
        stored.unlink()
    else:
        data = bytearray(stored.read_bytes())
        data[len(data) // 2] ^= 1
        stored.write_bytes(data)
    with pytest.raises(DamageFound) as caught:
        backup(let_go, BackupType.DIFFERENTIAL)
    assert stored.name in caught.value.problem
    assert "--type full" in caught.value.next_step
    assert [row["type"] for row in list_backups(let_go.context())] == ["full", "incremental"]
    assert let_go.writer.state["passive"] == "healthy", "the archive is damaged, not the passive"


def test_log_of_the_copies_that_does_not_continue_the_lent_log_is_not_joined_to_it(
    let_go: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = let_go.writer.closed_logs

    def another(after: Position, until: Position) -> list[ClosedLog]:
        first, *rest = honest(after, until)
        return [ClosedLog(replace(first.log, previous_digest="0" * 64), first.path), *rest]

    monkeypatch.setattr(let_go.writer, "closed_logs", another)
    with pytest.raises(NotHealthy, match="does not continue"):
        backup(let_go, BackupType.DIFFERENTIAL)
    assert len(list_backups(let_go.context())) == 2
