"""How many requests whole runs ask of a store: what contrib/costs.md reckons with, and a bound that may only shrink."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from backupd.archive.local import LocalStore
from backupd.model.records import BackupType
from backupd.ports import StoredObject
from backupd.runs.backup import run_backup
from backupd.runs.listing import list_backups
from backupd.runs.prune import plan_prune, run_prune
from tests.runs import world as worlds
from tests.runs.world import World

asked: Counter[str] = Counter()


class CountingStore(LocalStore):
    """A directory that counts what a bucket would be asked (no listing here is longer than a page)."""

    def create(
        self, name: str, pieces: Iterable[bytes | memoryview], *, retain_until: datetime | None = None
    ) -> StoredObject:
        asked["PUT"] += 1
        return super().create(name, pieces, retain_until=retain_until)

    def read(self, name: str) -> Iterator[bytes]:
        asked["GET"] += 1
        return super().read(name)

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        asked["GET"] += 1
        return super().read_range(name, offset, length)

    def stat(self, name: str) -> StoredObject:
        asked["HEAD"] += 1
        return super().stat(name)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        asked["LIST"] += 1
        return super().list(prefix)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(worlds, "LocalStore", CountingStore)
    made = World(tmp_path / "world")
    made.policy["retention"] = {"keep_fulls_min": 2}
    return made


def chains(world: World, count: int) -> None:
    for number in range(count):
        for kind in (BackupType.FULL, *[BackupType.INCREMENTAL] * 6):
            world.writer.commit(f"{kind} of {number}")
            run_backup(world.context(), kind)
            world.clock.sleep(86400)


def counted(act: Callable[[], Any]) -> Counter[str]:
    asked.clear()
    act()
    return Counter(asked)


@pytest.mark.slow
def test_what_runs_ask_for_grows_with_the_records_only(world: World) -> None:
    told = []
    for number in (1, 1):
        chains(world, number)
        world.writer.commit("more")
        told.append(
            {
                "list": counted(lambda: list_backups(world.context())),
                "prune --dry-run": counted(lambda: plan_prune(world.context())),
                "prune, nothing to do": counted(lambda: run_prune(world.context())),
                "incremental": counted(lambda: run_backup(world.context(), BackupType.INCREMENTAL)),
            }
        )
    few, many = told
    records_more = 8  # a chain of seven, and the incremental at its end
    bounds = {"list": (3, 1), "prune --dry-run": (4, 1), "prune, nothing to do": (39, 4), "incremental": (43, 4)}
    for what, (lists, gets_per_record) in bounds.items():
        assert few[what]["LIST"] == many[what]["LIST"] <= lists, what
        assert many[what]["GET"] - few[what]["GET"] <= gets_per_record * records_more, what
        assert few[what]["PUT"] == many[what]["PUT"], what
    chains(world, 1)
    pruned = counted(lambda: run_prune(world.context(), yes=True))
    assert pruned["LIST"] <= 126, pruned
    assert pruned["GET"] <= 4 * len(list_backups(world.context())) + 66, pruned
