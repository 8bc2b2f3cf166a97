"""What a restore in place looks at before it gives anything up: every object that it will read, by name and length."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.decide.restore_path import RestorePath, RestoreWish
from backupd.errors import DamageFound, ObjectMissing
from backupd.model.records import BackupType
from backupd.ports import ObjectStore
from backupd.runs.backup import run_backup
from backupd.runs.needed import refuse_missing
from backupd.runs.restore_plan import plan_restore
from tests.runs.world import World


@pytest.fixture
def chain(world: World) -> World:
    """A full, then an incremental."""
    run_backup(world.context(), BackupType.FULL)
    world.writer.commit("one")
    run_backup(world.context(), BackupType.INCREMENTAL)
    return world


def looked(world: World) -> tuple[ObjectStore, RestorePath]:
    context = world.context()
    plan = plan_restore(context, RestoreWish.latest(), str(world.root / "out"))
    return context.archive().store, plan.route


def objects(world: World, route: RestorePath) -> list[Path]:
    """The files of all that the route reads."""
    files = [file for backup in route.pages_from for file in backup.record.files]
    parts = [segment.name for file in files for segment in file.segments]
    parts += [file.map.name for file in files] + [log.name for log in route.logs]
    found = [path for path in world.root.rglob("*") if any(str(path).endswith(name) for name in parts)]
    assert len(found) == len(parts) > 2
    return found


def test_a_whole_chain_is_not_refused(chain: World) -> None:
    refuse_missing(*looked(chain))


def test_each_object_that_is_gone_or_cut_is_seen(chain: World) -> None:
    store, route = looked(chain)
    for path in objects(chain, route):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(ObjectMissing, match="has no object"):
            refuse_missing(store, route)
        path.write_bytes(whole[:-1])
        with pytest.raises(DamageFound):
            refuse_missing(store, route)
        path.write_bytes(whole)
    refuse_missing(store, route)
