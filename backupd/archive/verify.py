"""Is what the archive holds still what was written, and can every backup be restored from it?

Three levels, each with all of the one before:

* manifest: every record and every small object is sound; chains have no holes; no record was lost
* presence: every object that a record names is there and has its length
* data: every byte is read, every hash compared, every page expanded and compared with its page map

A read error is no finding: it is ``ArchiveUnreachable``.  Damage is looked at
twice, the second time past the cache, before it is called so.  A plan may name a
part of the objects: then the level data reads these, each for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from backupd.archive import names
from backupd.archive.copy_intent import read_copy_intent
from backupd.archive.data_check import DataCheck
from backupd.archive.database import DatabaseArchive
from backupd.archive.findings import Finding, finding_of
from backupd.archive.holds import read_hold
from backupd.archive.intent import read_intent
from backupd.archive.listing import Listing
from backupd.archive.objects import object_of
from backupd.archive.repository import Repository
from backupd.archive.verify_result import Level, ReadPlan, VerifyResult
from backupd.errors import DamageFound, NotFound, ObjectMissing
from backupd.model.records import ArchivedBackup
from backupd.pipeline.layout import pages_of
from backupd.ports import ObjectStore, ReportProgress, StoredObject

__all__ = ["Level", "ReadPlan", "VerifyResult", "verify_database", "verify_repository"]

MakePlan = Callable[[Sequence[ArchivedBackup]], ReadPlan]


def _read_all(backups: Sequence[ArchivedBackup]) -> ReadPlan:
    del backups
    return ReadPlan()


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
    # The probe of a role that may not delete, or of a process that died, stays.
    known = (names.REPOSITORY, names.KEYS, "db/", "probe/")
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
    make_plan: MakePlan = _read_all,
    into: VerifyResult | None = None,
) -> VerifyResult:
    """One database's part of the archive, or only some of its backups.

    Args:
        archive: the database's part.
        level: how deep to look.
        backup_ids: only these backups; None: all, and what lies around them.
        report: told how far the reading has come.
        workers: threads that expand pages.
        make_plan: asked, at the level data, which objects of the backups to read.
        into: grows while the work goes on, so that the caller has it when this raises.

    Raises:
        NotFound: one of ``backup_ids`` does not exist.
        ArchiveUnreachable: the archive, or an object of it, cannot be read now.
    """
    result = VerifyResult() if into is None else into
    _Verify(archive, level, result, make_plan, report, workers).run(backup_ids)
    return result


def _read_each(store: ObjectStore, prefix: str, read: Callable[[str], object], result: VerifyResult) -> None:
    """Read every object below ``prefix``; what is damaged becomes a finding."""
    for each in store.list(prefix):
        result.objects_checked += 1
        try:
            read(each.name)
        except DamageFound as problem:
            result.findings.append(finding_of(problem, each.name, backup_id=names.label_in(each.name)))
        except ObjectMissing:
            continue  # its backup ended while we looked


class _Verify:
    def __init__(
        self,
        archive: DatabaseArchive,
        level: Level,
        result: VerifyResult,
        make_plan: MakePlan,
        report: ReportProgress | None,
        workers: int,
    ) -> None:
        self._archive = archive
        self._level = level
        self._result = result
        self._make_plan = make_plan
        self._report = report
        self._workers = workers

    def run(self, backup_ids: Sequence[str] | None) -> None:
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
            plan = self._make_plan(backups)
            check = DataCheck(self._archive, self._result, plan, report=self._report, workers=self._workers)
            check.run(backups)
            if backup_ids is None and plan.names is None:
                check.unnamed_logs(
                    frozenset(stored.name for backup in listing.backups for stored in backup.record.logs)
                )

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
        readers: dict[str, Callable[[str], object]] = {
            names.KEYS: partial(archive.sealed.read, "key"),  # one may be the only private key there is
            names.intents_prefix(archive.dbid): self._read_intent,
            names.tombs_prefix(archive.dbid): partial(archive.sealed.read, "tomb"),
            names.leases_prefix(archive.dbid): partial(archive.sealed.read, "lease"),
            names.verdicts_prefix(archive.dbid): archive.read_verdict,
            names.holds_prefix(archive.dbid): partial(read_hold, archive),
            names.bares_prefix(archive.dbid): partial(archive.sealed.read, "bare"),
            names.gones_prefix(archive.dbid): partial(archive.sealed.read, "gone"),
        }
        for prefix, read in readers.items():
            _read_each(archive.store, prefix, read, self._result)

    def _read_intent(self, name: str) -> object:
        if names.is_copy_intent(name):
            return read_copy_intent(self._archive, name)
        return read_intent(self._archive.sealed, self._archive.dbid, names.label_in(name))

    def _strangers(self) -> None:
        dbid = self._archive.dbid
        known = ("backup/", "bare/", "data/", "gone/", "hold/", "intent/", "lease/", "log/", "map/", "tomb/", "verify/")
        for each in self._archive.store.list(names.database_prefix(dbid)):
            if not each.name.removeprefix(names.database_prefix(dbid)).startswith((*known, "identity.json")):
                self._result.findings.append(Finding(each.name, "no object of an archive has such a name"))

    def _presence(self, backups: list[ArchivedBackup]) -> None:
        seen: set[StoredObject] = set()
        for backup in backups:
            expected: set[str] = set()
            for each, backup_file, pages in _named(backup):
                expected.add(each.name)
                if each not in seen and self._level is not Level.DATA:
                    self._look_at(each, backup.record.id, backup_file, pages)
                seen.add(each)
            self._surplus(backup, expected)

    def _look_at(self, each: StoredObject, backup_id: str, file: str, pages: tuple[int, int] | None) -> None:
        self._result.objects_checked += 1
        first, last = pages or (None, None)
        try:
            found = self._archive.store.stat(each.name).size_bytes
        except ObjectMissing:
            problem = "it is missing"
        else:
            if found == each.size_bytes:
                return
            problem = f"it has {found} bytes, {each.size_bytes} were stored"
        self._result.found_damaged(each, Finding(each.name, problem, backup_id, file, first, last))

    def _surplus(self, backup: ArchivedBackup, expected: set[str]) -> None:
        label = backup.record.id
        for prefix in (names.data_prefix(self._archive.dbid, label), names.maps_prefix(self._archive.dbid, label)):
            for each in self._archive.store.list(prefix):
                if each.name not in expected:
                    self._result.findings.append(Finding(each.name, "the backup's record does not name it", label))


def _named(backup: ArchivedBackup) -> Iterator[tuple[StoredObject, str, tuple[int, int] | None]]:
    """Every object that a record names, the file that it is about, and its pages."""
    for file in backup.record.files:
        for index, segment in enumerate(file.segments):
            yield object_of(segment), file.path, pages_of(file, index)
        yield object_of(file.map), file.path, None
    for stored in backup.record.logs:
        yield object_of(stored), "", None
