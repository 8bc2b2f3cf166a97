"""A first archive with a chain in it, and its second one: for tests that copy between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backupd.archive.copy_intent import settle_copies
from backupd.archive.database import DatabaseArchive
from backupd.archive.local import LocalStore
from backupd.archive.objects import read_whole
from backupd.archive.replica import make_replica
from backupd.archive.replicate import Copied, Replicator
from backupd.archive.verify import Level, verify_database
from backupd.model.records import ArchivedBackup, BackupType
from tests.archive_builders import open_archive, take_full, take_logs, write_log, write_pages
from tests.s3_buckets import Bucket


@dataclass
class Pair:
    """Two archives below one directory; everything is opened anew, as a new process would."""

    root: Path
    bucket: Bucket | None = None  # where the second one is, if not in a directory

    def fill(self) -> None:
        """A full, two incrementals, and a differential that names their log again."""
        write_pages(self.root / "app.db", 100)
        archive = self.first
        full = take_full(archive, self.root / "app.db", 10)
        logs = [write_log(self.root, number) for number in (2, 3)]
        one = take_logs(archive, full, logs[:1])
        take_logs(archive, one, logs[1:])
        take_logs(archive, full, logs, BackupType.DIFFERENTIAL)

    @property
    def first(self) -> DatabaseArchive:
        return open_archive(LocalStore.prepare(self.root / "first"))

    @property
    def second(self) -> DatabaseArchive:
        store = self.bucket.store("second") if self.bucket else None
        return make_replica(self.first, store or LocalStore.prepare(self.root / "second"))

    @property
    def backups(self) -> tuple[ArchivedBackup, ...]:
        return self.first.list().backups

    def copy(self, *backups: ArchivedBackup, threads: int = 1) -> list[Copied]:
        """Copy these, or all."""
        first, second = self.first, self.second
        replicator = Replicator(first, second, threads=threads)
        return [replicator.copy(backup) for backup in backups or first.list().backups]

    def settle(self) -> tuple[str, ...]:
        """What recovery does under the lease."""
        second = self.second
        swept = second.sweep(holding_lease=True).sentences
        return (*swept, *settle_copies(second, set(self.first.list().by_id())))

    def objects(self, which: str, kind: str = "") -> dict[str, bytes]:
        """The objects of an archive, or of one kind, by name."""
        store = self.bucket.store(which) if self.bucket else None
        if store is not None:
            named = {each.name: read_whole(store, each.name) for each in store.list("")}
        else:
            root = self.root / which
            files = {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
            named = {name: path.read_bytes() for name, path in files.items() if name.split("/")[0] != "tmp"}
        return {name: data for name, data in named.items() if not kind or name.split("/")[2:3] == [kind]}

    def assert_same(self) -> None:
        """The second archive holds what the first one holds, byte for byte, and nothing else."""
        assert self.objects("second") == self.objects("first") != {}
        assert verify_database(self.second, Level.DATA).findings == []

    def assert_whole_or_nothing(self) -> None:
        """What the second archive lists is sound to the last byte, and the rest has a note that says whose it is."""
        second = self.second
        assert verify_database(second, Level.DATA).findings == []
        listed = set(second.list().by_id())
        noted = {name.split("/")[-1].split(".")[0] for name in self.objects("second", "intent")}
        for kind in ("data", "map"):
            assert {name.split("/")[3].split(".")[0] for name in self.objects("second", kind)} <= listed | noted
