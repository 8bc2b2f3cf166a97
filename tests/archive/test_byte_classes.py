"""Every class of bytes of every kind of object, and every way to lose one: named by verify and by a restore."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backupd.archive.copy_intent import CopyIntent
from backupd.archive.coverage import data_objects
from backupd.archive.database import DatabaseArchive
from backupd.archive.findings import Finding
from backupd.archive.holder import this_process
from backupd.archive.repository import Repository
from backupd.archive.verdict import Verdict
from backupd.archive.verify import Level, ReadPlan, VerifyResult, verify_database, verify_repository
from backupd.errors import BackupdError, DamageFound, NotFound, ObjectMissing
from backupd.model.records import ArchivedBackup, BackupType
from backupd.pipeline.fetch import fetch_file
from tests.archive_builders import (
    ObedientClock,
    open_archive,
    take_express,
    take_full,
    take_logs,
    write_log,
    write_pages,
)
from tests.fakes_store import MemoryStore

NOTES = ("copy intent", "lease", "hold", "bare", "gone")
SMALL = ("repo", "identity", "key", "intent", "tomb", "verify", "backup", "express", "abort", *NOTES)
CONTAINERS = ("data", "map", "log", "express data", "express map")
NEEDED = ("repo", "identity", "backup", "express", *CONTAINERS)  # by a restore


@dataclass
class Shelf:
    """Two objects of every kind: the one that is damaged, and another to put in its place."""

    store: MemoryStore
    archive: DatabaseArchive
    chain: tuple[ArchivedBackup, ArchivedBackup, ArchivedBackup]
    names: dict[str, tuple[str, str]]
    stage: Path

    def verify(self) -> list[Finding]:
        try:
            repository = Repository.open(self.store, ObedientClock())
        except (DamageFound, NotFound) as problem:
            return [Finding("repo.json", problem.because)]
        return verify_repository(repository, Level.DATA).findings

    def sample(self, name: str) -> list[Finding]:
        """What a verify that reads only this object says."""

        def only(_: object) -> ReadPlan:
            return ReadPlan((name,))

        return verify_database(self.archive, Level.DATA, make_plan=only).findings

    def restore(self) -> None:
        """All that a restore of the chain reads, from the beginning."""
        archive = Repository.open(self.store, ObedientClock()).database("orders", "sqlite", None)
        full, increment, express = (archive.get(backup.record.id) for backup in self.chain)
        for path in self.stage.iterdir():
            path.unlink()
        (base,), (wanted,) = full.record.files, express.record.files
        fetch_file(base, self.store, self.stage / "app.db")
        fetch_file(wanted, self.store, self.stage / "express.db", bases=[base])
        for stored in increment.record.logs:
            archive.fetch_log(stored, self.stage / "log")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    store = MemoryStore()
    archive = open_archive(store)
    other_database = archive.repository.database("stock", "sqlite", "pair-2")
    fulls = [take_full(archive, write_pages(tmp_path / "app.db", 80, seed), 0) for seed in (1, 2)]
    logs = [write_log(tmp_path, number) for number in (1, 2, 3)]
    increment = take_logs(archive, fulls[0], logs[:2])
    for number, full in enumerate(fulls):
        archive.write_verdict(
            Verdict(full.record.id, "verify", "manifest", ObedientClock().now(), True, (str(number),))
        )
    expresses = [take_express(archive, fulls[0], *_changed(tmp_path, seed), 40) for seed in (3, 4)]
    given_up = [archive.begin(BackupType.INCREMENTAL, parent=increment) for _ in range(2)]
    for backup in given_up:
        backup.abort("the test gave it up")
    holds = [archive.hold(fulls[0].record.id, reason=reason, by="admin") for reason in ("one", "two")]
    begun = [archive.begin(BackupType.FULL, parent=None) for _ in range(2)]
    at = f"db/{archive.dbid}"
    tombs = [f"{at}/tomb/{backup.record.id}.json" for backup in (*fulls[1:], increment)]
    for tomb in tombs:
        archive.sealed.create("tomb", tomb, {"logs": []})
    segments, maps = fulls[0].record.files[0].segments, [full.record.files[0].map.name for full in fulls]
    verdicts = [each.name for each in store.list(f"{at}/verify/")]
    held = tuple(f"{at}/hold/{hold.backup_id}-{hold.id}.json" for hold in holds)
    names = {
        "repo": ("repo.json", "repo.json"),
        "identity": (f"{at}/identity.json", f"db/{other_database.dbid}/identity.json"),
        "intent": (f"{at}/intent/{begun[0].label}.json", f"{at}/intent/{begun[1].label}.json"),
        "tomb": (tombs[0], tombs[1]),
        "verify": (verdicts[0], verdicts[1]),
        "backup": (f"{at}/backup/{fulls[0].record.id}", f"{at}/backup/{fulls[1].record.id}"),
        "express": (f"{at}/backup/{expresses[0].record.id}", f"{at}/backup/{expresses[1].record.id}"),
        "express data": (expresses[0].record.files[0].segments[0].name, expresses[1].record.files[0].segments[0].name),
        "express map": (expresses[0].record.files[0].map.name, expresses[1].record.files[0].map.name),
        "abort": (f"{at}/backup/{given_up[0].label}", f"{at}/backup/{given_up[1].label}"),
        "data": (segments[1].name, segments[0].name),
        "map": (maps[0], maps[1]),
        "log": (increment.record.logs[0].name, increment.record.logs[1].name),
    }
    names |= {kind: _two_notes(archive, kind, begun[0].label) for kind in ("key", *NOTES) if kind != "hold"}
    names["hold"] = (held[0], held[1])
    stage = tmp_path / "stage"
    stage.mkdir()
    made = Shelf(store, archive, (fulls[0], increment, expresses[0]), names, stage)
    assert set(names) == {*SMALL, *CONTAINERS}
    assert made.verify() == []
    made.restore()
    return made


def _changed(directory: Path, seed: int) -> tuple[Path, Path]:
    """The first full's file with some pages changed and some added, and as it was."""
    before = write_pages(directory / "before.db", 80, 1)
    after = directory / f"after-{seed}.db"
    pages = bytearray(before.read_bytes())
    for page in range(0, 80, 5):
        pages[page * 4096] ^= seed
    after.write_bytes(pages + write_pages(directory / "more.db", 9, seed).read_bytes())
    return after, before


def _two_notes(archive: DatabaseArchive, kind: str, label: str) -> tuple[str, str]:
    """Two small objects of one kind, as the code that owns them writes them."""
    now = ObedientClock().now().isoformat()
    at = f"db/{archive.dbid}"
    named: dict[str, str] = {
        "key": "keys/{}.json",
        "copy intent": f"{at}/intent/{label}.copy-{{}}.json",
        "lease": f"{at}/lease/00000000{{}}.json",
        "bare": f"{at}/bare/{label}-{{}}.json",
        "gone": f"{at}/gone/{label}-{{}}.json",
    }
    copy = CopyIntent("", label, this_process(), ObedientClock().now(), (), resting=True)
    content = copy.to_json() if kind == "copy intent" else {"label": label, "at": now}
    pair = (named[kind].format("0000000a"), named[kind].format("0000000b"))
    for name in pair:
        archive.sealed.create("intent" if kind == "copy intent" else kind, name, content)
    return pair


def classes_of_a_container(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Each class of bytes with its place and length."""
    at = 0
    while at < len(data):
        magic, length = struct.unpack_from("<II", data, at)
        assert magic == 0x184D2A50
        tag = data[at + 8 : at + 12].decode()
        yield f"{tag} magic", at, 4
        yield f"{tag} length", at + 4, 4
        yield f"{tag} tag", at + 8, 4
        inside, at = at + 12, at + 8 + length
        if tag == "BKDH":
            yield "head JSON", inside, length - 4
        elif tag == "BKDT":
            yield "table rows", inside, length - 4
        elif tag == "BKDE":
            yield "seal: bytes of the table", inside, 4
            yield "seal: BLAKE3", inside + 4, 32
        else:
            fields = ("number", "file number", "pages", "first page", "plain bytes", "frame bytes")
            for field, place, size in zip(fields, (0, 4, 8, 12, 20, 24), (4, 4, 4, 8, 4, 4), strict=True):
                yield f"block's {field}", inside + place, size
            frame_bytes = int.from_bytes(data[inside + 24 : inside + 28], "little")
            yield "zstd magic", at, 4
            yield "zstd frame header", at + 4, 2
            yield "zstd blocks", at + 6, frame_bytes - 10
            yield "zstd checksum", at + frame_bytes - 4, 4
            at += frame_bytes


def classes_of_a_small_object(data: bytes) -> Iterator[tuple[str, int, int]]:
    """The same of JSON below a line with its sum."""
    line = data.index(b"\n")
    version, digits = data.index(b" v"), data.index(b"sha256=")
    yield "its kind", 0, version
    yield "its version", version, digits - version
    yield "the word sha256", digits, 7
    yield "the sum", digits + 7, 64
    yield "the end of the line", line, 1
    for word in (b'"object":"', b'"repository":"'):
        at = data.index(word)
        yield f"the key {word.decode()}", at, len(word)
        yield f"the value of {word.decode()}", at + len(word), 8
    yield "everything", line + 1, len(data) - line - 1


def flips(kind: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Of each class its first, middle and last byte, each with another bit."""
    walk = classes_of_a_container if kind in CONTAINERS else classes_of_a_small_object
    for name, start, length in walk(data):
        for place in sorted({start, start + length // 2, start + length - 1}):
            bad = bytearray(data)
            bad[place] ^= 1 << (place % 8)
            yield f"{name}, byte {place} of {len(data)}", bytes(bad)


@pytest.mark.parametrize("kind", [*SMALL, *CONTAINERS])
def test_every_class_of_bytes_flipped(shelf: Shelf, kind: str) -> None:
    name = shelf.names[kind][0]
    good = shelf.store.objects[name]
    seen = set()
    for what, bad in flips(kind, good):
        seen.add(what.partition(",")[0])
        shelf.store.objects[name] = bad
        assert name in {each.object_name for each in shelf.verify()}, what
        if kind in NEEDED:
            with pytest.raises(DamageFound) as caught:
                shelf.restore()
            assert caught.value.details["object"] == name, what
        if kind in CONTAINERS:
            assert {each.object_name for each in shelf.sample(name)} == {name}, what
    assert len(seen) > (15 if kind in CONTAINERS else 8)
    shelf.store.objects[name] = good
    assert shelf.verify() == []
    shelf.restore()


def _cut_by_one(objects: dict[str, bytes], name: str, _: str) -> None:
    objects[name] = objects[name][:-1]


def _longer_by_one(objects: dict[str, bytes], name: str, _: str) -> None:
    objects[name] += b"\n"


def _cut_at_the_front(objects: dict[str, bytes], name: str, _: str) -> None:
    objects[name] = objects[name][1:]


def _emptied(objects: dict[str, bytes], name: str, _: str) -> None:
    objects[name] = b""


def _zeroed(objects: dict[str, bytes], name: str, _: str) -> None:
    objects[name] = bytes(len(objects[name]))


def _swapped(objects: dict[str, bytes], name: str, other: str) -> None:
    objects[name], objects[other] = objects[other], objects[name]


def _replaced(objects: dict[str, bytes], name: str, other: str) -> None:
    objects[name] = objects[other]


HARMS: dict[str, Callable[[dict[str, bytes], str, str], None]] = {
    "cut by one": _cut_by_one,
    "longer by one": _longer_by_one,
    "cut at the front": _cut_at_the_front,
    "emptied": _emptied,
    "zeroed": _zeroed,
    "swapped with one of its kind": _swapped,
    "replaced by one of its kind": _replaced,
}


@pytest.mark.parametrize("kind", [*SMALL, *CONTAINERS])
@pytest.mark.parametrize("harm", HARMS)
def test_every_harm_to_a_whole_object(shelf: Shelf, kind: str, harm: str) -> None:
    name, other = shelf.names[kind]
    before = dict(shelf.store.objects)
    HARMS[harm](shelf.store.objects, name, other)
    if shelf.store.objects == before:
        assert kind == "repo"  # there is one only; the test below brings another archive's
        return
    named = {each.object_name for each in shelf.verify()}
    assert name in named
    assert other in named or harm != "swapped with one of its kind"
    if kind in NEEDED:
        with pytest.raises(DamageFound) as caught:
            shelf.restore()
        assert caught.value.details["object"] in {name, other}
    if kind in CONTAINERS:
        assert name in {each.object_name for each in shelf.sample(name)}


@pytest.mark.parametrize("kind", [*SMALL, *CONTAINERS])
def test_every_missing_object(shelf: Shelf, kind: str) -> None:
    """An intent, a tomb, a verdict and an ABORT are notes: an archive without one is sound, and is so told."""
    name = shelf.names[kind][0]
    del shelf.store.objects[name]
    findings = shelf.verify()
    if kind in NEEDED:
        records = {"backup": shelf.chain[0].record.id, "express": shelf.chain[2].record.id}
        words = records.get(kind, name)
        assert any(words in each.sentence() for each in findings), findings
        with pytest.raises((DamageFound, ObjectMissing, NotFound)) as caught:
            shelf.restore()
        assert words in f"{caught.value} {caught.value.details}"
    elif findings:
        assert kind in {"intent", "tomb"}, findings  # it excused what lies around
    if kind in CONTAINERS:
        assert {each.object_name for each in shelf.sample(name)} == {name}


def test_another_archives_repo_json_makes_every_object_a_strangers(shelf: Shelf) -> None:
    other = MemoryStore()
    open_archive(other)
    shelf.store.objects["repo.json"] = other.objects["repo.json"]
    found = [each for each in shelf.verify() if "belongs to another archive" in each.problem]
    assert {name for kind in SMALL if kind != "repo" for name in shelf.names[kind]} <= {
        each.object_name for each in found
    }
    with pytest.raises(BackupdError, match="belongs to another archive"):
        shelf.restore()


def test_the_sample_that_reads_all_sees_what_the_whole_look_sees(shelf: Shelf) -> None:
    """One by one is as sharp as all at once, for what stands in the archive."""
    for kind in CONTAINERS:
        name = shelf.names[kind][0]
        shelf.store.objects[name] = shelf.store.objects[name][:-9] + b"123456789"
    backups = shelf.archive.list().backups
    every = tuple(each.name for backup in backups for each in data_objects(backup.record))
    one_by_one = verify_database(shelf.archive, Level.DATA, make_plan=lambda _: ReadPlan(every))
    at_once: VerifyResult = verify_database(shelf.archive, Level.DATA)
    assert set(one_by_one.damaged) == set(at_once.damaged)
    assert one_by_one.read == at_once.read
    assert {each.object_name for each in one_by_one.findings} == {each.object_name for each in at_once.findings}
