"""Runs to be broken at each of their steps, and what is prepared before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from backupd.decide.restore_path import RestoreWish
from backupd.model.records import BackupType
from backupd.runs.backup import run_backup
from backupd.runs.copy_archive import run_copy_archive
from backupd.runs.prune import run_prune
from backupd.runs.recover import run_recover
from backupd.runs.restore import run_restore
from backupd.runs.restore_plan import plan_restore
from backupd.runs.truncate import run_truncate
from tests.dying import dies_at
from tests.runs.world import World


@dataclass(frozen=True)
class Story:
    """What is prepared, and the run that is broken; ``archives_min``: there is a second archive, too.

    ``deaths``: how many runs have died when this one has.
    """

    prepare: Callable[[World], None]
    act: Callable[[World], None]
    archives_min: int = 0
    deaths: int = 1


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


def _held_log(world: World) -> None:
    world.policy["truncation"] = {"enabled": False}
    _chain(world)
    world.policy["truncation"] = {"enabled": True}


def _chain_and(kind: BackupType) -> Callable[[World], None]:
    """A full, an increment, another full of that kind, and more to store."""

    def prepare(world: World) -> None:
        _chain(world)
        run_backup(world.context(), kind)
        world.writer.commit("five")

    return prepare


_two_fulls, _expresses = _chain_and(BackupType.FULL), _chain_and(BackupType.EXPRESS)


def _expresses_only(world: World) -> None:
    _expresses(world)
    run_backup(world.context(), BackupType.EXPRESS)


def _rewritten(world: World) -> None:
    """So much is another that an express is given up half way, and a full taken."""
    _a_full_and_more(world)
    for number in range(12):
        world.writer.commit(f"rewrite {number}")


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


def _died(prepare: Callable[[World], None], act: Callable[[World], None], step: str) -> Callable[[World], None]:
    """Prepared, and a run that died at such a step."""

    def prepare_and_die(world: World) -> None:
        prepare(world)
        assert dies_at(1, partial(act, world), step)
        assert world.context().journal.in_progress("orders"), "there is nothing to recover"

    return prepare_and_die


def _prune(world: World) -> None:
    run_prune(world.context())


def _recover(world: World) -> None:
    run_recover(world.context())


STORIES = {
    "full": Story(lambda world: None, _backup(BackupType.FULL)),
    "second full": Story(_chain, _backup(BackupType.FULL)),
    "incremental": Story(_a_full_and_more, _backup(BackupType.INCREMENTAL)),
    "express": Story(_expresses, _backup(BackupType.EXPRESS)),
    # What was begun as an express is given up, too, when the full that follows it dies.
    "express that becomes a full": Story(_rewritten, _backup(BackupType.EXPRESS), deaths=2),
    "restore of an express": Story(_expresses_only, _restore("active")),
    "differential": Story(_held_log, _backup(BackupType.DIFFERENTIAL)),
    "truncate": Story(_held_log, lambda world: void(run_truncate(world.context()))),
    "prune": Story(_two_fulls, _prune),
    "recover of a dead full": Story(_died(_chain, _backup(BackupType.FULL), "archive.commit"), _recover, deaths=2),
    "recover of a dead prune": Story(_died(_two_fulls, _prune, "archive.delete"), _recover, deaths=2),
    "copy to the second archive": Story(_to_be_copied, lambda world: void(run_copy_archive(world.context())), 2),
    "full with a second archive": Story(_chain, _backup(BackupType.FULL), 2),
    "truncate with a second archive": Story(_held_log, lambda world: void(run_truncate(world.context())), 2),
    "prune of the second archive": Story(_two_fulls, _prune_the_second, 1),
    "restore to the active": Story(_chain, _restore("active")),
    "restore to a directory": Story(_chain, _restore("out")),
}


def void(_: object) -> None:
    """Forget an answer."""
