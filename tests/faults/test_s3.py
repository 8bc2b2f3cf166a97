"""Bad networks and bad servers between backupd and its bucket: nothing that was said to be stored is lost, nothing is
listed that is not whole, every call ends, and every error is three lines."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from backupd.archive.database import DatabaseArchive
from backupd.archive.repository import Repository
from backupd.archive.s3.patience import Patience
from backupd.archive.verify import Level, verify_database
from backupd.engines.file_reader import FileReader
from backupd.errors import BackupdError, DamageFound
from backupd.model.records import ArchivedBackup, BackupType, LogFile
from backupd.pipeline import layout
from backupd.ports import ObjectStore
from tests.archive_builders import ObedientClock, open_archive, take_full, take_logs, write_log, write_pages
from tests.faults.s3_proxy import S3Proxy, proxied, seeded
from tests.s3_memory import MemoryS3
from tests.s3_servers import S3Server, keys_of_nobody, moto_server, quick_store

T = TypeVar("T")

_DEADLINE_SECONDS = 2.0
# The last attempt begins before the deadline, and its two tries of botocore's may each wait half as long; the rest is a
# machine with much else to do. What hangs does so for ever.
_CALL_SECONDS_MAX = 10 * _DEADLINE_SECONDS


@pytest.fixture(autouse=True, scope="module")
def _keys() -> Iterator[None]:
    with keys_of_nobody():
        yield


@pytest.fixture(autouse=True)
def _small_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileReader, "block_bytes", 1 << 15)
    monkeypatch.setattr(layout, "SEGMENT_BYTES", 1 << 17)


class Watched(Patience):
    """Knows how long the longest call took, however it ended."""

    longest_seconds = 0.0

    def call(self, what: str, attempt: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return super().call(what, attempt)
        finally:
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)


@dataclass
class Life:
    """What an archive's user did over a bad line, and was told."""

    archive: DatabaseArchive
    pages: Path
    logs: list[tuple[LogFile, Path]]
    committed: dict[str, ArchivedBackup] = field(default_factory=dict)
    ordered: set[str] = field(default_factory=set)  # deletions, whether they were said to work or not
    errors: list[BackupdError] = field(default_factory=list)

    def attempt(self, work: Callable[[], object]) -> object:
        """Something that may fail in three lines, and in no other way."""
        try:
            return work()
        except BackupdError as error:
            told = error
        assert all(line.strip() and "\n" not in line for line in told.lines()), told.lines()
        assert len(told.next_step) > 10
        self.errors.append(told)
        return None

    def take(self, parent: ArchivedBackup | None, first: int) -> ArchivedBackup | None:
        """A full, or an increment of two log files on it."""
        before = self.archive.clock
        assert isinstance(before, ObedientClock)
        before.sleep(3600)
        made = self.attempt(
            lambda: (
                take_full(self.archive, self.pages, first * 10)
                if parent is None
                else take_logs(self.archive, parent, self.logs[first : first + 2])
            )
        )
        if isinstance(made, ArchivedBackup):
            self.committed[made.record.id] = made
            return made
        self.attempt(lambda: self.archive.sweep(holding_lease=True))
        return None


def live(seed: int, life: Life) -> None:
    """A chain or two, with deletions, give-ups and looks between them, as the seed wants."""
    dice = random.Random(seed)
    full = life.take(None, 0)
    first = life.take(full, 0) if full else None
    if dice.random() < 0.3:

        def give_up() -> None:
            backup = life.archive.begin(BackupType.INCREMENTAL, parent=first)
            backup.put_log(*life.logs[2])
            backup.abort("a test gives it up")

        life.attempt(give_up)
    if first and dice.random() < 0.3:
        life.take(first, 2)
    if dice.random() < 0.2:
        life.attempt(lambda: verify_database(life.archive, Level.PRESENCE))
    second = life.take(None, 2) if dice.random() < 0.5 else None
    if second and dice.random() < 0.7:
        for backup_id in sorted(life.committed, reverse=True):
            if backup_id < second.record.id:
                life.ordered.add(backup_id)
                if life.attempt(lambda backup_id=backup_id: life.archive.delete_backup(backup_id, reason="t")) is None:  # type: ignore[misc]
                    break
        life.attempt(lambda: life.archive.prune_logs(reason="t"))
        life.attempt(lambda: life.archive.sweep(holding_lease=True))


def judge(life: Life, archive: DatabaseArchive, proxy: S3Proxy) -> None:
    """Over a good line: what is there is what was promised, and the archive can be worked with."""
    listing = archive.list()
    listed = listing.by_id()
    for backup_id in life.committed:
        if backup_id not in life.ordered:
            assert backup_id in listed, f"{backup_id} was said to be complete, and is lost"
    result = verify_database(archive, Level.DATA)
    assert not [finding for finding in result.findings if finding.backup_id in listed], result.findings
    # Only a server that lets damaged bytes in can hold a damaged record, and nobody was told that it was stored.
    damaged = {finding.backup_id for finding in listing.findings}
    assert not damaged & set(life.committed)
    assert not damaged or (not proxy.strict and proxy.faults["wrong"])

    archive.sweep(holding_lease=True)
    if not damaged:
        assert not archive.orphans()
        clock = archive.clock
        assert isinstance(clock, ObedientClock)
        clock.sleep(3600)
        take_full(archive, life.pages, 40)


def one_run(seed: int, tmp_path: Path, proxy: S3Proxy, good: S3Server) -> None:
    """One life of an archive behind the proxy, with this seed; ``good`` leads to the same server."""
    clock = ObedientClock()
    pages = tmp_path / "app.db"
    if not pages.exists():
        write_pages(pages, 40)
    logs = [write_log(tmp_path, number) for number in range(1, 6)]
    proxy.begin(strict=seed % 3 != 0)
    place = good.place(deadline_seconds=_DEADLINE_SECONDS)
    far = replace(place, endpoint_url=proxy.url)
    quick = Watched(far, chance=lambda: 0.01)
    first = quick_store(far, quick)
    Repository.create(first, clock)  # the line is good while the archive is made; probing has tests of its own
    proxy.begin(strict=seed % 3 != 0)
    proxy.choose = seeded(seed)
    store = quick_store(far, quick)
    store.trust(first.features)
    archive = open_archive_or_none(store, clock, proxy)
    if archive is not None:
        life = Life(archive, pages, logs)
        live(seed, life)
        judge(life, open_archive(quick_store(place), clock), proxy)
    assert quick.longest_seconds < _CALL_SECONDS_MAX, "a call went on past its deadline"


def open_archive_or_none(store: ObjectStore, clock: ObedientClock, proxy: S3Proxy) -> DatabaseArchive | None:
    """The archive, as often as it takes; None when its identity arrived damaged, which only a lax server lets in."""
    for _ in range(50):
        try:
            return open_archive(store, clock)
        except DamageFound:
            if not proxy.strict and proxy.faults["wrong"]:
                return None
        except BackupdError:
            continue
    pytest.fail("the archive could not be opened in 50 attempts")


@pytest.fixture(scope="module")
def moto_proxy() -> Iterator[S3Proxy]:
    with proxied(moto_server().url) as proxy:
        yield proxy


@pytest.mark.parametrize("seed", range(6))
def test_bad_lines(seed: int, tmp_path: Path, moto_proxy: S3Proxy) -> None:
    one_run(seed, tmp_path, moto_proxy, moto_server())


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("hundred", range(10, 20))
def test_a_thousand_bad_lines(hundred: int, tmp_path: Path) -> None:
    """A hundred in each of ten tests, on the server in memory: moto would need an hour."""
    server = MemoryS3()
    faults: Counter[str] = Counter()
    with proxied(server) as proxy, proxied(server) as good:
        for seed in range(hundred * 100, hundred * 100 + 100):
            server.buckets.clear()
            one_run(seed, tmp_path, proxy, S3Server(good.url))
            faults += proxy.faults
    assert set(faults) >= {"lost", "dropped", "500", "503", "429", "cut", "wrong", "skew", "lie", "stall", "half"}
