"""Is what the archive holds still what was written, and can every backup be restored from it?

Three levels, each with all of the one before:

* manifest: every record, identity, intent, tomb and verdict is sound; chains have no holes; no record was lost
* presence: every object that a record names is there and has its length
* data: every byte is read, every hash compared, every page expanded and compared with its page map

A read error is no finding: it is ``ArchiveUnreachable``.  Damage is looked at
twice, the second time past the cache, before it is called so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from backupd.archive import names
from backupd.archive.database import DatabaseArchive
from backupd.archive.findings import Finding, finding_of
from backupd.archive.intent import read_intent
from backupd.archive.listing import Listing
from backupd.archive.logs import check_log, read_through
from backupd.archive.repository import Repository
from backupd.errors import DamageFound, NotFound, ObjectMissing
from backupd.model.records import ArchivedBackup, Progress, StoredFile, StoredLog
from backupd.pipeline.inspect import FileProblem, inspect_file
from backupd.ports import ReportProgress


class Level(StrEnum):
    """How deep to look."""

    MANIFEST = "manifest"
    PRESENCE = "presence"
    DATA = "data"


@dataclass(slots=True)
class VerifyResult:
    """What was looked at and what is wrong; sound when there are no findings."""

    findings: list[Finding] = field(default_factory=list)
    backups_checked: int = 0
    objects_checked: int = 0
    read_bytes: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def add(self, other: VerifyResult) -> None:
        """Count another result in."""
        self.findings += other.findings
        self.backups_checked += other.backups_checked
        self.objects_checked += other.objects_checked
        self.read_bytes += other.read_bytes


def verify_repository(
    repository: Repository, level: Level, *, report: ReportProgress | None = None, workers: int = 2
) -> VerifyResult:
    """Everything in the archive; ``repo.json`` itself was proven when it was opened."""
    result = VerifyResult(objects_checked=1)
    for dbid in repository.database_ids():
        result.objects_checked += 1
        name = names.identity_name(dbid)
        try:
            identity = repository.identity_of(dbid)
        except (DamageFound, ObjectMissing) as problem:
            result.findings.append(finding_of(problem, name))
            # The backups are there all the same: check them, under the name that the prefix gives.
            archive = DatabaseArchive(repository, dbid, "", dbid)
        else:
            archive = DatabaseArchive(repository, identity.database, identity.engine, dbid)
            if names.database_id(identity.database, identity.engine) != dbid:
                result.findings.append(Finding(name, f"it is the identity of another database: {identity.database}"))
        result.add(verify_database(archive, level, report=report, workers=workers))
    known = (names.REPOSITORY, "db/", "probe/")  # a probe of a role that may not delete stays
    for each in repository.store.list(""):
        if not each.name.startswith(known):
            result.findings.append(Finding(each.name, "no object of an archive has such a name"))
    return result


def verify_database(
    archive: DatabaseArchive,
    level: Level,
    *,
    backup_ids: Sequence[str] | None = None,
    report: ReportProgress | None = None,
    workers: int = 2,
) -> VerifyResult:
    """One database's part of the archive, or only some of its backups.

    Raises:
        NotFound: one of ``backup_ids`` does not exist.
        ArchiveUnreachable: the archive cannot be read now.
    """
    return _Verify(archive, level, report, workers).run(backup_ids)


class _Verify:
    def __init__(self, archive: DatabaseArchive, level: Level, report: ReportProgress | None, workers: int) -> None:
        self._archive = archive
        self._level = level
        self._report = report
        self._workers = workers
        self._result = VerifyResult()
        self._total = 0

    def run(self, backup_ids: Sequence[str] | None) -> VerifyResult:
        listing = self._archive.list()
        backups = self._chosen(listing, backup_ids)
        chosen = {backup.record.id for backup in backups}
        self._result.objects_checked += len(backups)
        self._result.backups_checked = len(backups)
        self._result.findings += [
            each for each in listing.findings if backup_ids is None or each.backup_id in {*chosen, *backup_ids}
        ]
        if backup_ids is None:
            self._small_objects()
            self._result.findings += self._archive.orphans()
            self._strangers()
        if self._level is not Level.MANIFEST:
            self._presence(backups)
        if self._level is Level.DATA:
            self._data(backups)
            if backup_ids is None:
                self._unnamed_logs(listing)
        return self._result

    def _chosen(self, listing: Listing, backup_ids: Sequence[str] | None) -> list[ArchivedBackup]:
        if backup_ids is None:
            return list(listing.backups)
        by_id = listing.by_id()
        damaged = {each.backup_id for each in listing.findings}
        for backup_id in backup_ids:
            if backup_id not in by_id and backup_id not in damaged:
                raise NotFound(
                    f"there is no backup {backup_id} of {self._archive.name}",
                    because="the archive has no record of it",
                    next_step=f"see what there is: backupctl list {self._archive.name}",
                )
        return [by_id[backup_id] for backup_id in backup_ids if backup_id in by_id]

    def _small_objects(self) -> None:
        archive = self._archive
        for prefix in (
            names.intents_prefix(archive.dbid),
            names.tombs_prefix(archive.dbid),
            names.verdicts_prefix(archive.dbid),
        ):
            for each in archive.store.list(prefix):
                self._result.objects_checked += 1
                try:
                    self._read_small(each.name, prefix)
                except DamageFound as problem:
                    self._result.findings.append(finding_of(problem, each.name, backup_id=names.label_in(each.name)))
                except ObjectMissing:
                    continue  # its backup ended while we looked

    def _read_small(self, name: str, prefix: str) -> None:
        if prefix == names.intents_prefix(self._archive.dbid):
            read_intent(self._archive.sealed, self._archive.dbid, names.label_in(name))
        elif prefix == names.tombs_prefix(self._archive.dbid):
            self._archive.sealed.read("tomb", name)
        else:
            self._archive.read_verdict(name)

    def _strangers(self) -> None:
        dbid = self._archive.dbid
        known = ("backup/", "data/", "intent/", "log/", "map/", "tomb/", "verify/", "identity.json")
        for each in self._archive.store.list(names.database_prefix(dbid)):
            if not each.name.removeprefix(names.database_prefix(dbid)).startswith(known):
                self._result.findings.append(Finding(each.name, "no object of an archive has such a name"))

    def _presence(self, backups: list[ArchivedBackup]) -> None:
        seen: set[str] = set()
        for backup in backups:
            expected: dict[str, int] = {}
            for name, size, backup_file, pages in _named(backup):
                expected[name] = size
                self._total += size if name not in seen else 0
                if name not in seen and self._level is not Level.DATA:
                    self._look_at(name, size, backup.record.id, backup_file, pages)
                seen.add(name)
            self._surplus(backup, expected)

    def _look_at(self, name: str, size: int, backup_id: str, file: str, pages: tuple[int, int] | None) -> None:
        self._result.objects_checked += 1
        first, last = pages or (None, None)
        try:
            found = self._archive.store.stat(name).size_bytes
        except ObjectMissing:
            self._result.findings.append(Finding(name, "it is missing", backup_id, file, first, last))
            return
        if found != size:
            problem = f"it has {found} bytes, {size} were stored"
            self._result.findings.append(Finding(name, problem, backup_id, file, first, last))

    def _surplus(self, backup: ArchivedBackup, expected: dict[str, int]) -> None:
        label = backup.record.id
        for prefix in (names.data_prefix(self._archive.dbid, label), names.maps_prefix(self._archive.dbid, label)):
            for each in self._archive.store.list(prefix):
                if each.name not in expected:
                    self._result.findings.append(Finding(each.name, "the backup's record does not name it", label))

    def _data(self, backups: list[ArchivedBackup]) -> None:
        seen: set[str] = set()
        for backup in backups:
            for file in backup.record.files:
                self._file(backup.record.id, file)
            for stored in backup.record.logs:
                # Each log object is read once; every record that names it must name the same bytes.
                key = f"{stored.name} {stored.sha256}"
                if key not in seen:
                    seen.add(key)
                    self._log(backup.record.id, stored)

    def _file(self, backup_id: str, file: StoredFile) -> None:
        def on_bytes(count: int) -> None:
            self._read(count, file.path)

        def on_problem(problem: FileProblem) -> None:
            self._result.findings.append(
                Finding(
                    problem.object_name, problem.problem, backup_id, file.path, problem.first_page, problem.last_page
                )
            )

        self._result.objects_checked += len(file.segments) + 1
        inspect_file(file, self._archive.store, on_problem, on_bytes, workers=self._workers)

    def _log(self, backup_id: str, stored: StoredLog) -> None:
        self._result.objects_checked += 1
        try:
            self._read(check_log(self._archive.store, stored), stored.name)
        except DamageFound as problem:
            self._result.findings.append(finding_of(problem, stored.name, backup_id=backup_id))
        except ObjectMissing:
            self._result.findings.append(Finding(stored.name, "it is missing", backup_id))

    def _unnamed_logs(self, listing: Listing) -> None:
        named = {stored.name for backup in listing.backups for stored in backup.record.logs}
        for each in self._archive.store.list(names.logs_prefix(self._archive.dbid)):
            if each.name in named:
                continue
            self._result.objects_checked += 1
            try:
                read_through(self._archive.store, each.name)
                self._read(each.size_bytes, each.name)
            except DamageFound as problem:
                self._result.findings.append(finding_of(problem, each.name))
            except ObjectMissing:
                continue

    def _read(self, count: int, what: str) -> None:
        self._result.read_bytes += count
        if self._report:
            self._report(Progress(what, self._result.read_bytes, self._total))


def _named(backup: ArchivedBackup) -> Iterator[tuple[str, int, str, tuple[int, int] | None]]:
    """Every object that a record names: name, length, the file that it is about, its pages."""
    for file in backup.record.files:
        for segment in file.segments:
            pages = (segment.first_page, segment.first_page + segment.page_count - 1)
            yield segment.name, segment.stored_bytes, file.path, pages
        yield file.map.name, file.map.stored_bytes, file.path, None
    for stored in backup.record.logs:
        yield stored.name, stored.stored_bytes, "", None
