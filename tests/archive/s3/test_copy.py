"""A second archive in a bucket: copied from a directory object by object, broken at every step, and read from there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from backupd import steps
from backupd.archive.copy_intent import settle_copies
from backupd.archive.database import DatabaseArchive
from backupd.archive.local import LocalStore
from backupd.archive.objects import read_whole
from backupd.archive.replica import make_replica
from backupd.archive.replicate import Replicator
from backupd.archive.s3.place import S3Place
from backupd.archive.verify import Level, verify_database
from backupd.errors import BackupdError
from backupd.pipeline.fetch import fetch_file
from tests.archive.replicas import Pair
from tests.s3_servers import S3Server, quick_store

STEPS_MAX = 60


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    made = Pair(tmp_path)
    made.fill()
    return made


def second_at(pair: Pair, place: S3Place) -> DatabaseArchive:
    """As a new process would open it."""
    return make_replica(pair.first, quick_store(place))


def assert_same(pair: Pair, place: S3Place) -> None:
    store = quick_store(place)
    assert {each.name: read_whole(store, each.name) for each in store.list("")} == pair.objects("first")


def test_a_bucket_is_a_replica_of_a_directory_and_enough_alone(pair: Pair, server: S3Server, tmp_path: Path) -> None:
    place = server.place()
    second = second_at(pair, place)
    replicator = Replicator(pair.first, second, threads=3)
    for backup in pair.backups:
        replicator.copy(backup)
    assert_same(pair, place)
    assert verify_database(second, Level.DATA).findings == []
    fetch_file(second.list().backups[0].record.files[0], second.store, tmp_path / "stage")
    assert (tmp_path / "stage").read_bytes() == (tmp_path / "app.db").read_bytes()


def test_a_directory_is_a_replica_of_a_bucket(pair: Pair, server: S3Server, tmp_path: Path) -> None:
    place = server.place()
    middle = second_at(pair, place)
    third = make_replica(middle, LocalStore.prepare(tmp_path / "third"))
    for backup in pair.backups:
        Replicator(pair.first, middle).copy(backup)
        Replicator(middle, third).copy(backup)
    assert pair.objects("third") == pair.objects("first")


@pytest.mark.slow
def test_a_copy_that_fails_at_any_of_its_steps(pair: Pair, server: S3Server) -> None:
    place = server.place()
    for number in range(1, STEPS_MAX):
        steps.arm("fail", number, "copy.")
        try:
            second = second_at(pair, place)
            for backup in pair.backups:
                Replicator(pair.first, second, threads=1).copy(backup)
            failed = False
        except BackupdError:
            failed = True
        finally:
            counted = steps.disarm()
        second = second_at(pair, place)
        assert verify_database(second, Level.DATA).findings == []
        settle_copies(second, set(pair.first.list().by_id()))
        assert settle_copies(second, set(pair.first.list().by_id())) == ()
        if counted < number and not failed:
            assert_same(pair, place)
            return
    pytest.fail("the copy never passed")


def test_what_is_copied_is_locked_where_the_bucket_locks(pair: Pair, server: S3Server) -> None:
    place = server.place(locked=True, object_lock="governance")
    second = second_at(pair, place)
    second.lock_days = 3
    Replicator(pair.first, second).copy(pair.backups[0])
    client = server.client()
    for each in second.store.list(f"db/{second.dbid}/"):
        if each.name.split("/")[2] in {"data", "map", "backup"}:
            head = client.head_object(Bucket=place.bucket, Key=f"{place.prefix}/{each.name}")
            assert head["ObjectLockMode"] == "GOVERNANCE"
            assert head["ObjectLockRetainUntilDate"] >= second.clock.now() + timedelta(days=3)
