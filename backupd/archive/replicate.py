"""Copies backups into a second archive as they are stored: the same bytes under the same names, so no key is needed.

An object is checked against the record while it passes, and read back from the
second place's medium before the record is created there, last, as the commit point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass

from backupd.archive import names
from backupd.archive.abort_removal import refuse_while_abort_goes, remove_abort
from backupd.archive.copy_intent import announce, rest, still_announced
from backupd.archive.database import DatabaseArchive
from backupd.archive.objects import check_stored, object_of, read_whole, twice
from backupd.archive.record import AbortRecord, decode_record
from backupd.digests import sha256_hasher, sha256_hex
from backupd.errors import BackupdError, DamageFound, NotFound, ObjectExists, ObjectMissing, Refused
from backupd.model.records import ArchivedBackup
from backupd.pipeline.container import damage
from backupd.ports import ObjectStore, StoredObject
from backupd.steps import step


@dataclass(frozen=True, slots=True)
class ToCopy:
    """One backup and what of it the second archive lacks, by names and lengths: objects and their stored bytes."""

    backup: ArchivedBackup
    missing_objects: int
    missing_bytes: int
    there_bytes: int


@dataclass(frozen=True, slots=True)
class Copied:
    """What copying one backup took: bytes that went over, bytes that were there already, bytes that were read back."""

    backup_id: str
    copied_objects: int = 0
    copied_bytes: int = 0
    kept_bytes: int = 0
    verified_bytes: int = 0


def objects_of(backup: ArchivedBackup) -> list[StoredObject]:
    """Every object that a record names, in the order to copy: log files, segments, page maps."""
    record = backup.record
    segments = [segment for file in record.files for segment in file.segments]
    found = [*map(object_of, record.logs), *map(object_of, segments), *(object_of(file.map) for file in record.files)]
    return list({each.name: each for each in found}.values())


def to_copy(target: DatabaseArchive | None, backups: Sequence[ArchivedBackup]) -> tuple[ToCopy, ...]:
    """What copying these backups would take; an object that several of them name is counted once. Changes nothing."""
    known: dict[str, int] = {}
    if target is not None:
        known = {each.name: each.size_bytes for each in target.store.list(names.logs_prefix(target.dbid))}
    found = []
    for backup in backups:
        if target is not None:
            known |= {each.name: each.size_bytes for each in _parts(target, backup.record.id)}
        missing = [each for each in objects_of(backup) if each.name not in known]
        there = sum(each.size_bytes for each in objects_of(backup) if each.name in known)
        found.append(ToCopy(backup, len(missing), sum(each.size_bytes for each in missing), there))
        known |= {each.name: each.size_bytes for each in missing}
    return tuple(found)


def _parts(target: DatabaseArchive, label: str) -> Iterator[StoredObject]:
    yield from target.store.list(names.data_prefix(target.dbid, label))
    yield from target.store.list(names.maps_prefix(target.dbid, label))


class Replicator:
    """Copies backups of one database from ``source`` to its replica ``target``, each whole or not at all.

    The caller holds the database's lease.  ``on_bytes`` is told from this thread
    how many bytes of the backup are in place and read back.
    """

    def __init__(self, source: DatabaseArchive, target: DatabaseArchive, *, threads: int = 2) -> None:
        self._source = source
        self._target = target
        self._threads = threads
        self._proven: dict[str, str] = {}

    def copy(self, backup: ArchivedBackup, on_bytes: Callable[[int], None] = lambda _: None) -> Copied:
        """Copy one backup whose parent is there already; may be repeated, and goes on where it was left.

        Raises:
            DamageFound: an object is not what the record says: ``details["archive"]`` says where.
            NotFound: the backup is gone from the source.
            Refused: its parent is not in the replica, or another process gave this copy up.
            Busy: a deletion is under way there.
            ArchiveUnreachable: one of the two archives cannot be reached now.
        """
        label = backup.record.id
        data = self._record_bytes(backup)
        intent = announce(self._target, label, {each.name for each in backup.record.logs})
        try:
            self._refuse_without_parent(backup)
            listed = self._take_back_abort(label, data)
            copied = self._objects(backup, on_bytes)
            if not listed:
                self._bring_bare_note(label)
            self._target.store.sync()
            still_announced(self._target, intent)
            if not listed:
                self._commit(label, data)
        except BaseException:
            with suppress(BackupdError):
                rest(self._target, intent)
            raise
        # Committed.  A note that stays behind is ignored, and settled later.
        with suppress(BackupdError):
            self._target.store.delete(intent.name)
        return copied

    def _record_bytes(self, backup: ArchivedBackup) -> bytes:
        """The record's own bytes, which are those that the listing has read. Raises NotFound."""
        name = names.record_name(self._source.dbid, backup.record.id)
        try:
            data = read_whole(self._source.store, name)
        except ObjectMissing:
            self._source.get(backup.record.id)  # says NotFound, in its words
            raise
        if sha256_hex(data) != backup.sha256:
            raise _of(self._source.store, damage(name, "it is not the record that was listed"))
        return data

    def _refuse_without_parent(self, backup: ArchivedBackup) -> None:
        parent = backup.record.parent
        if parent is None:
            return
        try:
            same = self._target.get(parent).sha256 == backup.record.parent_sha256
        except NotFound:
            same = False
        if not same:
            raise Refused(
                f"the backup {backup.record.id} cannot be copied before what it builds on",
                because=f"{self._target.store.describe()} does not hold the backup {parent}",
                next_step=f"copy both: backupctl copy-archive {self._source.name}",
            )

    def _take_back_abort(self, label: str, data: bytes) -> bool:
        """Whether the record is there already; an earlier copy that was given up must not stand in the way for ever."""
        name = names.record_name(self._target.dbid, label)
        store = self._target.store
        try:
            found = read_whole(store, name)
        except ObjectMissing:
            refuse_while_abort_goes(self._target, label)
            return False
        if found == data:
            return True
        try:
            there = decode_record(name, found, self._target.repository.uuid)
        except DamageFound as harm:
            raise _of(store, harm) from harm
        if not isinstance(there, AbortRecord):
            raise _of(store, damage(name, "it is not the record that the first archive has"))
        refuse_while_abort_goes(self._target, label)
        remove_abort(self._target, label, leased=self._source)
        return False

    def _objects(self, backup: ArchivedBackup, on_bytes: Callable[[int], None]) -> Copied:
        sums = {True: 0, False: 0}  # bytes that had to be copied, and that were there
        copied_objects = verified_bytes = 0
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="copy")
        try:
            moves = {pool.submit(self._bring, backup.record.id, each): each for each in objects_of(backup)}
            for move in as_completed(moves):
                each = moves[move]
                copied, read_bytes = move.result()
                self._proven[each.name] = each.sha256
                sums[copied] += each.size_bytes
                copied_objects += copied
                verified_bytes += read_bytes
                on_bytes(sum(sums.values()))
        finally:
            # After a failure those that wait are not begun; an object that is on its way is whole or not there.
            pool.shutdown(wait=True, cancel_futures=True)
        return Copied(backup.record.id, copied_objects, sums[True], sums[False], verified_bytes)

    def _bring_bare_note(self, label: str) -> None:
        """A bare full is bare there too: its record names log that is nowhere any more."""
        name = names.bare_name(self._source.dbid, label)
        step("copy.bare")
        with suppress(ObjectMissing, ObjectExists):
            self._target.store.create(name, [read_whole(self._source.store, name)])

    def _bring(self, label: str, wanted: StoredObject) -> tuple[bool, int]:
        """Whether the object had to be copied, and how many bytes of it were read back from the replica's medium."""
        store = self._target.store
        step("copy.object")
        try:
            there = store.stat(wanted.name).size_bytes
            copied = False
            if there == wanted.size_bytes and self._proven.get(wanted.name) == wanted.sha256:
                return False, 0  # another backup of this run names it too
        except ObjectMissing:
            copied = self._transfer(label, wanted)
        step("copy.prove")
        try:
            store.forget_cached(wanted.name)
            return copied, check_stored(store, wanted)
        except ObjectMissing as missing:
            raise _of(store, damage(wanted.name, "it was there a moment ago and is gone")) from missing
        except DamageFound as harm:
            raise _of(store, harm, self._after_damage_there(label, wanted.name)) from harm

    def _after_damage_there(self, label: str, name: str) -> str:
        """What helps; an object of a half-done copy (a power cut) belongs to nothing that is listed."""
        database, where = self._source.name, self._target.store.describe()
        again = f"backupctl copy-archive {database} {label}"
        if names.label_in(name) == label and label not in self._target.list().by_id():
            return f"nothing that is listed there needs this object: remove it by hand, then {again}"
        return f"see how far it goes: backupctl verify {database} --archive second; {where} may need another disk"

    def _transfer(self, label: str, wanted: StoredObject) -> bool:
        source, store = self._source.store, self._target.store
        try:
            kept = self._target.retain_until()
            twice(source, wanted.name, lambda: store.create(wanted.name, _checked(source, wanted), retain_until=kept))
        except ObjectExists:
            return False
        except ObjectMissing as missing:
            self._source.get(label)  # a prune took it away meanwhile: NotFound, in its words
            raise _of(source, damage(wanted.name, "it is missing, and a backup's record names it")) from missing
        except DamageFound as harm:
            raise _of(source, harm) from harm
        return True

    def _commit(self, label: str, data: bytes) -> None:
        name = names.record_name(self._target.dbid, label)
        store = self._target.store
        step("copy.commit")
        with suppress(ObjectExists):  # a reply that was lost; what is there is compared below
            store.create(name, [data], retain_until=self._target.retain_until())
        store.sync()
        with suppress(BackupdError):
            store.forget_cached(name)
        if read_whole(store, name) != data:
            raise _of(store, damage(name, "the record that was read back is not the one that was copied"))


def _checked(source: ObjectStore, wanted: StoredObject) -> Iterator[bytes]:
    """The object's pieces; one that is not what the record says fails before it exists at the other place."""
    hasher = sha256_hasher()
    size = 0
    for piece in source.read(wanted.name):
        hasher.update(piece)
        size += len(piece)
        yield piece
    if size != wanted.size_bytes:
        raise damage(wanted.name, f"it has {size} bytes, {wanted.size_bytes} were stored")
    if hasher.hexdigest() != wanted.sha256:
        raise damage(wanted.name, "its SHA-256 is not that of what was stored")


def _of(store: ObjectStore, harm: DamageFound, next_step: str = "") -> DamageFound:
    """The same damage, and in which of the two archives it is."""
    where = store.describe()
    details = {**harm.details, "archive": where}
    return DamageFound(
        f"{harm.problem}, in {where}", because=harm.because, next_step=next_step or harm.next_step, **details
    )
