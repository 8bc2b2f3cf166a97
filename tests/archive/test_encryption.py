"""What is encrypted: nothing of it can be read without a key, and nothing of it can be moved or changed unseen."""

from __future__ import annotations

import base64
import random
from dataclasses import replace
from pathlib import Path

import pytest

from backupd.archive import names
from backupd.archive.age import identities_of, new_identity, protect
from backupd.archive.coverage import data_objects
from backupd.archive.database import DatabaseArchive
from backupd.archive.keys import ArchiveKeys, key_id, nobody
from backupd.archive.record import encode_record
from backupd.archive.repository import Repository
from backupd.archive.verify import Level, verify_database
from backupd.digests import sha256_hex
from backupd.errors import BackupdError, ConfigInvalid, DamageFound, KeyMissing
from backupd.model.records import ArchivedBackup, BackupType, RestorePoint, StoredFile, StoredSegment
from backupd.pipeline.container import HEAD_BYTES_MAX, read_head
from backupd.pipeline.fetch import fetch_file
from backupd.pipeline.inspect import FileProblem, inspect_file
from tests.archive_builders import (
    ObedientClock,
    hashes_of,
    open_archive,
    take_full,
    take_full_with_log,
    take_logs,
    write_log,
    write_pages,
)
from tests.fakes_store import MemoryStore

SECRET, RECIPIENT = new_identity()
OTHER_SECRET, OTHER_RECIPIENT = new_identity()


def key_file(directory: Path, *secrets: str) -> Path:
    path = directory / f"key-{len(list(directory.glob('key-*')))}"
    path.write_text("# a key\n" + "\n".join(secrets) + "\n")
    return path


def writing(store: MemoryStore, *recipients: str, database: str = "orders") -> DatabaseArchive:
    """As a backup host has it: no private key."""
    return open_archive(store, keys=ArchiveKeys(recipients or (RECIPIENT,)), database=database)


def reading(store: MemoryStore, *files: Path, database: str = "orders") -> DatabaseArchive:
    return open_archive(store, keys=ArchiveKeys((), files), database=database, identity=None)


def restored(archive: DatabaseArchive, backup: ArchivedBackup, stage: Path) -> bytes:
    archive.check_mac(backup.record)
    fetch_file(backup.record.files[0], archive.store, stage, keys=archive.keys)
    return stage.read_bytes()


def test_a_backup_host_needs_no_private_key_and_a_restore_does(tmp_path: Path) -> None:
    store = MemoryStore()
    pages = write_pages(tmp_path / "app.db", 100)
    log = write_log(tmp_path, 1)
    host = writing(store)
    full = take_full(host, pages, 0)
    take_logs(writing(store), full, [log])  # another run, which has not made the full
    assert [backup.record.type.value for backup in host.list().backups] == ["full", "incremental"]

    archive = reading(store, key_file(tmp_path, SECRET))
    assert restored(archive, archive.get(full.record.id), tmp_path / "stage") == pages.read_bytes()
    assert (archive.load_map(full.record.files[0]) == hashes_of(pages)).all()
    stored = archive.list().backups[1].record.logs[0]
    archive.fetch_log(stored, tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == log[1].read_bytes()


def test_a_delta_restore_reads_single_blocks_of_an_encrypted_segment(tmp_path: Path) -> None:
    store = MemoryStore()
    pages = write_pages(tmp_path / "app.db", 100)
    full = take_full(writing(store), pages, 0)
    live = tmp_path / "live"
    data = bytearray(pages.read_bytes())
    data[5 * 4096] ^= 1
    live.write_bytes(data)
    archive = reading(store, key_file(tmp_path, SECRET))
    result = fetch_file(full.record.files[0], store, tmp_path / "stage", live, keys=archive.keys)
    assert (tmp_path / "stage").read_bytes() == pages.read_bytes()
    assert 0 < result.fetched_pages <= 8


def test_every_recipient_can_restore_and_nobody_else(tmp_path: Path) -> None:
    store = MemoryStore()
    pages = write_pages(tmp_path / "app.db", 10)
    full = take_full(writing(store, RECIPIENT, OTHER_RECIPIENT), pages, 0)
    for number, secret in enumerate((SECRET, OTHER_SECRET)):
        archive = reading(store, key_file(tmp_path, secret))
        assert restored(archive, full, tmp_path / f"stage-{number}") == pages.read_bytes()
    stranger, recipient = new_identity()
    with pytest.raises(KeyMissing) as told:
        restored(reading(store, key_file(tmp_path, stranger)), full, tmp_path / "none")
    assert key_id(recipient) in told.value.because  # says which key it tried
    assert stranger not in str(told.value)


def test_a_recipient_that_was_taken_away_opens_the_old_backups_only(tmp_path: Path) -> None:
    store = MemoryStore()
    pages = write_pages(tmp_path / "app.db", 10)
    before = take_full(writing(store, RECIPIENT, OTHER_RECIPIENT), pages, 0)
    after = take_full(writing(store, OTHER_RECIPIENT), pages, 10)
    archive = reading(store, key_file(tmp_path, SECRET))
    assert restored(archive, before, tmp_path / "before") == pages.read_bytes()
    with pytest.raises(KeyMissing, match="not encrypted to the key"):
        restored(archive, after, tmp_path / "after")
    assert restored(reading(store, key_file(tmp_path, OTHER_SECRET)), after, tmp_path / "other") == pages.read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        ("", "AGE-SECRET-KEY-1"),
        ("AGE-SECRET-KEY-1NONSENSE", "AGE-SECRET-KEY-1"),
        (RECIPIENT, "AGE-SECRET-KEY-1"),
    ],
    ids=["missing", "empty", "nonsense", "the public half"],
)
def test_a_key_file_that_is_none_is_said_so(tmp_path: Path, content: str | None, says: str) -> None:
    store = MemoryStore()
    full = take_full(writing(store), write_pages(tmp_path / "app.db", 4), 0)
    path = tmp_path / "the-key"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KeyMissing) as told:
        restored(reading(store, path), full, tmp_path / "stage")
    assert says in told.value.because
    assert told.value.exit_status == 3
    assert not (tmp_path / "stage").exists()


def test_without_any_key_a_restore_says_which_option_names_one(tmp_path: Path) -> None:
    store = MemoryStore()
    full = take_full(writing(store), write_pages(tmp_path / "app.db", 4), 0)
    with pytest.raises(KeyMissing) as told:
        restored(reading(store), full, tmp_path / "stage")
    assert "--key FILE" in told.value.next_step


def test_a_recipient_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = MemoryStore()
    archive = writing(store, RECIPIENT[:-1] + ("q" if RECIPIENT[-1] != "q" else "p"))
    before = set(store.objects)
    with pytest.raises(ConfigInvalid, match="not an age recipient"):
        archive.begin(BackupType.FULL, parent=None)
    with pytest.raises(ConfigInvalid) as told:
        writing(store, SECRET).begin(BackupType.FULL, parent=None)
    assert SECRET[16:] not in str(told.value)
    assert set(store.objects) == before


def test_a_passphrase_opens_the_key_that_the_archive_keeps(tmp_path: Path) -> None:
    store = MemoryStore()
    pages = write_pages(tmp_path / "app.db", 10)
    host = writing(store)
    host.repository.keep_recipients(protect(SECRET, "correct horse"))
    host.repository.keep_recipients(protect(SECRET, "another"))  # the first one stays: written once
    full = take_full(host, pages, 0)

    def archive_with(passphrase: str) -> DatabaseArchive:
        return open_archive(store, keys=ArchiveKeys(ask=lambda _: passphrase), identity=None)

    assert restored(archive_with("correct horse"), full, tmp_path / "stage") == pages.read_bytes()
    with pytest.raises(KeyMissing, match="could not be opened"):
        restored(archive_with("battery staple"), full, tmp_path / "none")
    with pytest.raises(KeyMissing) as told:
        restored(open_archive(store, keys=ArchiveKeys(ask=nobody), identity=None), full, tmp_path / "none")
    assert "--passphrase-file" in told.value.next_step


def test_nothing_of_the_database_can_be_read_in_an_encrypted_archive(tmp_path: Path) -> None:
    store = MemoryStore()
    words = [b"CREATE TABLE customers", b"ada@example.org", b"the same words again"]
    pages = tmp_path / "orders-live.db"
    write_pages(pages, 60)
    with pages.open("r+b") as file:
        file.write(b"".join(words))
    log, log_path = write_log(tmp_path, 1)
    log_path.write_bytes(words[0] * 100 + random.Random(1).randbytes(100))
    log = replace(log, size_bytes=log_path.stat().st_size)
    host = writing(store)
    full = take_full(host, pages, 0)
    take_logs(host, full, [(log, log_path)])
    held = b"".join(store.objects.values())
    for word in words:
        assert word not in held
    plain = open_archive(MemoryStore())
    in_clear = take_full(plain, pages, 0)
    assert in_clear.record.encryption is None
    # Nor can it be told from the page map: it is as secret as the pages.
    of_map = b"".join(store.read(full.record.files[0].map.name))
    assert hashes_of(pages).tobytes()[:64] not in of_map


def test_no_two_objects_share_a_key_not_even_one_that_is_written_again(tmp_path: Path) -> None:
    store = MemoryStore()
    host = writing(store)
    take_full(host, write_pages(tmp_path / "app.db", 100), 0)
    salts = set()
    data = [name for name in store.objects if "/data/" in name or "/map/" in name]
    for name in data:
        kind = "segment" if "/data/" in name else "map"
        salts.add(read_head(name, bytes(store.objects[name])[:HEAD_BYTES_MAX], kind)["encryption"]["salt"])
    assert len(data) > 2
    assert len(salts) == len(data)
    backup = host.begin(BackupType.FULL, parent=None)
    assert backup.next_map(0).head != backup.next_map(0).head
    backup.withdraw()


def two_backups(tmp_path: Path) -> tuple[MemoryStore, ArchivedBackup, ArchivedBackup]:
    """Of the same pages, so that only what binds a block to its place tells them apart."""
    store = MemoryStore()
    pages = write_pages(tmp_path / "app.db", 100)
    return store, take_full(writing(store), pages, 0), take_full(writing(store), pages, 10)


def forged(full: ArchivedBackup, segments: list[StoredSegment]) -> StoredFile:
    """The file as a record would describe it that a thief has made fit."""
    return replace(full.record.files[0], segments=tuple(segments))


def test_a_block_opens_in_its_own_place_only(tmp_path: Path) -> None:
    """Swaps of blocks, segments and backups by somebody who writes fitting records, tables and sums, but has no key."""
    store, first, second = two_backups(tmp_path)
    archive = reading(store, key_file(tmp_path, SECRET))
    one, two = first.record.files[0].segments[0], second.record.files[0].segments[0]
    stolen = bytes(store.objects[two.name]).replace(two.name.encode(), one.name.encode())
    assert len(stolen) == two.stored_bytes
    store.objects[one.name] = stolen
    seen: list[FileProblem] = []
    fitting = replace(one, stored_bytes=len(stolen), sha256=sha256_hex(stolen))
    file = forged(first, [fitting, *first.record.files[0].segments[1:]])
    inspect_file(file, store, seen.append, lambda _, __: None, keys=archive.keys)
    assert one.name in {each.object_name for each in seen}
    with pytest.raises(DamageFound):
        fetch_file(file, store, tmp_path / "stage", keys=archive.keys)


@pytest.mark.parametrize("what", ["shorter", "older", "another's", "without"])
def test_a_record_that_was_changed_without_the_key_is_found(tmp_path: Path, what: str) -> None:
    store, first, second = two_backups(tmp_path)
    archive = reading(store, key_file(tmp_path, SECRET))
    record = second.record
    file = record.files[0]
    changed = {
        "shorter": replace(record, files=(replace(file, segments=file.segments[:-1]),)),
        "older": replace(first.record, id=record.id),
        "another's": replace(record, encryption=first.record.encryption),
        "without": replace(record, covers_until=first.record.started_at.replace(year=2031)),
    }[what]
    name = names.record_name(archive.dbid, record.id)
    store.objects[name] = encode_record(changed, object_name=name, repository=archive.repository.uuid)
    found = archive.get(record.id).record  # its own sum fits: the thief has made it
    with pytest.raises(DamageFound, match="does not have the backup's key"):
        archive.check_mac(found)
    archive.check_mac(first.record)


def test_a_backup_of_another_database_is_not_taken_for_ours(tmp_path: Path) -> None:
    store = MemoryStore()
    pages = write_pages(tmp_path / "app.db", 30)
    theirs = take_full(writing(store, database="ledger"), pages, 0)
    ours = take_full(writing(store), pages, 0)
    archive = reading(store, key_file(tmp_path, SECRET))
    name = names.record_name(archive.dbid, ours.record.id)
    moved = replace(theirs.record, id=ours.record.id, database="orders")
    store.objects[name] = encode_record(moved, object_name=name, repository=archive.repository.uuid)
    with pytest.raises(DamageFound):
        archive.check_mac(archive.get(ours.record.id).record)


@pytest.mark.parametrize("kind", ["segment", "map", "log"])
def test_every_flipped_bit_of_an_encrypted_object_is_found(tmp_path: Path, kind: str) -> None:
    store = MemoryStore()
    host = writing(store)
    full = take_full(host, write_pages(tmp_path / "app.db", 30), 0)
    increment = take_logs(host, full, [write_log(tmp_path, 1)])
    archive = reading(store, key_file(tmp_path, SECRET))
    file = full.record.files[0]
    name = {"segment": file.segments[0].name, "map": file.map.name, "log": increment.record.logs[0].name}[kind]
    whole = bytes(store.objects[name])

    def read() -> None:
        if kind == "log":
            archive.fetch_log(increment.record.logs[0], tmp_path / "log")
        else:
            fetch_file(file, store, tmp_path / "stage", keys=archive.keys)

    read()
    for place in sorted({*range(0, len(whole), len(whole) // 120), *range(40), *range(len(whole) - 60, len(whole))}):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        store.objects[name] = bytes(flipped)
        (tmp_path / "stage").unlink(missing_ok=True)
        with pytest.raises(BackupdError) as told:
            read()
        assert told.value.details["object"] == name, place
    store.objects[name] = whole


def test_what_is_damaged_in_an_encrypted_segment_is_named_by_its_pages(tmp_path: Path) -> None:
    store = MemoryStore()
    full = take_full(writing(store), write_pages(tmp_path / "app.db", 100), 0)
    archive = reading(store, key_file(tmp_path, SECRET))
    segment = full.record.files[0].segments[0]
    data = bytearray(store.objects[segment.name])
    data[len(data) // 2] ^= 1
    store.objects[segment.name] = bytes(data)
    seen: list[FileProblem] = []
    inspect_file(full.record.files[0], store, seen.append, lambda _, __: None, keys=archive.keys)
    (problem,) = [each for each in seen if each.object_name == segment.name]
    assert problem.first_page is not None
    assert problem.last_page is not None
    assert 0 < problem.last_page - problem.first_page + 1 <= 8  # one super-block, not the segment


def test_a_log_file_that_is_there_already_is_taken_without_a_key(tmp_path: Path) -> None:
    """As after a run that died between its log and its record: the host that goes on cannot read what lies there."""
    store = MemoryStore()
    full = take_full(writing(store), write_pages(tmp_path / "app.db", 4), 0)
    log = write_log(tmp_path, 1)
    dead = writing(store).begin(BackupType.INCREMENTAL, parent=full)
    dead.put_log(*log)
    done = take_logs(writing(store), full, [log])
    archive = reading(store, key_file(tmp_path, SECRET))
    archive.fetch_log(done.record.logs[0], tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == log[1].read_bytes()


def test_what_people_called_a_moment_is_not_written_in_the_open(tmp_path: Path) -> None:
    store = MemoryStore()
    full = take_full(writing(store), write_pages(tmp_path / "app.db", 4), 0)
    log, path = write_log(tmp_path, 1)
    point = RestorePoint("before the layoffs", log.start, log.end)
    done = take_logs(writing(store), full, [(replace(log, restore_points=(point,)), path)])
    assert done.record.logs[0].log.restore_points is None
    assert not any(b"layoffs" in data for data in store.objects.values())
    reading(store, key_file(tmp_path, SECRET)).fetch_log(done.record.logs[0], tmp_path / "fetched")


def test_the_archive_says_to_whom_it_is_encrypted(tmp_path: Path) -> None:
    store = MemoryStore()
    host = writing(store, RECIPIENT, OTHER_RECIPIENT)
    host.repository.keep_recipients()
    assert {names.key_name(key_id(each)) for each in (RECIPIENT, OTHER_RECIPIENT)} <= set(store.objects)
    full = take_full(host, write_pages(tmp_path / "app.db", 4), 0)
    assert full.record.encryption is not None
    assert full.record.encryption.recipients == (key_id(RECIPIENT), key_id(OTHER_RECIPIENT))
    # `age -d` opens the data key with nothing of ours.
    armored = base64.b64decode(full.record.encryption.key)
    assert armored.startswith(b"age-encryption.org/v1")
    assert identities_of(SECRET.encode(), "here", nobody)


def test_an_unencrypted_archive_is_read_as_before(tmp_path: Path) -> None:
    store = MemoryStore()
    pages = write_pages(tmp_path / "app.db", 30)
    full = take_full(open_archive(store), pages, 0)
    repository = Repository.open(store, ObedientClock(), ArchiveKeys((), (key_file(tmp_path, SECRET),)))
    archive = repository.database("orders", "sqlite", None)
    assert restored(archive, full, tmp_path / "stage") == pages.read_bytes()


def test_verify_without_a_key_compares_every_stored_byte(tmp_path: Path) -> None:
    store = MemoryStore()
    host = writing(store)
    full = take_full(host, write_pages(tmp_path / "app.db", 30), 0)
    increment = take_logs(host, full, [write_log(tmp_path, 1)])
    result = verify_database(host, Level.DATA)
    assert result.sound
    assert result.as_stored == {full.record.id, increment.record.id}
    assert len(result.sound_objects_of(full.record)) == len(list(data_objects(full.record)))
    assert not result.is_whole(full.record), "only who looks inside may take a mark of damage back"
    for name in (full.record.files[0].segments[0].name, full.record.files[0].map.name, increment.record.logs[0].name):
        whole = bytes(store.objects[name])
        store.objects[name] = whole[:-1] + bytes([whole[-1] ^ 1])
        found = verify_database(writing(store), Level.DATA)
        assert name in {each.object_name for each in found.findings}
        store.objects[name] = whole


def test_verify_with_a_key_looks_into_what_is_encrypted(tmp_path: Path) -> None:
    store = MemoryStore()
    host = writing(store)
    full = take_full(host, write_pages(tmp_path / "app.db", 30), 0)
    archive = reading(store, key_file(tmp_path, SECRET))
    result = verify_database(archive, Level.DATA)
    assert result.sound
    assert not result.as_stored
    name = names.record_name(archive.dbid, full.record.id)
    changed = replace(full.record, covers_until=full.record.covers_until.replace(year=2031))
    store.objects[name] = encode_record(changed, object_name=name, repository=archive.repository.uuid)
    (found,) = verify_database(archive, Level.DATA).findings
    assert found.object_name == name
    stranger, _ = new_identity()
    with pytest.raises(KeyMissing):
        verify_database(reading(store, key_file(tmp_path, stranger)), Level.DATA)


def test_a_bare_full_of_an_encrypted_archive_keeps_its_mac(tmp_path: Path) -> None:
    """Its listing shows it without the log that was let go; its record is as it was written."""
    store = MemoryStore()
    full = take_full_with_log(writing(store), write_pages(tmp_path / "app.db", 10), [write_log(tmp_path, 1)])
    writing(store).let_log_go({full.record.id: [stored.name for stored in full.record.logs]}, reason="test")
    archive = reading(store, key_file(tmp_path, SECRET))
    (listed,) = archive.list().backups
    assert listed.record.logs == ()
    archive.check_mac(listed.record)
    assert verify_database(archive, Level.DATA).sound


def test_every_way_to_open_an_archive_encrypts(tmp_path: Path) -> None:
    """A new one, one that is there, one opened to read: recipients are never lost on the way."""
    store = MemoryStore()
    keys = ArchiveKeys((RECIPIENT,))
    pages = write_pages(tmp_path / "app.db", 4)
    for _ in range(2):
        repository = Repository.create(store, ObedientClock(), keys)
        assert take_full(repository.database("orders", "sqlite", "pair-1"), pages, 0).record.encryption is not None
    repository = Repository.open(store, ObedientClock(), keys)
    assert take_full(repository.database("orders", "sqlite", None), pages, 0).record.encryption is not None
