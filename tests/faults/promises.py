"""What must be true of a world after a fault: right after it, after recovery, and after the run that follows."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backupd.archive import names
from backupd.archive.database import DatabaseArchive
from backupd.archive.verify import Level, verify_database, verify_repository
from backupd.decide.chains import archived_end
from backupd.decide.restore_path import RestoreWish
from backupd.errors import NotFound
from backupd.model.records import ArchivedBackup, BackupType
from backupd.ports import ProbedStore
from backupd.runs.backup import run_backup
from backupd.runs.context import RunContext
from backupd.runs.recover import run_recover
from backupd.runs.restore import run_restore
from backupd.runs.restore_plan import plan_restore
from backupd.runs.second_archive import copy_queue, wants_both
from tests.faults.garbage import garbage_is_bounded_and_named
from tests.runs.world import World


@dataclass(frozen=True, slots=True)
class Before:
    """What the active may hold whatever happens, and what each backup restores to, by its id."""

    active: tuple[bytes, ...]
    backups: dict[str, bytes]


def before(world: World) -> Before:
    """The active may hold what it holds now, or the newest restorable state."""
    active = [world.writer.content("a")]
    with suppress(NotFound):
        active.append(restored(world.context(), RestoreWish.latest(), world.root / "expected"))
    backups: dict[str, bytes] = {}
    for context in both(world):
        backups |= contents(context, world.root / "expected")
    return Before(tuple(active), backups)


def restored(context: RunContext, wish: RestoreWish, target: Path) -> bytes:
    """The database file of such a restore."""
    run_restore(context, plan_restore(context, wish, str(target)))
    found = (target / "app.db").read_bytes()
    shutil.rmtree(target)
    return found


def contents(context: RunContext, target: Path) -> dict[str, bytes]:
    """What each listed backup restores to."""
    backups: tuple[ArchivedBackup, ...] = ()
    with suppress(NotFound):
        backups = context.archive().list().backups
    ids = [backup.record.id for backup in backups]
    return {id_: restored(context, RestoreWish.of_backup(id_), target) for id_ in ids}


def judge(world: World, was: Before, when: str, *, deaths: int = 1) -> None:
    """The promises right after the fault, after recovery, and the next run."""
    assert not world.writer.frozen(), when
    assert world.writer.content("a") in was.active, f"{when}: the live file is neither old nor new"
    archive_is_whole(world, when)
    log_is_safe(world, when)
    run_recover(world.context())
    nothing_is_left(world, when)
    assert run_recover(world.context()) == (), f"{when}: recovery is not finished by one call"
    everything_restores(world, was, when)
    archive_is_clean(world, when, deaths=deaths)
    next_run_works(world, when)
    archive_is_clean(world, when, Level.MANIFEST, deaths=deaths)


def everything_restores(world: World, was: Before, when: str) -> None:
    """Byte by byte to what it held before the fault; a backup that is new holds what the database holds."""
    for context in both(world):
        for id_, found in contents(context, world.root / "each").items():
            assert found == was.backups.get(id_, world.writer.content("a")), f"{when}: {id_} restores to other bytes"


def archive_is_clean(world: World, when: str, level: Level = Level.DATA, *, deaths: int = 1) -> None:
    """Verify finds nothing at all in the whole archive, and what lies beside the backups is what garbage.py names."""
    for context in both(world):
        with suppress(NotFound):
            archive = context.archive()
            assert verify_repository(archive.repository, level).findings == [], when
            garbage_is_bounded_and_named(archive, when, deaths=deaths)


def archive_is_whole(world: World, when: str) -> None:
    """Whatever is listed can be restored: each byte of it is there and right."""
    for context in both(world):
        with suppress(NotFound):
            archive = context.archive()
            listing = archive.list()
            assert not listing.findings, when
            ids = [backup.record.id for backup in listing.backups]
            assert not verify_database(archive, Level.DATA, backup_ids=ids).findings, when


def both(world: World) -> list[RunContext]:
    """The contexts of the archives: one, or two."""
    first = world.context()
    return [first] if first.second is None else [first, first.second]


def log_is_safe(world: World, when: str) -> None:
    """What a copy no longer holds, the archive holds without a gap from a full; so do both, where both must."""
    history = world.writer.state["history"]
    needed = both(world) if wants_both(world.context()) else [world.context()]
    ends = []
    for context in needed:
        backups: tuple[ArchivedBackup, ...] = ()
        with suppress(NotFound):
            backups = context.archive().list().backups
        ends.append(archived_end(backups, history))
    known = [end for end in ends if end is not None]
    end = min(known, key=lambda one: one.offset) if len(known) == len(ends) else None
    for copy in "ab":
        held = {log.number for log, _ in world.writer.logs(copy)}
        reached = world.writer.position(copy).offset
        gone = set(range(1, reached + 1)) - held
        if world.writer.state["passive"] == "healthy" and gone and history == "1" * 16:
            assert end is not None, f"{when}: copy {copy} lost log {gone}"
            assert max(gone) <= end.offset, f"{when}: copy {copy} lost log {gone}, archived up to {end}"


def nothing_is_left(world: World, when: str) -> None:
    context = world.context()
    assert context.journal.in_progress("orders") == [], when
    assert context.journal.holds("orders") == [], when
    passive = world.writer.db("b").parent
    assert world.provider.leftovers(passive) == [], when
    assert not list(world.root.rglob("*.stage")), when
    assert world.writer.state["restoring"] == "", when
    with suppress(NotFound):
        archive = context.archive()
        assert list(archive.store.list(names.intents_prefix(archive.dbid))) == [], when
        assert no_tomb_blocks(archive), when
    if context.second is not None:
        with suppress(NotFound):
            nothing_is_left_there(context.archive(), context.second.archive(), when)


def nothing_is_left_there(first: DatabaseArchive, second: DatabaseArchive, when: str) -> None:
    """In the second archive a half-done copy may wait for the next one, under the note that names it."""
    to_copy = set(first.list().by_id()) - set(second.list().by_id())
    waiting = [each.name for each in second.store.list(names.intents_prefix(second.dbid))]
    assert {names.label_in(name) for name in waiting} <= to_copy, when
    assert all(names.is_copy_intent(name) for name in waiting), when
    assert no_tomb_blocks(second), when


def no_tomb_blocks(archive: DatabaseArchive) -> bool:
    """In a bucket the order of a dead process stays for an hour, for its requests may arrive late; then it goes."""
    there = [each.name for each in archive.store.list(names.tombs_prefix(archive.dbid))]
    return not there or isinstance(archive.store, ProbedStore)


def next_run_works(world: World, when: str) -> None:
    world.writer.commit("after")
    outcome = run_backup(world.context(), BackupType.INCREMENTAL)
    assert outcome.record is not None, when
    for number, context in enumerate(both(world)):
        proof = restored(context, RestoreWish.latest(), world.root / f"proof-{number}")
        assert proof == world.writer.content("a"), when
    nothing_waits(world, when)


def nothing_waits(world: World, when: str) -> None:
    """The run that follows ends with a copy of all that the second archive lacks, and each note is gone."""
    context = world.context()
    if context.second is None:
        return
    queue = copy_queue(context)
    assert (queue.waiting, dict(queue.stuck)) == ((), {}), when
    second = context.second.archive()
    assert list(second.store.list(names.intents_prefix(second.dbid))) == [], when
