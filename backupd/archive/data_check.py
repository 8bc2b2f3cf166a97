"""The level data of a verify: the only place that reads segments, maps and log files to judge them.

A read error does not end it at once: the object is left out and the next one is
read, until several in a row cannot be read.  What cannot be read is not damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from backupd.archive import names
from backupd.archive.coverage import data_objects
from backupd.archive.findings import Finding, finding_of
from backupd.archive.logs import check_log, read_through
from backupd.archive.objects import check_stored, object_of
from backupd.archive.verify_result import ReadPlan, VerifyResult
from backupd.errors import ArchiveUnreachable, BackupdError, DamageFound, KeyMissing, ObjectMissing
from backupd.model.records import ArchivedBackup, Progress, StoredFile, StoredLog, StoredSegment
from backupd.pipeline.inspect import FileProblem, inspect_file, inspect_segment
from backupd.ports import ReportProgress, StoredObject
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

# After so many objects in a row the archive is away, and not only one of its sectors.
_UNREADABLE_IN_A_ROW_MAX = 3

Part = tuple[StoredFile, StoredSegment | None] | StoredLog


class DataCheck:
    """Reads what the plan names and notes in ``result`` what it sees, object by object."""

    def __init__(
        self,
        archive: DatabaseArchive,
        result: VerifyResult,
        plan: ReadPlan,
        *,
        report: ReportProgress | None,
        workers: int,
    ) -> None:
        self._archive, self._store = archive, archive.store
        self._result, self._plan = result, plan
        self._report, self._workers = report, workers
        # Without a private key what is encrypted is compared with its record byte by byte, and not looked into.
        self._keys = archive.keys if archive.keys.may_read else None
        self._total_bytes = 0
        self._unreadable_in_a_row = 0

    def run(self, backups: Sequence[ArchivedBackup]) -> None:
        """Read all, or the plan's names in their order.

        Raises:
            ArchiveUnreachable: it is away, or not all could be read.
            KeyMissing: a key was named, and it does not open what it is for.
        """
        if self._keys is not None:
            for backup in backups:
                self._mac(backup)
        if self._plan.names is None:
            objects = {each for backup in backups for each in data_objects(backup.record)}
            self._total_bytes = sum(each.size_bytes for each in objects)
            for backup in backups:
                self._whole(backup)
        else:
            self._sample(backups, self._plan.names)
        if self._result.unreadable:
            raise next(iter(self._result.unreadable.values()))

    def unnamed_logs(self, named: frozenset[str]) -> None:
        """Read the log files that no record names. Raises ArchiveUnreachable."""
        for each in self._store.list(names.logs_prefix(self._archive.dbid)):
            if each.name in named:
                continue
            self._result.objects_checked += 1
            try:
                read_through(self._store, each.name)
                self._result.read_bytes += each.size_bytes
                self._tell()
            except DamageFound as problem:
                self._result.findings.append(finding_of(problem, each.name))
            except ObjectMissing:
                continue

    def _mac(self, backup: ArchivedBackup) -> None:
        try:
            self._archive.check_mac(backup.record)
        except DamageFound as problem:
            name = names.record_name(self._archive.dbid, backup.record.id)
            self._result.findings.append(finding_of(problem, name, backup_id=backup.record.id))

    def _whole(self, backup: ArchivedBackup) -> None:
        for file in backup.record.files:
            self._file(backup.record.id, file)
        for stored in backup.record.logs:
            each = object_of(stored)
            # Each log object is read once; every record that names it must name the same bytes.
            if not self._is_settled(each):
                self._one(backup.record.id, each, stored)

    def _sample(self, backups: Sequence[ArchivedBackup], wanted: tuple[str, ...]) -> None:
        parts: dict[str, dict[StoredObject, tuple[str, Part]]] = {}
        for backup in backups:
            for each, part in _parts(backup):
                parts.setdefault(each.name, {}).setdefault(each, (backup.record.id, part))
        found = [(each, *owner) for name in wanted for each, owner in parts.get(name, {}).items()]
        self._total_bytes = sum(each.size_bytes for each, _, _ in found)
        for number, (each, backup_id, part) in enumerate(found):
            if number and self._plan.out_of_time():
                return
            self._one(backup_id, each, part)

    def _file(self, backup_id: str, file: StoredFile) -> None:
        """A whole file: its segments against its map, and all of it against its BLAKE3."""
        parts = dict(_parts_of(file))
        by_name = {each.name: each for each in parts}
        doubts = {each: self._first_look(each) for each in parts if each.name in self._plan.doubted}

        def on_problem(problem: FileProblem) -> None:
            pages = (problem.first_page, problem.last_page)
            finding = Finding(problem.object_name, problem.problem, backup_id, file.path, *pages)
            self._result.found_damaged(by_name[problem.object_name], finding)

        def on_read(name: str, _: int) -> None:
            step("archive.verify_object")
            self._result.found_sound(by_name[name])
            self._unreadable_in_a_row = 0
            self._tell()

        self._result.objects_checked += len(parts)
        try:
            inspect_file(file, self._store, on_problem, on_read, keys=self._keys, workers=self._workers)
        except (ArchiveUnreachable, KeyMissing) as error:
            if isinstance(error, KeyMissing) and self._keys is not None:
                raise
            # One by one from here on: what can be read is still worth knowing.
            self._result.objects_checked -= len(parts)
            for each, part in parts.items():
                if self._is_settled(each):
                    self._result.objects_checked += 1
                else:
                    self._one(backup_id, each, part)
        else:
            self._result.compared.add((backup_id, file.path))
        self._settle_doubts(backup_id, file.path, doubts)

    def _one(self, backup_id: str, each: StoredObject, part: Part) -> None:
        """One object for itself; a read error is remembered, until there are too many in a row."""
        step("archive.verify_object")
        self._result.objects_checked += 1
        file = "" if isinstance(part, StoredLog) else part[0].path
        doubts = {each: self._first_look(each)} if each.name in self._plan.doubted else {}

        def on_problem(problem: FileProblem) -> None:
            finding = Finding(each.name, problem.problem, backup_id, file, problem.first_page, problem.last_page)
            self._result.found_damaged(each, finding)

        def on_read(name: str, count_bytes: int) -> None:
            del name, count_bytes
            self._result.found_sound(each)

        try:
            try:
                self._read(part, on_problem, on_read)
            except KeyMissing:
                if self._keys is not None:
                    raise
                self._result.as_stored.add(backup_id)
                check_stored(self._store, each)
                on_read(each.name, each.size_bytes)
        except DamageFound as problem:
            self._result.found_damaged(each, finding_of(problem, each.name, backup_id=backup_id, file=file))
        except ObjectMissing:
            self._result.found_damaged(each, Finding(each.name, "it is missing", backup_id, file))
        except ArchiveUnreachable as error:
            self._result.unreadable[each] = error
            self._unreadable_in_a_row += 1
            if self._unreadable_in_a_row >= _UNREADABLE_IN_A_ROW_MAX:
                raise
            return
        self._unreadable_in_a_row = 0
        self._settle_doubts(backup_id, file, doubts)
        self._tell()

    def _is_settled(self, each: StoredObject) -> bool:
        """Whether it was looked at in this run already."""
        return each in self._result.read or each in self._result.damaged or each in self._result.unreadable

    def _read(self, part: Part, on_problem: Callable[[FileProblem], None], on_read: Callable[[str, int], None]) -> None:
        if isinstance(part, StoredLog):
            on_read(part.name, check_log(self._store, part, self._keys))
            return
        file, segment = part
        if segment is None:
            self._archive.load_map(file)
            on_read(file.map.name, file.map.stored_bytes)
        else:
            inspect_segment(file, self._store, segment, on_problem, on_read, keys=self._keys, workers=self._workers)

    def _first_look(self, each: StoredObject) -> str:
        """Read, past the cache, what was once found damaged; what is wrong with it, empty when nothing is."""
        with suppress(BackupdError):
            self._store.forget_cached(each.name)
        try:
            check_stored(self._store, each)
        except DamageFound as problem:
            return problem.because
        except (ObjectMissing, ArchiveUnreachable):
            return ""  # the look that follows says so
        with suppress(BackupdError):
            self._store.forget_cached(each.name)
        return ""

    def _settle_doubts(self, backup_id: str, file: str, doubts: dict[StoredObject, str]) -> None:
        for each, because in doubts.items():
            if because and each not in self._result.damaged:
                problem = f"it does not read alike twice: {because}"
                self._result.found_damaged(each, Finding(each.name, problem, backup_id, file))

    def _tell(self) -> None:
        if self._report:
            what = f"verifying {self._archive.name}"
            self._report(Progress(what, self._result.read_bytes, self._total_bytes))


def _parts(backup: ArchivedBackup) -> list[tuple[StoredObject, Part]]:
    found = [pair for file in backup.record.files for pair in _parts_of(file)]
    return found + [(object_of(stored), stored) for stored in backup.record.logs]


def _parts_of(file: StoredFile) -> list[tuple[StoredObject, Part]]:
    found: list[tuple[StoredObject, Part]] = [(object_of(file.map), (file, None))]
    return found + [(object_of(segment), (file, segment)) for segment in file.segments]
