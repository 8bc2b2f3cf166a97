"""A copied backup is the same bytes under the same names, each checked on its way and read back where it went."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backupd.archive import names
from backupd.archive.age import new_identity
from backupd.archive.keys import ArchiveKeys
from backupd.archive.local import LocalStore
from backupd.archive.replica import make_replica
from backupd.archive.replicate import Replicator, objects_of, to_copy
from backupd.archive.repository import Repository
from backupd.archive.verify import Level, verify_database
from backupd.errors import ArchiveUnreachable, Busy, DamageFound, NotFound, Refused
from backupd.model.records import BackupType
from backupd.pipeline.fetch import fetch_file
from tests.archive.replicas import Pair
from tests.archive_builders import ObedientClock, open_archive, take_full, take_full_with_log, write_log, write_pages
from tests.fakes_store import FailingStore


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    made = Pair(tmp_path)
    made.fill()
    return made


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_replica_is_the_first_archive_byte_for_byte(pair: Pair, threads: int) -> None:
    copied = pair.copy(threads=threads)
    pair.assert_same()
    stored = {each.name: each.size_bytes for backup in pair.backups for each in objects_of(backup)}
    assert sum(one.copied_bytes for one in copied) == sum(stored.values())
    assert sum(one.verified_bytes for one in copied) == sum(stored.values())


def test_the_log_that_a_differential_names_again_goes_over_once(pair: Pair) -> None:
    *_, differential = pair.copy()
    assert (differential.copied_bytes, differential.copied_objects) == (0, 0)
    assert differential.kept_bytes == sum(each.size_bytes for each in objects_of(pair.backups[-1]))


def test_a_second_copy_brings_nothing_and_reads_all_back(pair: Pair) -> None:
    pair.copy()
    again = pair.copy()
    assert [one.copied_bytes for one in again] == [0] * 4
    assert again[0].verified_bytes == again[0].kept_bytes > 0
    pair.assert_same()


def test_what_is_there_already_does_not_go_over_again(pair: Pair) -> None:
    full = pair.backups[0]
    wanted = objects_of(full)
    pair.copy()
    shutil.rmtree(pair.root / "second" / "db" / pair.first.dbid / "backup")
    gone = wanted[1]
    (pair.root / "second" / gone.name).unlink()
    (planned, *_) = to_copy(pair.second, pair.backups)
    assert (planned.missing_objects, planned.missing_bytes) == (1, gone.size_bytes)
    copied, *_ = pair.copy()
    assert (copied.copied_objects, copied.copied_bytes) == (1, gone.size_bytes)
    assert copied.kept_bytes == sum(each.size_bytes for each in wanted) - gone.size_bytes
    pair.assert_same()


def test_another_archive_is_refused_and_left_as_it_is(pair: Pair, tmp_path: Path) -> None:
    open_archive(LocalStore.prepare(tmp_path / "second"))
    before = pair.objects("second")
    with pytest.raises(Refused, match="is another archive") as caught:
        _ = pair.second
    assert caught.value.exit_status == 4
    assert pair.objects("second") == before


def test_another_database_of_that_name_is_refused(pair: Pair, tmp_path: Path) -> None:
    second = LocalStore.prepare(tmp_path / "second")
    second.create(names.REPOSITORY, [(tmp_path / "first" / names.REPOSITORY).read_bytes()])
    open_archive(second, identity="pair-2")
    with pytest.raises(Refused, match="another database named orders"):
        _ = pair.second


@pytest.mark.parametrize("kind", ["data", "map", "log"])
def test_damage_in_the_source_is_named_and_does_not_go_over(pair: Pair, kind: str) -> None:
    victim = next(iter(pair.objects("first", kind)))
    flip(pair.root / "first" / victim)
    with pytest.raises(DamageFound) as caught:
        pair.copy()
    assert caught.value.details["object"] == victim
    assert caught.value.details["archive"] == str(pair.root / "first")
    assert victim not in pair.objects("second")
    pair.assert_whole_or_nothing()


def test_an_object_that_is_missing_in_the_source_is_damage(pair: Pair) -> None:
    victim = next(iter(pair.objects("first", "data")))
    (pair.root / "first" / victim).unlink()
    with pytest.raises(DamageFound, match="first") as caught:
        pair.copy()
    assert "missing" in caught.value.because
    assert pair.objects("second", "backup") == {}


def test_a_record_of_the_source_that_changed_since_it_was_listed_is_not_copied(pair: Pair) -> None:
    first, full = pair.first, pair.backups[0]
    flip(pair.root / "first" / names.record_name(first.dbid, full.record.id))
    with pytest.raises(DamageFound, match="first"):
        pair.copy(full)
    assert pair.objects("second", "backup") == {}


def test_other_bytes_under_an_object_s_name_are_damage_there_and_stay(pair: Pair) -> None:
    victim = next(iter(pair.objects("first", "data")))
    there = pair.root / "second" / victim
    _ = pair.second
    there.parent.mkdir(parents=True)
    there.write_bytes(b"something else")
    with pytest.raises(DamageFound) as caught:
        pair.copy()
    assert caught.value.details == {**caught.value.details, "object": victim, "archive": str(pair.root / "second")}
    assert caught.value.exit_status == 6
    assert "remove it by hand" in caught.value.next_step
    assert there.read_bytes() == b"something else"
    assert pair.objects("second", "backup") == {}


def test_a_damaged_record_there_is_damage_there(pair: Pair) -> None:
    pair.copy()
    victim = next(iter(pair.objects("second", "backup")))
    flip(pair.root / "second" / victim)
    with pytest.raises(DamageFound, match="second") as caught:
        pair.copy()
    assert caught.value.details["object"] == victim


def test_a_backup_whose_parent_is_not_there_is_refused(pair: Pair) -> None:
    with pytest.raises(Refused, match="before what it builds on"):
        pair.copy(pair.backups[1])
    assert pair.objects("second", "data") == {}
    assert pair.objects("second", "intent") == {}


def test_a_backup_that_was_pruned_meanwhile_is_not_found_and_leaves_no_damage(pair: Pair) -> None:
    backups = pair.backups
    pair.copy(backups[0])
    for backup in reversed(backups):
        pair.first.delete_backup(backup.record.id, reason="test")
    with pytest.raises(NotFound):
        pair.copy(backups[1])
    assert [one.record.id for one in pair.second.list().backups] == [backups[0].record.id]
    pair.assert_whole_or_nothing()


def test_a_place_that_goes_away_midway_leaves_a_copy_to_go_on_with(pair: Pair) -> None:
    first, full = pair.first, pair.backups[0]
    made = [0]

    def fails(verb: str, name: str) -> bool:
        made[0] += verb == "create" and "/data/" in name
        return made[0] > 2

    store = FailingStore(LocalStore.prepare(pair.root / "second"), fails)
    target = make_replica(first, store)
    with pytest.raises(ArchiveUnreachable):
        Replicator(first, target, threads=1).copy(full)
    assert pair.settle() == ()
    copied = pair.copy()
    assert 0 < copied[0].copied_bytes < sum(each.size_bytes for each in objects_of(full))
    pair.assert_same()


def test_a_lost_reply_to_the_record_s_create_is_no_failure(pair: Pair) -> None:
    first, full = pair.first, pair.backups[0]
    store = FailingStore(
        LocalStore.prepare(pair.root / "second"), lambda verb, name: verb == "reply" and "/backup/" in name
    )
    with pytest.raises(ArchiveUnreachable):
        Replicator(first, make_replica(first, store)).copy(full)
    assert pair.settle() == ()
    assert pair.objects("second", "intent") == {}
    pair.copy()
    pair.assert_same()


class TestDeletionsThere:
    def test_a_deletion_waits_for_a_copy_and_a_copy_for_a_deletion(self, pair: Pair) -> None:
        full = pair.backups[0]
        pair.copy(full)
        second = pair.second
        seen: list[str] = []

        def in_between(_: int) -> None:
            if seen:
                return
            with pytest.raises(Busy, match="being copied there") as caught:
                second.delete_backup(full.record.id, reason="test")
            seen.append(caught.value.because)

        Replicator(pair.first, second, threads=1).copy(pair.backups[1], in_between)
        assert len(seen) == 1
        second.sealed.create(
            "tomb", names.tomb_name(second.dbid, full.record.id), {"label": full.record.id, "logs": []}
        )
        with pytest.raises(Busy, match="cannot be copied"):
            pair.copy(pair.backups[2])
        assert pair.objects("second", "intent") == {}
        pair.settle()
        pair.copy()
        pair.assert_same()

    def test_a_copy_whose_note_was_taken_away_does_not_commit(self, pair: Pair) -> None:
        second = pair.second

        def taken(_: int) -> None:
            for name in pair.objects("second", "intent"):
                second.store.delete(name)

        with pytest.raises(Refused, match="was given up"):
            Replicator(pair.first, second, threads=1).copy(pair.backups[0], taken)
        assert pair.objects("second", "backup") == {}

    def test_a_half_done_copy_stops_no_deletion(self, pair: Pair) -> None:
        full = pair.backups[0]
        pair.copy(full)
        flip(pair.root / "first" / next(iter(pair.objects("first", "log"))))
        with pytest.raises(DamageFound):
            pair.copy(pair.backups[-1])
        assert pair.second.delete_backup(full.record.id, reason="test").count > 0

    def test_what_only_a_half_done_copy_holds_goes_when_its_backup_is_gone_from_the_first(self, pair: Pair) -> None:
        _half_done(pair, lambda pair: flip(pair.root / "first" / max(pair.objects("first", "data"))))
        assert pair.objects("second", "data") != {}
        assert pair.settle() == ()
        for backup in reversed(pair.backups):
            pair.first.delete_backup(backup.record.id, reason="test")
        (said,) = pair.settle()
        assert "half-done copy" in said
        for kind in ("data", "map", "log", "intent"):
            assert pair.objects("second", kind) == {}, kind
        assert pair.settle() == ()

    def test_an_abort_there_does_not_block_for_ever(self, pair: Pair) -> None:
        full = pair.backups[0]
        from backupd.archive.open_backup import fence

        fence(pair.second, full.record.id, "an earlier copy was given up")
        pair.copy()
        pair.assert_same()

    def test_a_copy_that_nobody_went_on_with_is_given_up_after_a_week(self, pair: Pair) -> None:
        _half_done(pair, lambda pair: flip(pair.root / "first" / max(pair.objects("first", "data"))))
        clock = ObedientClock()
        second = Repository.open(LocalStore(pair.root / "second"), clock).database("orders", "sqlite", None)
        assert second.sweep(holding_lease=True).sentences == []
        clock.sleep(8 * 86400)
        (said,) = second.sweep(holding_lease=True).sentences
        assert "for a week" in said
        assert pair.objects("second", "data") == {}
        assert pair.objects("second", "intent") == {}


def _half_done(pair: Pair, harm: Callable[[Pair], None]) -> None:
    harm(pair)
    with pytest.raises(DamageFound):
        pair.copy(pair.backups[0])


def test_an_encrypted_backup_is_copied_without_any_key_and_read_with_it(tmp_path: Path) -> None:
    secret, recipient = new_identity()
    pages = write_pages(tmp_path / "app.db", 100)
    host = open_archive(LocalStore.prepare(tmp_path / "first"), keys=ArchiveKeys((recipient,)))
    host.repository.keep_recipients()
    full = take_full(host, pages, 10)
    pair = Pair(tmp_path)
    (copied,) = pair.copy()
    assert copied.copied_bytes > 0
    assert pair.objects("second") == pair.objects("first")
    assert any(name.startswith("keys/") for name in pair.objects("second"))
    key_file = tmp_path / "key"
    key_file.write_text(secret + "\n")
    reading = ArchiveKeys((), (key_file,))
    second = open_archive(LocalStore(tmp_path / "second"), identity=None, keys=reading)
    second.check_mac(second.get(full.record.id).record)
    fetch_file(full.record.files[0], second.store, tmp_path / "stage", keys=second.keys)
    assert (tmp_path / "stage").read_bytes() == pages.read_bytes()


def test_a_copy_backup_is_copied_like_any_other(pair: Pair) -> None:
    take_full(pair.first, pair.root / "app.db", 40, BackupType.COPY)
    pair.copy()
    pair.assert_same()


def test_a_full_that_is_whole_there_stays_whole_when_the_first_lets_its_log_go(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    write_pages(tmp_path / "app.db", 10)
    full = take_full_with_log(pair.first, tmp_path / "app.db", [write_log(tmp_path, number) for number in (1, 2)])
    pair.copy()
    pair.first.let_log_go({full.record.id: [stored.name for stored in full.record.logs]}, reason="test")
    pair.first.prune_logs(reason="test")
    pair.copy()
    assert len(pair.objects("second", "log")) == 2
    assert pair.objects("second", "bare") == {}
    assert verify_database(pair.second, Level.DATA).findings == []


def test_a_bare_full_is_bare_in_the_replica_too(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    write_pages(tmp_path / "app.db", 30)
    logs = [write_log(tmp_path, 2)]
    take_full(pair.first, tmp_path / "app.db", 10)
    bare = take_full_with_log(pair.first, tmp_path / "app.db", logs)
    pair.first.let_log_go({bare.record.id: [stored.name for stored in bare.record.logs]}, reason="test")
    pair.first.delete_backup(pair.backups[0].record.id, reason="test")
    pair.first.prune_logs(reason="test")
    assert not pair.objects("first", "log")
    pair.copy()
    pair.assert_same()
    assert pair.second.list().let_go == pair.first.list().let_go != {}
