"""Reading the data: read errors are not damage, what was read is kept, and old damage is doubted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from backupd.archive.coverage import data_objects
from backupd.archive.findings import Finding
from backupd.archive.verify import Level, ReadPlan, VerifyResult, verify_database
from backupd.errors import ArchiveUnreachable
from backupd.model.records import ArchivedBackup, BackupType, Progress
from backupd.ports import StoredObject
from tests.archive_builders import open_archive, take_full, take_logs, write_log, write_pages
from tests.fakes_store import FailingStore, MemoryStore


@dataclass
class Shelf:
    """A full, an incremental, and a differential that shares the incremental's log files."""

    store: MemoryStore
    backups: tuple[ArchivedBackup, ArchivedBackup, ArchivedBackup]

    @property
    def objects(self) -> set[StoredObject]:
        return {each for backup in self.backups for each in data_objects(backup.record)}

    def verify(
        self,
        plan: ReadPlan | None = None,
        *,
        fails: Callable[[str, str], bool] = lambda verb, name: False,
        into: VerifyResult | None = None,
    ) -> VerifyResult:
        archive = open_archive(FailingStore(self.store, fails))
        return verify_database(archive, Level.DATA, make_plan=lambda _: plan or ReadPlan(), into=into)

    def flip(self, name: str) -> bytes:
        good = self.store.objects[name]
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 4
        self.store.objects[name] = bytes(bad)
        return good


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    store = MemoryStore()
    archive = open_archive(store)
    full = take_full(archive, write_pages(tmp_path / "app.db", 200), 0)
    logs = [write_log(tmp_path, number) for number in (1, 2)]
    increment = take_logs(archive, full, logs)
    return Shelf(store, (full, increment, take_logs(archive, full, logs, BackupType.DIFFERENTIAL)))


def test_a_whole_read_has_read_all_and_says_so_of_each_backup(shelf: Shelf) -> None:
    result = shelf.verify()
    assert result.read == shelf.objects
    assert result.read_bytes == sum(each.size_bytes for each in shelf.objects)  # what is shared is read once
    assert all(result.is_whole(backup.record) for backup in shelf.backups)


def test_a_plan_reads_what_it_names_and_nothing_else(shelf: Shelf) -> None:
    wanted = shelf.backups[0].record.files[0].segments[1].name
    reads: list[str] = []

    def looks(verb: str, name: str) -> bool:
        if verb == "read" and name in {each.name for each in shelf.objects}:
            reads.append(name)
        return False

    result = shelf.verify(ReadPlan((wanted,)), fails=looks)
    assert reads == [wanted]
    assert {each.name for each in result.read} == {wanted}
    assert not any(result.is_whole(backup.record) for backup in shelf.backups)


def test_a_plan_stops_when_its_time_is_over_but_reads_one_object(shelf: Shelf) -> None:
    every = tuple(each.name for each in data_objects(shelf.backups[0].record))
    asked = iter([False, False, True])
    result = shelf.verify(ReadPlan(every, out_of_time=lambda: next(asked)))
    assert {each.name for each in result.read} == set(every[:3])
    assert len(shelf.verify(ReadPlan(every, out_of_time=lambda: True)).read) == 1


@pytest.mark.parametrize("kind", ["data", "map", "log"])
def test_an_object_that_cannot_be_read_is_left_out_and_is_not_damaged(shelf: Shelf, kind: str) -> None:
    bad = max(each.name for each in shelf.objects if f"/{kind}/" in each.name)
    into = VerifyResult()
    with pytest.raises(ArchiveUnreachable, match=bad):
        shelf.verify(fails=lambda verb, name: verb == "read" and name == bad, into=into)
    assert into.findings == []
    assert {each.name for each in shelf.objects - into.read} == {bad}
    assert {each.name for each in into.unreadable} == {bad}
    assert not into.is_whole(shelf.backups[1 if kind == "log" else 0].record)


def test_a_read_error_that_passes_is_none(shelf: Shelf) -> None:
    bad = shelf.backups[0].record.files[0].segments[2].name
    times = iter([True, False, False])
    result = shelf.verify(fails=lambda verb, name: verb == "read" and name == bad and next(times))
    assert result.read == shelf.objects
    assert not result.unreadable
    # The sum over the file could not be made in one pass, so this read takes no damage back.
    assert not result.is_whole(shelf.backups[0].record)


def test_an_archive_that_goes_away_ends_it_soon_and_what_was_read_stays(shelf: Shelf) -> None:
    reads: list[str] = []

    def gone_after_two(verb: str, name: str) -> bool:
        if verb == "read" and name in {each.name for each in shelf.objects}:
            reads.append(name)
            return len(reads) > 2
        return False

    into = VerifyResult()
    with pytest.raises(ArchiveUnreachable):
        shelf.verify(fails=gone_after_two, into=into)
    assert len(into.read) == 2
    assert into.findings == []
    assert len(reads) == 2 + 1 + 3  # the file's own try, and three objects in a row


def test_damage_beside_a_read_error_is_both(shelf: Shelf) -> None:
    segments = shelf.backups[0].record.files[0].segments
    shelf.flip(segments[0].name)
    into = VerifyResult()
    with pytest.raises(ArchiveUnreachable):
        shelf.verify(fails=lambda verb, name: verb == "read" and name == segments[2].name, into=into)
    assert {each.name for each in into.damaged} == {segments[0].name}
    assert {each.name for each in shelf.objects - into.read} == {segments[0].name, segments[2].name}


def test_a_damaged_log_speaks_against_every_backup_that_names_it(shelf: Shelf) -> None:
    full, increment, differential = shelf.backups
    shelf.flip(increment.record.logs[0].name)
    result = shelf.verify()
    assert len(result.findings) == 1
    assert result.findings_of(increment.record) == result.findings_of(differential.record) == result.findings
    assert result.findings_of(full.record) == []
    assert result.is_whole(full.record)
    assert not result.is_whole(differential.record)


def test_a_person_who_stops_it_keeps_what_was_read(shelf: Shelf) -> None:
    told: list[Progress] = []

    def report(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 3:
            raise KeyboardInterrupt

    into = VerifyResult()
    with pytest.raises(KeyboardInterrupt):
        verify_database(open_archive(shelf.store), Level.DATA, report=report, into=into)
    assert len(into.read) == 3
    assert told[-1].total_bytes == sum(each.size_bytes for each in shelf.objects)


@pytest.mark.parametrize("kind", ["data", "map", "log"])
@pytest.mark.parametrize("whole", [True, False])
def test_what_was_once_damaged_must_read_well_twice(shelf: Shelf, kind: str, whole: bool) -> None:
    name = max(each.name for each in shelf.objects if f"/{kind}/" in each.name)
    good = shelf.flip(name)
    reads: list[str] = []

    def heals_after_two(verb: str, each: str) -> bool:
        if verb == "read" and each == name:
            reads.append(name)
            if len(reads) > 2:
                shelf.store.objects[name] = good
        return False

    names = None if whole else (name,)
    (finding,) = shelf.verify(ReadPlan(names, frozenset({name})), fails=heals_after_two).findings
    assert finding.object_name == name
    assert "does not read alike twice" in finding.problem
    reads.clear()
    assert shelf.verify(ReadPlan(names, frozenset({name})), fails=heals_after_two).sound
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("kind", "speaks"),
    [("backup", True), ("data", True), ("map", True)]
    + [(kind, False) for kind in ("intent", "tomb", "verify", "hold", "note-to-come")],
)
def test_only_what_a_restore_reads_speaks_against_a_backup(shelf: Shelf, kind: str, speaks: bool) -> None:
    record = shelf.backups[0].record
    finding = Finding(f"db/orders-1/{kind}/{record.id}", "a bit is wrong", record.id)
    assert VerifyResult(findings=[finding]).findings_of(record) == ([finding] if speaks else [])
