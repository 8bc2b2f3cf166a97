"""What a host that dies again and again leaves in its archive is named and bounded, and goes in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.model.records import BackupType
from backupd.runs.backup import run_backup
from backupd.runs.prune import run_prune
from backupd.runs.recover import run_recover
from tests.dying import dies_at
from tests.faults.garbage import garbage
from tests.faults.promises import archive_is_clean
from tests.runs.world import World
from tests.s3_buckets import Bucket
from tests.s3_servers import keys_of_nobody, memory_process

pytestmark = pytest.mark.slow
DAY_SECONDS = 86400.0


@pytest.fixture(params=["directory", "s3"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "directory":
        yield World(tmp_path / "world")
        return
    with keys_of_nobody(), memory_process() as server:
        yield World(tmp_path / "world", elsewhere=Bucket.made(server))


def full(world: World) -> None:
    run_backup(world.context(), BackupType.FULL)


def test_runs_that_die_one_after_the_other_leave_little(world: World) -> None:
    world.writer.commit("zero")
    full(world)
    died = 0
    for number in range(5, 90, 4):
        world.writer.commit(f"before step {number}")
        died += dies_at(number, lambda: full(world))
        world.clock.sleep(3600)
    assert died > 12
    run_recover(world.context())
    archive_is_clean(world, "at the end", deaths=died)
    assert garbage(world.context().archive())["abort"] > 5, "hardly any run had begun a backup"
    world.clock.sleep(31 * DAY_SECONDS)
    world.writer.commit("much later")
    full(world)
    run_prune(world.context(), yes=True)
    run_recover(world.context())
    assert garbage(world.context().archive()) == {"lease": 1}
