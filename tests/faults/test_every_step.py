"""Fails, then kills, a run at its first step, its second, ... until it passes; the promises hold after each."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from backupd import steps
from backupd.archive import names
from backupd.archive.database import DatabaseArchive
from backupd.archive.verify import Level, verify_database
from backupd.decide.chains import archived_end
from backupd.decide.restore_path import RestoreWish
from backupd.errors import BackupdError, NotFound
from backupd.model.records import ArchivedBackup, BackupType
from backupd.runs.backup import run_backup
from backupd.runs.context import RunContext
from backupd.runs.copy_archive import run_copy_archive
from backupd.runs.prune import run_prune
from backupd.runs.recover import run_recover
from backupd.runs.restore import run_restore
from backupd.runs.restore_plan import plan_restore
from backupd.runs.second_archive import copy_queue, wants_both
from backupd.runs.truncate import run_truncate
from tests.dying import dies_at
from tests.runs.world import World

STEPS_MAX = 400


@dataclass(frozen=True)
class Story:
    """What is prepared, and the run that is broken; ``archives_min``: there is a second archive, too."""

    prepare: Callable[[World], None]
    act: Callable[[World], None]
    archives_min: int = 0


def _backup(kind: BackupType) -> Callable[[World], None]:
    def act(world: World) -> None:
        run_backup(world.context(), kind)

    return act


def _a_full_and_more(world: World) -> None:
    world.writer.commit("one")
    run_backup(world.context(), BackupType.FULL)
    world.writer.commit("two")
    world.writer.commit("three")


def _chain(world: World) -> None:
    _a_full_and_more(world)
    run_backup(world.context(), BackupType.INCREMENTAL)
    world.writer.commit("four")


def _two_fulls(world: World) -> None:
    _chain(world)
    run_backup(world.context(), BackupType.FULL)
    world.writer.commit("five")


def _held_log(world: World) -> None:
    world.policy["truncation"] = {"enabled": False}
    _chain(world)
    world.policy["truncation"] = {"enabled": True}


def _restore(target: str) -> Callable[[World], None]:
    def act(world: World) -> None:
        context = world.context()
        place = str(world.root / target) if target == "out" else target
        run_restore(context, plan_restore(context, RestoreWish.latest(), place))

    return act


def _to_be_copied(world: World) -> None:
    """A chain, one backup of it in the second archive, and all log on the copies until both hold it."""
    _a_full_and_more(world)
    second = world.policy.pop("second_archive")
    world.policy["truncation"] = {"enabled": False}
    run_backup(world.context(), BackupType.INCREMENTAL)
    world.writer.commit("four")
    run_backup(world.context(), BackupType.FULL)
    world.policy["truncation"] = {"enabled": True}
    world.policy["second_archive"] = second


def _prune_the_second(world: World) -> None:
    second = world.context().second
    assert second is not None
    run_prune(second)


STORIES = {
    "full": Story(lambda world: None, _backup(BackupType.FULL)),
    "second full": Story(_chain, _backup(BackupType.FULL)),
    "incremental": Story(_a_full_and_more, _backup(BackupType.INCREMENTAL)),
    "differential": Story(_held_log, _backup(BackupType.DIFFERENTIAL)),
    "truncate": Story(_held_log, lambda world: void(run_truncate(world.context()))),
    "prune": Story(_two_fulls, lambda world: void(run_prune(world.context()))),
    "copy to the second archive": Story(_to_be_copied, lambda world: void(run_copy_archive(world.context())), 2),
    "full with a second archive": Story(_chain, _backup(BackupType.FULL), 2),
    "truncate with a second archive": Story(_held_log, lambda world: void(run_truncate(world.context())), 2),
    "prune of the second archive": Story(_two_fulls, _prune_the_second, 1),
    "restore to the active": Story(_chain, _restore("active")),
    "restore to a directory": Story(_chain, _restore("out")),
}


def void(_: object) -> None:
    """Forget an answer."""


# The quick suite takes the two runs that have most to lose; `make test-all` takes them all.
QUICK = {"full"}


@pytest.fixture(
    params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(STORIES)]
)
def story(request: pytest.FixtureRequest) -> Story:
    return STORIES[request.param]


def test_failing_at_every_step_keeps_the_promises(story: Story, tmp_path: Path) -> None:
    base = prepared(story, tmp_path)
    for number in range(1, STEPS_MAX):
        world = again(base, tmp_path / f"fail-{number}", story)
        before = allowed_contents(world)
        steps.arm("fail", number)
        failed = True
        with suppress(BackupdError):
            story.act(world)
            failed = False
        reached = steps.disarm() >= number
        world.clock.sleep(60)
        judge(world, before, f"failing at step {number}")
        shutil.rmtree(world.root)
        if not failed and not reached:
            assert number > 10, "hardly any step was counted"
            return
    pytest.fail("the run never passed")


def test_dying_at_every_step_keeps_the_promises(story: Story, tmp_path: Path) -> None:
    base = prepared(story, tmp_path)
    for number in range(1, STEPS_MAX):
        world = again(base, tmp_path / f"die-{number}", story)
        before = allowed_contents(world)
        died = dies_at(number, partial(story.act, world))
        world.clock.sleep(60)
        judge(world, before, f"dying at step {number}")
        shutil.rmtree(world.root)
        if not died:
            assert number > 10, "hardly any step was counted"
            return
    pytest.fail("the run never passed")


def test_a_fault_from_the_environment_kills_a_real_process(tmp_path: Path) -> None:
    base = prepared(STORIES["full"], tmp_path)
    world = again(base, tmp_path / "environment", STORIES["full"])
    program = (
        "from pathlib import Path; from tests.runs.world import World; from backupd.runs.backup import run_backup;"
        " from backupd.model.records import BackupType;"
        f" run_backup(World(Path({str(world.root)!r})).context(), BackupType.FULL)"
    )
    trace = tmp_path / "trace"
    faults = {"BACKUPD_FAULT": "die:1@provider.taken", "BACKUPD_STEP_TRACE": str(trace)}
    environment = {**os.environ, **faults, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert trace.read_text().splitlines()[-1].endswith("provider.taken")
    world.clock.sleep(60)
    judge(world, {world.writer.content("a")}, "dying while frozen")


def prepared(story: Story, tmp_path: Path) -> Path:
    """The world before the run, to be copied for each step."""
    world = World(tmp_path / "base")
    if story.archives_min:
        world.with_second(story.archives_min)
    world.writer.commit("zero")
    story.prepare(world)
    return world.root


def again(base: Path, root: Path, story: Story) -> World:
    """The same world once more, some time later."""
    shutil.copytree(base, root)
    world = World(root)
    if story.archives_min:
        world.with_second(story.archives_min)
    world.clock.sleep(3600)
    return world


def allowed_contents(world: World) -> set[bytes]:
    """What the active may hold whatever happens: what it holds now, or the newest restorable state."""
    contents = {world.writer.content("a")}
    context = world.context()
    with suppress(BackupdError):
        plan = plan_restore(context, RestoreWish.latest(), str(world.root / "expected"))
        run_restore(context, plan)
        contents.add((world.root / "expected" / "app.db").read_bytes())
    return contents


def judge(world: World, before: set[bytes], when: str) -> None:
    """The promises right after the fault, after recovery, and the next run."""
    assert not world.writer.frozen(), when
    assert world.writer.content("a") in before, f"{when}: the live file is neither old nor new"
    archive_is_whole(world, when)
    log_is_safe(world, when)
    run_recover(world.context())
    nothing_is_left(world, when)
    assert run_recover(world.context()) == (), f"{when}: recovery is not finished by one call"
    archive_is_whole(world, when)
    next_run_works(world, when)


def archive_is_whole(world: World, when: str) -> None:
    """Whatever is listed can be restored: each byte of it is there and right."""
    for context in both(world):
        with suppress(BackupdError):
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
        with suppress(BackupdError):
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
    with suppress(BackupdError):
        archive = context.archive()
        assert list(archive.store.list(names.intents_prefix(archive.dbid))) == [], when
        assert list(archive.store.list(names.tombs_prefix(archive.dbid))) == [], when
        assert archive.orphans() == (), when
    if context.second is not None:
        with suppress(NotFound):
            nothing_is_left_there(context.archive(), context.second.archive(), when)


def nothing_is_left_there(first: DatabaseArchive, second: DatabaseArchive, when: str) -> None:
    """In the second archive a half-done copy may wait for the next one, under the note that names it."""
    to_copy = set(first.list().by_id()) - set(second.list().by_id())
    waiting = [each.name for each in second.store.list(names.intents_prefix(second.dbid))]
    assert {names.label_in(name) for name in waiting} <= to_copy, when
    assert all(names.is_copy_intent(name) for name in waiting), when
    assert list(second.store.list(names.tombs_prefix(second.dbid))) == [], when
    assert second.orphans() == (), when


def next_run_works(world: World, when: str) -> None:
    world.writer.commit("after")
    outcome = run_backup(world.context(), BackupType.INCREMENTAL)
    assert outcome.record is not None, when
    for number, context in enumerate(both(world)):
        proof = world.root / f"proof-{number}"
        run_restore(context, plan_restore(context, RestoreWish.latest(), str(proof)))
        assert (proof / "app.db").read_bytes() == world.writer.content("a"), when
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
