"""A copy that was given up is made after all: what removes its ABORT record never removes the COMMIT that follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backupd.archive import names
from backupd.archive.copy_intent import settle_copies
from backupd.archive.database import DatabaseArchive
from backupd.archive.lease import DatabaseLease
from backupd.archive.local import LocalStore
from backupd.archive.open_backup import fence
from backupd.archive.replica import make_replica
from backupd.archive.replicate import Replicator
from backupd.archive.verify import Level, verify_database
from backupd.errors import Busy
from backupd.model.records import ArchivedBackup
from backupd.ports import ObjectStore
from tests.archive_builders import ObedientClock, open_archive, take_full, write_pages
from tests.dying import dies_at
from tests.s3_buckets import Bucket
from tests.s3_servers import moto_server

HOUR_SECONDS = 3600.0


class Copies:
    """A first archive with one full, and a second one in which an earlier copy of it was given up."""

    def __init__(self, root: Path, second: Bucket | None) -> None:
        self.root, self.bucket, self.clock = root, second, ObedientClock()
        self.full: ArchivedBackup = take_full(self.first, write_pages(root / "app.db", 40), 0)
        fence(self.second(self.first), self.label, "an earlier copy was given up")

    @property
    def label(self) -> str:
        return self.full.record.id

    @property
    def first(self) -> DatabaseArchive:
        return open_archive(LocalStore.prepare(self.root / "first"), self.clock)

    def store(self) -> ObjectStore:
        made = self.bucket.store("second") if self.bucket else None
        return made or LocalStore.prepare(self.root / "second")

    def second(self, first: DatabaseArchive) -> DatabaseArchive:
        return make_replica(first, self.store())

    @contextmanager
    def leased(self) -> Iterator[DatabaseArchive]:
        first = self.first
        first.lease = DatabaseLease(first, run="a copy", heartbeat=False)
        first.lease.acquire(patient=True)  # a holder who sleeps loses it after a period of our clock
        try:
            yield first
        finally:
            first.lease.release()

    def copy(self) -> None:
        """One run, which recovers first."""
        with self.leased() as first:
            second = self.second(first)
            second.sweep(holding_lease=True)
            settle_copies(second, {self.label})
            Replicator(first, second, threads=1).copy(self.full)

    @property
    def tombs(self) -> list[str]:
        archive = self.second(self.first)
        return [each.name for each in archive.store.list(names.tombs_prefix(archive.dbid))]

    def assert_listed(self) -> None:
        archive = self.second(self.first)
        assert archive.list().labels() == {self.label}
        assert verify_database(archive, Level.DATA).findings == []
        assert self.tombs == []


@pytest.fixture
def in_a_bucket(tmp_path: Path) -> Copies:
    return Copies(tmp_path, Bucket.made(moto_server(), ("second",)))


@pytest.fixture
def in_a_directory(tmp_path: Path) -> Copies:
    return Copies(tmp_path, None)


@pytest.mark.parametrize("where", ["in_a_bucket", "in_a_directory"])
def test_an_abort_does_not_stand_in_the_way(where: str, request: pytest.FixtureRequest) -> None:
    copies: Copies = request.getfixturevalue(where)
    copies.copy()
    copies.assert_listed()


def test_a_late_request_of_a_dead_copier_does_not_remove_a_later_copy(in_a_bucket: Copies) -> None:
    copies = in_a_bucket
    assert dies_at(1, copies.copy, "copy.abort")
    for _ in range(2):
        with pytest.raises(Busy, match="cannot be copied") as put_off:
            copies.copy()
        assert "an hour" in put_off.value.next_step
    copies.store().delete(names.record_name(copies.first.dbid, copies.label))  # it arrives
    with pytest.raises(Busy, match="cannot be copied"):
        copies.copy()
    copies.clock.sleep(HOUR_SECONDS + 1)
    copies.copy()
    copies.assert_listed()


@pytest.mark.parametrize("step", ["copy.take_back", "copy.abort"])
def test_in_a_directory_the_next_copy_goes_on_at_once(in_a_directory: Copies, step: str) -> None:
    assert dies_at(1, in_a_directory.copy, step)
    in_a_directory.copy()
    in_a_directory.assert_listed()


def test_a_copier_whose_lease_was_lost_removes_nothing(in_a_bucket: Copies) -> None:
    copies = in_a_bucket
    with copies.leased() as sleeper:
        replicator = Replicator(sleeper, copies.second(sleeper), threads=1)
        with copies.leased(), pytest.raises(Busy, match="lease"):
            replicator.copy(copies.full)
    assert [each.id for each in copies.second(copies.first).list().aborted] == [copies.label]
    copies.clock.sleep(HOUR_SECONDS + 1)
    copies.copy()
    copies.assert_listed()
