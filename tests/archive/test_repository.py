"""A backup from its intent to its record, and what the archive says about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backupd.archive.local import LocalStore
from backupd.archive.repository import Repository
from backupd.archive.verdict import Verdict
from backupd.archive.verify import Level, verify_repository
from backupd.errors import Busy, DamageFound, NotFound, ObjectMissing, Refused
from backupd.model.position import Position
from backupd.model.records import BackupType
from backupd.pipeline.fetch import fetch_file
from backupd.pipeline.store import store_file
from backupd.ports import StoreFeature
from tests.archive_builders import (
    HISTORY,
    FileSource,
    ObedientClock,
    hashes_of,
    open_archive,
    record_of,
    take_full,
    take_logs,
    write_log,
    write_pages,
)
from tests.fakes_store import FailingStore, MemoryStore


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    return write_pages(tmp_path / "app.db", 100)


def test_an_archive_is_made_once_and_opened_again() -> None:
    store = MemoryStore()
    with pytest.raises(NotFound):
        Repository.open(store, ObedientClock())
    made = Repository.create(store, ObedientClock())
    assert Repository.create(store, ObedientClock()).uuid == made.uuid
    assert Repository.open(store, ObedientClock()).uuid == made.uuid


def test_the_archive_of_another_pair_refuses() -> None:
    store = MemoryStore()
    open_archive(store, identity="pair-1")
    with pytest.raises(Refused, match="another database named orders"):
        open_archive(store, identity="pair-2")
    assert open_archive(store, identity=None).name == "orders"
    with pytest.raises(NotFound):
        Repository.open(store, ObedientClock()).database("invoices", "sqlite", None)
    assert [each.database for each in Repository.open(store, ObedientClock()).databases()] == ["orders"]


def test_a_full_and_increments_come_back_byte_for_byte(tmp_path: Path, pages: Path) -> None:
    archive = open_archive(LocalStore.prepare(tmp_path / "archive"))
    full = take_full(archive, pages, 20)
    logs = [write_log(tmp_path, number) for number in (3, 4, 5)]
    first = take_logs(archive, full, logs[:2])
    second = take_logs(archive, first, logs[2:])
    listing = archive.list()
    assert [backup.record.id for backup in listing.backups] == [each.record.id for each in (full, first, second)]
    assert listing.findings == ()
    assert archive.get(second.record.id) == second
    assert [record.parent for record in (first.record, second.record)] == [full.record.id, first.record.id]

    (file,) = archive.get(full.record.id).record.files
    assert len(file.segments) > 2
    fetch_file(file, archive.store, tmp_path / "stage")
    assert (tmp_path / "stage").read_bytes() == pages.read_bytes()
    assert (tmp_path / "stage").stat().st_mode & 0o777 == 0o600
    assert (archive.load_map(file) == hashes_of(pages)).all()
    for stored, (_, path) in zip(first.record.logs, logs, strict=False):
        archive.fetch_log(stored, tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == path.read_bytes()
    assert verify_repository(archive.repository, Level.DATA).findings == []


def test_what_is_not_committed_is_not_listed(pages: Path) -> None:
    store = MemoryStore()
    archive = open_archive(store)
    backup = archive.begin(BackupType.FULL, parent=None)
    result = store_file(FileSource(pages), backup)
    assert archive.list().backups == ()
    backup.abort("the test ends it")
    backup.abort("and again")
    assert [each.reason for each in archive.list().aborted] == ["the test ends it"]
    assert result.file is not None
    position = Position(HISTORY, 0)
    with pytest.raises((Refused, RuntimeError)):
        backup.commit(record_of(backup, BackupType.FULL, position, position, files=(result.file,)))
    assert archive.list().backups == ()
    assert not list(store.list(f"db/{archive.dbid}/data"))
    with pytest.raises(NotFound, match=backup.label):
        archive.get(backup.label)


def test_a_fenced_backup_cannot_commit(pages: Path) -> None:
    store = MemoryStore()
    archive = open_archive(store)
    zombie = archive.begin(BackupType.FULL, parent=None)
    result = store_file(FileSource(pages), zombie)
    swept = open_archive(store).sweep(holding_lease=True)
    assert swept.aborted == [zombie.label]
    zombie._prover = type(zombie._prover)(store)
    assert result.file is not None
    position = Position(HISTORY, 0)
    with pytest.raises(Refused, match="given up"):
        zombie.commit(record_of(zombie, BackupType.FULL, position, position))
    assert archive.list().backups == ()


def test_a_lost_reply_to_the_commit_is_no_failure(tmp_path: Path) -> None:
    memory = MemoryStore()
    lose = {"armed": False}

    def fails(verb: str, name: str) -> bool:
        return lose["armed"] and verb == "reply" and "/backup/" in name

    archive = open_archive(FailingStore(memory, fails))
    backup = archive.begin(BackupType.FULL, parent=None)
    position = Position(HISTORY, 0)
    record = record_of(backup, BackupType.FULL, position, position)
    lose["armed"] = True
    with pytest.raises(Exception, match="reply"):
        backup.commit(record)
    lose["armed"] = False
    committed = backup.commit(record)
    assert archive.list().backups == (committed,)
    with pytest.raises(Refused, match="complete"):
        backup.abort("too late")


def test_what_was_stored_is_read_back_before_it_counts(tmp_path: Path, pages: Path) -> None:
    store = MemoryStore()
    archive = open_archive(store)
    backup = archive.begin(BackupType.FULL, parent=None)
    real_create = store.create

    def rotting(name: str, pieces: object, **_: object) -> object:
        stored = real_create(name, pieces)  # type: ignore[arg-type]
        if name.endswith("000001"):
            store.objects[name] = store.objects[name][:-1] + b"\0"
        return stored

    store.create = rotting  # type: ignore[assignment,method-assign]
    result = store_file(FileSource(pages), backup)
    assert result.file is not None
    position = Position(HISTORY, 0)
    with pytest.raises(DamageFound, match="000001"):
        backup.commit(record_of(backup, BackupType.FULL, position, position, files=(result.file,)))
    assert archive.list().backups == ()


def test_a_record_that_names_what_was_not_stored_is_a_bug(pages: Path) -> None:
    archive = open_archive(MemoryStore())
    full = take_full(archive, pages, 0)
    backup = archive.begin(BackupType.FULL, parent=None)
    with pytest.raises(ValueError, match="has not stored"):
        backup.commit(
            record_of(backup, BackupType.FULL, Position(HISTORY, 0), Position(HISTORY, 0), files=full.record.files)
        )


def test_a_log_file_is_stored_once_and_shared(tmp_path: Path, pages: Path) -> None:
    store = MemoryStore()
    archive = open_archive(store)
    full = take_full(archive, pages, 0)
    logs = [write_log(tmp_path, number) for number in (1, 2)]
    first = take_logs(archive, full, logs)
    count = len(store.objects)
    differential = take_logs(archive, full, logs, BackupType.DIFFERENTIAL)
    assert differential.record.logs == first.record.logs
    assert len(store.objects) == count + 1
    other, path = write_log(tmp_path, 2)
    path.write_bytes(b"another" * 100)
    changed = type(other)(**{**{f: getattr(other, f) for f in other.__dataclass_fields__}, "digest": "00" * 32})
    backup = archive.begin(BackupType.INCREMENTAL, parent=first)
    with pytest.raises(Refused, match="another log file 2"):
        backup.put_log(changed, path)


def test_a_log_file_whose_commits_nobody_could_read_at_first(tmp_path: Path, pages: Path) -> None:
    """As after a run that died, on a host without the server's programs, which are installed since."""
    archive = open_archive(MemoryStore())
    full = take_full(archive, pages, 0)
    log, path = write_log(tmp_path, 1)
    dead = archive.begin(BackupType.INCREMENTAL, parent=full)
    dead.put_log(replace(log, first_commit_at=None, last_commit_at=None), path)
    assert log.first_commit_at is not None
    (stored,) = take_logs(archive, full, [(log, path)]).record.logs
    assert stored.log.first_commit_at == log.first_commit_at
    archive.fetch_log(stored, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == path.read_bytes()


def test_fetching_a_missing_log_leaves_nothing(tmp_path: Path, pages: Path) -> None:
    store = MemoryStore()
    archive = open_archive(store)
    increment = take_logs(archive, take_full(archive, pages, 0), [write_log(tmp_path, 1)])
    (stored,) = increment.record.logs
    del store.objects[stored.name]
    with pytest.raises(ObjectMissing):
        archive.fetch_log(stored, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_labels_sort_as_backups_happened_though_the_clock_goes_back(pages: Path) -> None:
    clock = ObedientClock()
    archive = open_archive(MemoryStore(), clock)
    first = take_full(archive, pages, 0)
    clock.sleep(-3600)
    second = take_full(archive, pages, 1)
    assert first.record.id < second.record.id


def test_labels_sort_as_backups_happened_within_one_second(pages: Path) -> None:
    clock = ObedientClock()
    clock.sleep(0.25)
    archive = open_archive(MemoryStore(), clock)
    ids = []
    for _ in range(4):
        clock.sleep(0.01)
        ids.append(take_full(archive, pages, 0).record.id[:-9])
    assert len(set(ids)) == 4
    assert ids == sorted(ids)


def test_a_begun_backup_sees_a_deletion(pages: Path) -> None:
    store = MemoryStore()
    archive = open_archive(store)
    full = take_full(archive, pages, 0)
    archive.sealed.create("tomb", f"db/{archive.dbid}/tomb/{full.record.id}.json", {"logs": []})
    with pytest.raises(Refused, match="cannot be built on"):
        archive.begin(BackupType.INCREMENTAL, parent=full)
    with pytest.raises(Busy):
        archive.begin(BackupType.FULL, parent=None)
    assert not list(store.list(f"db/{archive.dbid}/intent"))


def test_verdicts_are_kept_beside_the_backup(pages: Path) -> None:
    clock = ObedientClock()
    archive = open_archive(MemoryStore(), clock)
    full = take_full(archive, pages, 0)
    verdict = Verdict(full.record.id, "verify", "data", clock.now(), False, ("a finding",), 123, 1.5)
    archive.write_verdict(verdict)
    assert archive.verdicts(full.record.id) == (verdict,)


@pytest.mark.parametrize("lost", ["repo.json", "identity.json"])
def test_a_lost_head_is_damage_and_never_begun_anew(lost: str) -> None:
    """A new head over old backups would belong to none of them, for good."""
    store = MemoryStore()
    archive = Repository.create(store, ObedientClock()).database("orders", "sqlite", "the pair")
    archive.begin(BackupType.FULL, parent=None)
    name = "repo.json" if lost == "repo.json" else f"db/{archive.dbid}/identity.json"
    store.delete(name)
    for identity in ("the pair", None):
        with pytest.raises(DamageFound) as found:
            Repository.create(store, ObedientClock()).database("orders", "sqlite", identity)
        assert found.value.problem == f"{name} is missing"
    if lost == "repo.json":
        with pytest.raises(DamageFound):
            Repository.open(store, ObedientClock())
    assert name not in [each.name for each in store.list("")]


@pytest.mark.parametrize("checks", [True, False])
def test_what_the_store_has_checked_on_arrival_is_not_read_back(tmp_path: Path, checks: bool) -> None:
    read: list[str] = []

    class Watched(MemoryStore):
        def read(self, name: str) -> Iterator[bytes]:
            read.append(name)
            return super().read(name)

    store = Watched()
    if checks:
        store.features = frozenset({*store.features, StoreFeature.CHECKS_ON_ARRIVAL})
    take_full(open_archive(store), write_pages(tmp_path / "app.db", 20), 0)
    assert any("/data/" in name for name in read) is not checks
    assert any("/backup/" in name for name in read), "the record is read back in any case"
