"""Two writers and a pruner on one database, asleep for longer than the lease: one COMMIT a label, no lost parent."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from backupd.archive import names
from backupd.archive.database import DatabaseArchive
from backupd.archive.verify import Level, verify_database
from backupd.errors import BackupdError, Busy, DamageFound, ObjectMissing
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup, BackupType, LogFile
from backupd.pipeline.store import store_file
from tests.archive.lease_world import Host, World
from tests.archive_builders import HISTORY, FileSource, open_archive, record_of, write_log, write_pages

ROUNDS = 4
LOGS_MAX = 60

Logs = list[tuple[LogFile, Path]]


class Hands:
    """What a writer and a pruner do under the lease."""

    def __init__(self, pages: Path, logs: Logs) -> None:
        self.pages = pages
        self.logs = logs

    def writer(self, host: Host) -> None:
        self._rounds(host, "backup", self._back_up)

    def pruner(self, host: Host) -> None:
        self._rounds(host, "prune", self._prune)

    def last(self, host: Host) -> None:
        """Whoever comes when all is over."""
        self._rounds(host, "recovery", lambda host, archive: None)

    def _rounds(self, host: Host, run: str, act: object) -> None:
        while host.rounds < ROUNDS:
            lease = host.lease(f"{run} of orders")
            try:
                lease.acquire(patient=host.world.dice.random() < 0.5)
            except Busy:
                host.sleep(host.world.dice.uniform(5, 50))
                continue
            host.rounds += 1
            host.held, host.renewed_at = lease, host.world.seconds
            archive = host.archive()
            archive.lease = lease
            try:
                archive.sweep(holding_lease=True)
                act(host, archive)  # type: ignore[operator]
            except BackupdError as error:
                host.world.counts[type(error).__name__] += 1
                if isinstance(error, DamageFound | ObjectMissing):
                    with suppress(Busy):
                        lease.check()
                        # A sleeper that wakes between his look and his hand may fence one that lives; no more.
                        fenced = {abort.id for abort in archive.list().aborted}
                        if not any(label in error.problem for label in fenced):
                            host.world.broken.append(f"{error.problem}: {error.because}")
            finally:
                host.held = None
                lease.release()

    def _back_up(self, host: Host, archive: DatabaseArchive) -> None:
        dice = host.world.dice
        backups = archive.list().backups
        parent = max(backups, key=lambda one: one.record.log_end.offset, default=None)
        if parent is not None and dice.random() < 0.3:
            parent = dice.choice(backups)
        end = parent.record.log_end if parent else Position(HISTORY, 0)
        if parent is None or dice.random() < 0.3:
            self._full(host, archive, end)
        else:
            self._increment(host, archive, parent)

    def _full(self, host: Host, archive: DatabaseArchive, at: Position) -> None:
        backup = archive.begin(BackupType.FULL, parent=None)
        try:
            stored = store_file(FileSource(self.pages), backup, level=1).file
            assert stored is not None
            if host.world.dice.random() < 0.5:
                archive.still_ours()  # a courtesy: nothing leans on it
            backup.commit(record_of(backup, BackupType.FULL, at, at, files=(stored,)))
        except BackupdError:
            backup.abort("its run ended early")
            raise

    def _increment(self, host: Host, archive: DatabaseArchive, parent: ArchivedBackup) -> None:
        start = parent.record.log_end
        number = start.offset // 10
        logs = self.logs[number : number + host.world.dice.randint(1, 3)]
        backup = archive.begin(BackupType.INCREMENTAL, parent=parent)
        try:
            stored = tuple(backup.put_log(log, path) for log, path in logs)
            end = logs[-1][0].end if logs else start
            record = record_of(backup, BackupType.INCREMENTAL, start, end, parent=parent, logs=stored)
            backup.commit(record)
        except BackupdError:
            backup.abort("its run ended early")
            raise

    def _prune(self, host: Host, archive: DatabaseArchive) -> None:
        for _ in range(host.world.dice.randint(1, 3)):
            listing = archive.list()
            tips = [one.record.id for one in listing.backups if not listing.children_of(one.record.id)]
            if tips:
                archive.delete_backup(host.world.dice.choice(tips), reason="test")
        archive.prune_logs(reason="test")


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Hands:
    directory = tmp_path_factory.mktemp("lease")
    return Hands(write_pages(directory / "app.db", 3), [write_log(directory, number + 1) for number in range(LOGS_MAX)])


def play(seed: int, directory: Path, hands: Hands) -> Counter[str]:
    """One world; answers with what happened in it."""
    directory.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        world = World(seed, directory, patch)
        world.run({"a": hands.writer, "b": hands.writer, "c": hands.pruner})
        world.calm = True
        world.run({"z": hands.last})
        assert not world.broken, f"seed {seed}: {world.broken}"
        archive = open_archive(world.store)
        assert verify_database(archive, Level.PRESENCE).findings == [], f"seed {seed}"
        assert set(archive.list().by_id()) == set(world.committed), f"seed {seed}"
        assert not list(world.store.list(names.intents_prefix(archive.dbid))), f"seed {seed}"
        assert len(list(world.store.list(names.leases_prefix(archive.dbid)))) == 1, f"seed {seed}"
        return world.counts


def assert_much_happened(counts: Counter[str]) -> None:
    """A test that never gets into trouble proves nothing."""
    for what in ("slept", "died", "taken over", "fenced", "committed", "deletion"):
        assert counts[what] > 0, f"{what} never happened: {counts}"


def test_forty_seeds(tmp_path: Path, hands: Hands) -> None:
    counts: Counter[str] = Counter()
    for seed in range(40):
        counts += play(seed, tmp_path / str(seed), hands)
    assert_much_happened(counts)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(40, 1040, 100))
def test_a_thousand_seeds(tmp_path: Path, hands: Hands, first: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(first, first + 100):
        counts += play(seed, tmp_path / str(seed), hands)
    assert_much_happened(counts)
