"""Every flipped, cut, missing or swapped byte range in every kind of object is named by verify, and by a restore."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from backupd.archive.database import DatabaseArchive
from backupd.archive.findings import Finding
from backupd.archive.repository import Repository
from backupd.archive.verdict import Verdict
from backupd.archive.verify import Level, VerifyResult, verify_database, verify_repository
from backupd.errors import ArchiveUnreachable, BackupdError, DamageFound, NotFound
from backupd.model.records import ArchivedBackup, BackupType
from backupd.pipeline.fetch import fetch_file
from backupd.pipeline.store import store_file
from tests.archive_builders import (
    FileSource,
    ObedientClock,
    hashes_of,
    open_archive,
    take_full,
    take_logs,
    write_log,
    write_pages,
)
from tests.fakes_store import FailingStore, MemoryStore

KINDS = ("repo", "identity", "intent", "data", "map", "log", "unnamed-log", "backup", "abort", "tomb", "verify")


@dataclass
class Whole:
    """An archive with an object of every kind, and where each kind is."""

    store: MemoryStore
    archive: DatabaseArchive
    full: ArchivedBackup
    increment: ArchivedBackup
    names: dict[str, str]

    def verify(self) -> VerifyResult:
        try:
            repository = Repository.open(self.store, ObedientClock())
        except (DamageFound, NotFound) as problem:
            return VerifyResult([Finding("repo.json", problem.because)])
        return verify_repository(repository, Level.DATA)


@pytest.fixture
def whole(tmp_path: Path) -> Whole:
    store = MemoryStore()
    archive = open_archive(store)
    pages = write_pages(tmp_path / "app.db", 100)
    full = take_full(archive, pages, 0)
    logs = [write_log(tmp_path, number) for number in (1, 2, 3)]
    increment = take_logs(archive, full, logs[:2])
    archive.write_verdict(Verdict(full.record.id, "verify", "data", ObedientClock().now(), True))
    given_up = archive.begin(BackupType.INCREMENTAL, parent=increment)
    unnamed = given_up.put_log(*logs[2])
    given_up.abort("the test gave it up")
    archive.begin(BackupType.FULL, parent=None)
    tomb = f"db/{archive.dbid}/tomb/{increment.record.id}.json"
    archive.sealed.create("tomb", tomb, {"logs": []})
    at = f"db/{archive.dbid}"
    names = {
        "repo": "repo.json",
        "identity": f"{at}/identity.json",
        "intent": next(store.list(f"{at}/intent/")).name,
        "data": full.record.files[0].segments[1].name,
        "map": full.record.files[0].map.name,
        "log": increment.record.logs[0].name,
        "unnamed-log": unnamed.name,
        "backup": f"{at}/backup/{full.record.id}",
        "abort": f"{at}/backup/{given_up.label}",
        "tomb": tomb,
        "verify": next(store.list(f"{at}/verify/")).name,
    }
    made = Whole(store, archive, full, increment, names)
    assert set(names) == set(KINDS)
    assert made.verify().findings == []
    return made


def places(kind: str, size: int) -> list[int]:
    """Offsets to damage: the ends, the heads of the parts, and some at random but always the same."""
    chosen = {0, 1, 4, 8, 12, size // 2, size - 1, size - 20, size - 44, size - 48, size - 60, size - 100}
    chosen |= set(random.Random(kind).sample(range(size), 40))
    return sorted(place for place in chosen if 0 <= place < size)


def is_named(result: VerifyResult, name: str) -> bool:
    return any(finding.object_name == name for finding in result.findings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_named(whole: Whole, kind: str) -> None:
    name = whole.names[kind]
    good = whole.store.objects[name]
    for place in places(kind, len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        whole.store.objects[name] = bytes(bad)
        assert is_named(whole.verify(), name), f"bit {place % 8} of byte {place} of {len(good)}"
    whole.store.objects[name] = good
    assert whole.verify().sound


@pytest.mark.parametrize("kind", ["intent", "unnamed-log", "map"])
def test_every_single_bit_counts(whole: Whole, kind: str) -> None:
    """zstd ignores a bit of its frame header, JSON ignores blanks: the seals do not."""
    name = whole.names[kind]
    good = whole.store.objects[name]
    for place in range(min(400, len(good))):
        for bit in range(8):
            bad = bytearray(good)
            bad[place] ^= 1 << bit
            whole.store.objects[name] = bytes(bad)
            if kind == "map":
                with pytest.raises(DamageFound):
                    whole.archive.load_map(whole.full.record.files[0])
                continue
            level = Level.MANIFEST if kind == "intent" else Level.DATA
            assert is_named(verify_database(whole.archive, level), name), f"bit {bit} of byte {place}"
        if kind == "unnamed-log" and place > 30:
            break


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_object_is_named(whole: Whole, kind: str) -> None:
    name = whole.names[kind]
    good = whole.store.objects[name]
    for length in (0, 1, 11, len(good) // 2, len(good) - 48, len(good) - 1):
        whole.store.objects[name] = good[: max(0, length)]
        assert is_named(whole.verify(), name), f"cut to {length} of {len(good)}"
    whole.store.objects[name] = good + b"\0"
    assert is_named(whole.verify(), name), "one byte too many"
    whole.store.objects[name] = good[: len(good) // 3] + good[len(good) // 3 + 1 :]
    assert is_named(whole.verify(), name), "one byte missing in the middle"


@pytest.mark.parametrize("kind", KINDS)
def test_swapped_ranges_are_named(whole: Whole, kind: str) -> None:
    name = whole.names[kind]
    good = whole.store.objects[name]
    step = max(8, len(good) // 16)
    for start in range(0, len(good) - 2 * step, step):
        first, second = good[start : start + step], good[start + step : start + 2 * step]
        if first == second:
            continue
        whole.store.objects[name] = good[:start] + second + first + good[start + 2 * step :]
        assert is_named(whole.verify(), name), f"{step} bytes at {start}"


@pytest.mark.parametrize("kind", ["repo", "identity", "data", "map", "log", "backup"])
def test_a_missing_object_is_named(whole: Whole, kind: str) -> None:
    name = whole.names[kind]
    del whole.store.objects[name]
    result = whole.verify()
    if kind == "backup":
        # Its child says that the chain has a hole, its data that a record was lost.
        assert {finding.backup_id for finding in result.findings} == {whole.full.record.id, whole.increment.record.id}
        assert any("was lost" in finding.problem for finding in result.findings)
        assert any("hole" in finding.problem for finding in result.findings)
    else:
        assert is_named(result, name)


def test_the_lost_record_of_a_last_increment_is_seen_by_its_log(whole: Whole) -> None:
    del whole.store.objects[whole.names["tomb"]]
    del whole.store.objects[f"db/{whole.archive.dbid}/backup/{whole.increment.record.id}"]
    (finding,) = whole.verify().findings
    assert finding.backup_id == whole.increment.record.id
    assert "was lost" in finding.problem


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_another_object_are_named(whole: Whole, tmp_path: Path, kind: str) -> None:
    """Two sound objects that changed places, and one from another archive."""
    name = whole.names[kind]
    other_store = MemoryStore()
    other = open_archive(other_store)
    take_logs(other, take_full(other, tmp_path / "app.db", 0), [write_log(tmp_path, number) for number in (1, 2)])
    files = whole.full.record.files[0]
    twin = {
        "repo": whole.names["identity"],
        "identity": whole.names["tomb"],
        "intent": whole.names["tomb"],
        "data": files.segments[0].name,
        "map": files.segments[0].name,
        "log": whole.increment.record.logs[1].name,
        "unnamed-log": whole.increment.record.logs[1].name,
        "backup": whole.names["abort"],
        "abort": whole.names["backup"],
        "tomb": whole.names["intent"],
        "verify": whole.names["intent"],
    }[kind]
    objects = whole.store.objects
    objects[name], objects[twin] = objects[twin], objects[name]
    result = whole.verify()
    assert is_named(result, name)
    if kind != "repo":
        assert is_named(result, twin)
    objects[name], objects[twin] = objects[twin], objects[name]
    if kind == "identity":
        objects[name] = other_store.objects[name]
        assert is_named(whole.verify(), name)


def test_pages_are_named_and_the_others_are_not(whole: Whole) -> None:
    file = whole.full.record.files[0]
    segment = file.segments[1]
    good = whole.store.objects[segment.name]
    bad = bytearray(good)
    bad[len(good) // 2 + 500] ^= 0x10
    whole.store.objects[segment.name] = bytes(bad)
    (finding,) = whole.verify().findings
    assert finding.file == "app.db"
    assert finding.first_page is not None
    assert finding.last_page is not None
    assert segment.first_page <= finding.first_page <= finding.last_page < segment.first_page + segment.page_count
    assert finding.last_page - finding.first_page + 1 == 8
    assert "pages" in finding.sentence()


@pytest.mark.parametrize("kind", ["data", "map"])
def test_a_restore_names_the_damage(whole: Whole, tmp_path: Path, kind: str) -> None:
    name = whole.names[kind]
    good = whole.store.objects[name]
    for place in places(kind, len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        whole.store.objects[name] = bytes(bad)
        with pytest.raises(DamageFound) as caught:
            fetch_file(whole.full.record.files[0], whole.store, tmp_path / f"stage-{place}")
        assert caught.value.details["object"] == name, place
        assert caught.value.details["file"] == "app.db", place
    whole.store.objects[name] = good
    fetch_file(whole.full.record.files[0], whole.store, tmp_path / "stage")
    assert (tmp_path / "stage").read_bytes() == (tmp_path / "app.db").read_bytes()


def test_a_restore_names_damaged_log(whole: Whole, tmp_path: Path) -> None:
    stored = whole.increment.record.logs[0]
    good = whole.store.objects[stored.name]
    for place in places("log", len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        whole.store.objects[stored.name] = bytes(bad)
        with pytest.raises(DamageFound) as caught:
            whole.archive.fetch_log(stored, tmp_path / "fetched")
        assert caught.value.details["object"] == stored.name
        assert not (tmp_path / "fetched").exists()


def test_levels_see_what_they_promise(whole: Whole) -> None:
    segment = whole.names["data"]
    whole.store.objects[segment] = whole.store.objects[segment][:-1]
    assert verify_database(whole.archive, Level.MANIFEST).sound
    (finding,) = verify_database(whole.archive, Level.PRESENCE).findings
    assert finding.object_name == segment
    assert finding.first_page is not None
    assert verify_database(whole.archive, Level.DATA, backup_ids=[whole.increment.record.id]).sound
    assert not verify_database(whole.archive, Level.DATA, backup_ids=[whole.full.record.id]).sound
    with pytest.raises(NotFound):
        verify_database(whole.archive, Level.MANIFEST, backup_ids=["20261122T010000Z-F-00000000"])


def test_surplus_and_strange_objects_are_findings(whole: Whole) -> None:
    surplus = f"db/{whole.archive.dbid}/data/{whole.full.record.id}/999999"
    for name in (surplus, f"db/{whole.archive.dbid}/notes", "notes.txt", f"db/{whole.archive.dbid}/backup/odd"):
        whole.store.create(name, [b"?"])
    result = verify_repository(whole.archive.repository, Level.PRESENCE)
    assert len(result.findings) == 4


def test_a_read_error_is_not_damage(whole: Whole) -> None:
    store = FailingStore(whole.store, lambda verb, name: verb == "read" and "/data/" in name)
    archive = open_archive(store)
    with pytest.raises(ArchiveUnreachable):
        verify_database(archive, Level.DATA)


@pytest.mark.parametrize("kind", ["backup", "data", "map", "log", "identity"])
def test_a_bad_cache_is_not_damage(whole: Whole, kind: str) -> None:
    """The first look sees a flipped bit that the medium does not have."""
    name = whole.names[kind]
    good = whole.store.objects[name]
    whole.store.objects[name] = good[:-1] + bytes([good[-1] ^ 1])
    real = whole.store.forget_cached

    def forget(which: str) -> None:
        real(which)
        if which == name:
            whole.store.objects[name] = good

    whole.store.forget_cached = forget  # type: ignore[method-assign,assignment]
    assert whole.verify().sound


def test_the_copy_of_a_bad_page_is_never_made(tmp_path: Path) -> None:
    store = MemoryStore()
    archive = open_archive(store)
    path = write_pages(tmp_path / "app.db", 100)
    expected = hashes_of(path)
    with path.open("r+b") as file:
        for page in (41, 42, 99):
            file.seek(page * 4096 + 7)
            file.write(b"rot")
    backup = archive.begin(BackupType.FULL, parent=None)
    result = store_file(FileSource(path, expected=expected), backup)
    assert result.file is None
    assert result.bad_pages == (41, 42, 99)
    assert result.checked_pages == 100
    backup.abort("a bad page")
    assert not list(store.list(f"db/{archive.dbid}/data"))


def test_damage_is_a_backupd_error_of_three_lines(whole: Whole) -> None:
    name = whole.names["backup"]
    whole.store.objects[name] = whole.store.objects[name].replace(b"orders", b"0rders")
    with pytest.raises(BackupdError) as caught:
        whole.archive.get(whole.full.record.id)
    assert caught.value.exit_status == 6
    assert len(caught.value.lines()) == 3
