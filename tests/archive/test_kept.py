"""What a store does not let go yet (Object Lock, a role that may not delete) is later, and stands in nobody's way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from backupd.archive.database import DatabaseArchive
from backupd.archive.verify import Level, verify_database
from backupd.errors import KeptByLock
from backupd.model.records import BackupType
from tests.archive_builders import ObedientClock, open_archive, take_full, take_logs, write_log, write_pages
from tests.fakes_store import MemoryStore


class KeepingStore(MemoryStore):
    """Keeps every object with one of ``kept`` in its name."""

    kept: tuple[str, ...] = ()

    def delete(self, name: str) -> None:
        if any(part in name for part in self.kept):
            raise KeptByLock(f"{name} stays", because="a test locked it", next_step="unlock it", object=name)
        super().delete(name)


class KeepingInBulk(KeepingStore):
    """The same, in one request for many."""

    def delete_many(self, names: Sequence[str]) -> Sequence[KeptByLock]:
        kept = []
        for name in names:
            try:
                self.delete(name)
            except KeptByLock as problem:
                kept.append(problem)
        return kept


@pytest.fixture(params=[KeepingStore, KeepingInBulk])
def store(request: pytest.FixtureRequest) -> KeepingStore:
    made: KeepingStore = request.param()
    return made


@pytest.fixture
def archive(store: KeepingStore) -> DatabaseArchive:
    return open_archive(store, ObedientClock())


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    return write_pages(tmp_path / "app.db", 40)


def below(store: MemoryStore, archive: DatabaseArchive, prefix: str) -> list[str]:
    return [each.name for each in store.list(f"db/{archive.dbid}/{prefix}")]


def listed(archive: DatabaseArchive) -> list[str]:
    return [backup.record.id for backup in archive.list().backups]


def test_a_role_that_may_not_delete_leaves_everything_as_it_was(
    store: KeepingStore, archive: DatabaseArchive, pages: Path
) -> None:
    full = take_full(archive, pages, 0)
    before = dict(store.objects)
    store.kept = ("/",)
    with pytest.raises(KeptByLock):
        archive.delete_backup(full.record.id, reason="test")
    assert store.objects == before, "no tomb, which would stop every backup"
    newer = take_full(archive, pages, 10)
    assert listed(archive) == [full.record.id, newer.record.id]
    assert not archive.sweep(holding_lease=True).sentences, "an intent that stays behind is nobody's business"
    store.kept = ()
    archive.delete_backup(full.record.id, reason="test")
    archive.sweep(holding_lease=True)
    assert not below(store, archive, "intent/")
    assert verify_database(archive, Level.DATA).sound


def test_a_locked_record_keeps_its_backup_whole(store: KeepingStore, archive: DatabaseArchive, pages: Path) -> None:
    full = take_full(archive, pages, 0)
    store.kept = ("/backup/",)
    with pytest.raises(KeptByLock):
        archive.delete_backup(full.record.id, reason="test")
    assert listed(archive) == [full.record.id]
    assert not below(store, archive, "tomb/")
    assert verify_database(archive, Level.DATA).sound
    take_full(archive, pages, 10)


@pytest.mark.parametrize("part", ["/data/", "/map/", "/verify/", "/log/"])
def test_locked_parts_go_later_and_stop_no_backup(
    store: KeepingStore, archive: DatabaseArchive, pages: Path, tmp_path: Path, part: str
) -> None:
    full = take_full(archive, pages, 0)
    increment = take_logs(archive, full, [write_log(tmp_path, number) for number in (1, 2)])
    take_full(archive, pages, 20)
    for each in (full, increment):
        name = f"db/{archive.dbid}/verify/{each.record.id}/20261122T010000Z-00000000.json"
        store.create(name, [b"a verdict"])
    store.kept = (part,)
    for each in (increment, full):
        archive.delete_backup(each.record.id, reason="test")
    assert len(listed(archive)) == 1
    assert not below(store, archive, "tomb/")
    assert below(store, archive, part[1:])
    assert not archive.orphans(), "a note explains them"
    archive.begin(BackupType.FULL, parent=None).withdraw()
    archive.sweep(holding_lease=True)
    assert not archive.orphans()

    store.kept = ()
    archive.sweep(holding_lease=True)
    archive.prune_logs(reason="test")
    alive = listed(archive)[0]
    assert all(alive in name for prefix in ("data/", "map/") for name in below(store, archive, prefix))
    assert not below(store, archive, "log/")
    assert not below(store, archive, "verify/")
    assert verify_database(archive, Level.DATA).sound


def test_a_dead_backup_whose_parts_are_locked_is_fenced_all_the_same(
    store: KeepingStore, archive: DatabaseArchive, pages: Path, tmp_path: Path
) -> None:
    full = take_full(archive, pages, 0)
    store.kept = ("/data/", "/log/", "/intent/")
    backup = archive.begin(BackupType.INCREMENTAL, parent=full)
    backup.put_log(*write_log(tmp_path, 1))
    backup.abort("a test gave it up")
    dead = archive.begin(BackupType.INCREMENTAL, parent=full)
    swept = archive.sweep(holding_lease=True)
    assert swept.aborted == [dead.label]
    assert "later" in swept.sentences[0]
    assert take_full(archive, pages, 10).record.id in listed(archive)
