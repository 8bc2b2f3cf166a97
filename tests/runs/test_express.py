"""Express fulls of a fake pair: only what changed is stored, log is let go by them, and every state comes back."""

from __future__ import annotations

import pytest

from backupd.archive.verify import Level, verify_database
from backupd.decide.restore_path import RestoreWish
from backupd.errors import Refused
from backupd.model.records import BackupRecord, BackupType
from backupd.runs.backup import run_backup
from backupd.runs.backup_outcome import BackupOutcome
from backupd.runs.listing import list_backups
from backupd.runs.prune import run_prune
from backupd.runs.restore import run_restore
from backupd.runs.restore_plan import plan_restore
from backupd.runs.verify import run_verify
from tests.runs.world import World


def take(world: World, kind: BackupType = BackupType.EXPRESS) -> BackupRecord:
    record = outcome(world, kind).record
    assert record is not None
    return record


def outcome(world: World, kind: BackupType = BackupType.EXPRESS) -> BackupOutcome:
    return run_backup(world.context(), kind)


def restored(world: World, name: str, wish: RestoreWish | None = None) -> bytes:
    context = world.context()
    run_restore(context, plan_restore(context, wish or RestoreWish.latest(), str(world.root / name)))
    return (world.root / name / "app.db").read_bytes()


def test_a_week_of_express_fulls(world: World) -> None:
    full = take(world, BackupType.FULL)
    states = {full.id: world.writer.content("a")}
    before = full.id
    for day in range(5):
        world.writer.commit(f"day {day}")
        made = take(world)
        assert (made.type, made.parent) == (BackupType.EXPRESS, before)
        assert made.checked_pages == full.checked_pages, "every page is read and checked"
        (file,) = made.files
        assert file.express is not None
        assert file.express.stored_pages == 1
        before = made.id
        states[made.id] = world.writer.content("a")
    assert sorted(str(row["type"]) for row in list_backups(world.context())) == ["express"] * 5 + ["full"]
    for backup_id, content in states.items():
        assert restored(world, backup_id, RestoreWish.of_backup(backup_id)) == content
    assert run_verify(world.context()).sound
    assert verify_database(world.context().archive(), Level.DATA).findings == []


def test_increments_build_on_it_and_log_goes(world: World) -> None:
    take(world, BackupType.FULL)
    world.writer.commit("one")
    express = outcome(world)
    assert express.truncation is not None
    assert express.truncation.state == "truncated"
    world.writer.commit("two")
    increment = take(world, BackupType.INCREMENTAL)
    assert express.record is not None
    assert (increment.parent, increment.log_start) == (express.record.id, express.record.log_end)
    world.writer.commit("three")
    differential = take(world, BackupType.DIFFERENTIAL)
    assert differential.parent == express.record.id
    plan = plan_restore(world.context(), RestoreWish.latest(), str(world.root / "out"))
    assert plan.base == express.record.id
    assert restored(world, "out") == world.writer.content("a")


def test_any_moment_before_it_can_be_restored(world: World) -> None:
    """As a full, it holds the log between the last chain and itself."""
    take(world, BackupType.FULL)
    world.writer.commit("one")
    take(world, BackupType.INCREMENTAL)
    wanted = world.writer.commit("two")
    content = world.writer.content("a")
    world.writer.commit("three")
    take(world)
    assert restored(world, "between", RestoreWish.to_position(wanted)) == content


def test_without_a_full_it_is_one(world: World) -> None:
    made = outcome(world)
    assert made.plan.type is BackupType.FULL
    assert any("express without a full" in note for note in made.notes)


def test_when_most_pages_differ_it_becomes_a_full(world: World) -> None:
    full = take(world, BackupType.FULL)
    for number in range(12):
        world.writer.commit(f"rewrite {number}")
    made = outcome(world)
    assert made.record is not None
    assert (made.record.type, made.record.parent) == (BackupType.FULL, None)
    assert any("raised from express to full: at least" in note for note in made.record.notes)
    archive = world.context().archive()
    assert archive.orphans() == ()
    assert {backup.record.id for backup in archive.list().backups} == {full.id, made.record.id}
    world.policy["backup"] = {"raise_to_full": False}
    for number in range(12):
        world.writer.commit(f"again {number}")
    with pytest.raises(Refused, match="not worth it"):
        take(world)
    assert not world.writer.frozen()


def test_another_host_has_no_map_and_takes_a_full(world: World) -> None:
    take(world, BackupType.FULL)
    other = World(world.root, clock=world.clock, state="elsewhere")
    made = outcome(other)
    assert made.plan.type is BackupType.FULL
    assert any("is not on this host" in note for note in made.notes)


def test_a_damaged_map_costs_room_and_no_more(world: World) -> None:
    full = take(world, BackupType.FULL)
    (kept,) = (world.root / "state" / "orders" / "page-maps").glob("*.map")
    kept.write_bytes(kept.read_bytes()[:-3] + b"bad")
    world.writer.commit("one")
    made = take(world)
    assert made.type is BackupType.EXPRESS
    assert made.parent == full.id
    assert made.files[0].express is None
    assert any("is damaged on this host" in note for note in made.notes)
    assert restored(world, "out") == world.writer.content("a")


def test_damage_below_is_named_and_the_log_leads_around_it(world: World) -> None:
    full = take(world, BackupType.FULL)
    world.writer.commit("one")
    first = take(world)
    world.writer.commit("two")
    take(world)
    (segment,) = first.files[0].segments
    (world.backups / segment.name).unlink()
    found = run_verify(world.context())
    (finding,) = found.findings
    assert first.files[0].express is not None
    page, _ = first.files[0].express.spans[0]
    assert segment.name in finding
    assert f"pages {page} to {page}" in finding, "the page of the database, not its place among the stored ones"
    plan = plan_restore(world.context(), RestoreWish.latest(), str(world.root / "out"))
    assert plan.base == full.id, "by the log from the sound full"
    assert restored(world, "out") == world.writer.content("a")
    world.writer.commit("three")
    assert take(world).parent == full.id


def test_a_prune_keeps_what_an_express_needs(world: World) -> None:
    full = take(world, BackupType.FULL)
    world.writer.commit("one")
    take(world)
    run_prune(world.context())
    assert restored(world, "out") == world.writer.content("a")
    assert full.id in {backup.record.id for backup in world.context().archive().list().backups}
    with pytest.raises(Refused):
        world.context().archive().delete_backup(full.id, reason="a test wants it gone")


def test_copied_to_a_second_archive_after_what_it_builds_on(world: World) -> None:
    world.with_second()
    take(world, BackupType.FULL)
    world.writer.commit("one")
    take(world)
    second = world.context().second
    assert second is not None
    assert len(second.archive().list().backups) == 2
    run_restore(second, plan_restore(second, RestoreWish.latest(), str(world.root / "from-second")))
    assert (world.root / "from-second" / "app.db").read_bytes() == world.writer.content("a")
