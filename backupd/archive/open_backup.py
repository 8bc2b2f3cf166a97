"""A backup that is being made: where its objects go, their proof, and its one commit point."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.archive import logs, names
from backupd.archive.intent import Intent
from backupd.archive.keys import key_id
from backupd.archive.objects import check_stored, delete_all, object_of, read_whole
from backupd.archive.proof import Prover
from backupd.archive.record import AbortRecord, decode_record, encode_abort, encode_record, mac_of
from backupd.digests import sha256_hex
from backupd.errors import BackupdError, KeptByLock, ObjectExists, Refused
from backupd.model.records import ArchivedBackup, BackupRecord, Encryption, LogFile, StoredLog
from backupd.pipeline.cipher import CIPHER, DataKey
from backupd.pipeline.container import damage
from backupd.pipeline.store import NewObject, new_object
from backupd.ports import StoredObject, StoreFeature
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive


class OpenBackup:
    """The ``SegmentSink`` of the pipeline; ends by ``commit`` or ``abort``, once.

    Objects are proven (read back from the medium) in a thread while the next
    ones are made.
    """

    def __init__(
        self,
        archive: DatabaseArchive,
        intent: Intent,
        parent: ArchivedBackup | None,
        level: int,
        key: DataKey | None = None,
    ) -> None:
        self._archive = archive
        self._store = archive.store
        self._intent = intent
        self._parent = parent
        self._level = level
        self._key = key
        self._prover = Prover(archive.store)
        self._stored: dict[str, StoredObject] = {}
        self._segments = 0
        self.condemned: frozenset[str] = frozenset()  # names of log files that a sleeping deletion may still be after

    @property
    def label(self) -> str:
        """The backup's id."""
        return self._intent.label

    @property
    def nonce(self) -> str:
        """Goes into the record: tells our commit from another's."""
        return self._intent.nonce

    # --- storing ---

    def next_segment(self) -> NewObject:
        """Name the next segment."""
        name = names.segment_name(self._archive.dbid, self.label, self._segments)
        self._segments += 1
        return self._new(name, "segment")

    def next_map(self, file_number: int) -> NewObject:
        """Name the page map of a file."""
        return self._new(names.map_name(self._archive.dbid, self.label, file_number), "map")

    def _new(self, name: str, kind: str) -> NewObject:
        return new_object(name, kind, self._archive.repository.uuid, self._key)

    def put(self, new: NewObject, pieces: Iterable[bytes]) -> StoredObject:
        """Store an object and begin to prove it. Raises ArchiveUnreachable, ObjectExists."""
        stored = self._store.create(new.name, pieces, retain_until=self._archive.retain_until())
        self._remember(stored)
        return stored

    def put_log(self, log: LogFile, path: Path) -> StoredLog:
        """Store a log file, or find it there already; the caller has verified it.

        Raises:
            Refused: another log file has that history and number.
            DamageFound: the one that is there is damaged.
        """
        archive = self._archive
        stored = logs.put_log(
            self._store,
            log,
            path,
            repository=archive.repository.uuid,
            dbid=archive.dbid,
            label=self.label,
            key=self._key,
            condemned=self.condemned,
            retain_until=archive.retain_until(),
        )
        self._remember(object_of(stored))
        return stored

    def lend_log(self, stored: StoredLog) -> int:
        """Name a log file that another backup has stored, once it was read back from the medium: its bytes.

        Raises:
            DamageFound: it is not what that backup's record says.
            ObjectMissing: it is not there.
            Refused: it is being deleted.
        """
        if stored.name in self.condemned:
            raise Refused(
                f"the log file {stored.name} cannot be named by another backup",
                because="a run that lost its lease had begun to delete it, and may go on",
                next_step=f"take a full: backupctl backup {self._archive.name} --type full",
                object=stored.name,
            )
        lent = object_of(stored)
        step("archive.lend_log")
        self._store.forget_cached(lent.name)
        size = check_stored(self._store, lent)
        self._stored[lent.name] = lent
        return size

    def _remember(self, stored: StoredObject) -> None:
        self._stored[stored.name] = stored
        if StoreFeature.CHECKS_ON_ARRIVAL in self._store.features:
            self._prover.confirmed(stored)
        else:
            self._prover.add(stored)

    def prove(self, on_bytes: Callable[[int], None] | None = None) -> int:
        """Everything is durable and was read back; answers with the bytes read.

        Raises:
            DamageFound: an object is not what was stored.
        """
        self._store.sync()
        return self._prover.finish(on_bytes)

    # --- the end ---

    def commit(self, record: BackupRecord) -> ArchivedBackup:
        """Make the backup exist: proves what is not proven yet, then creates the record, the only commit point.

        Raises:
            Refused: somebody gave this backup up and fenced it.
            DamageFound: an object, or the record itself, is not what was stored.
        """
        self._must_fit(record)
        self.prove()
        name = names.record_name(self._archive.dbid, self.label)
        repository = self._archive.repository.uuid
        if self._key is not None:
            record = self._signed(record, self._key, name)
        data = encode_record(record, object_name=name, repository=repository)
        step("archive.commit")
        try:
            self._store.create(name, [data], retain_until=self._archive.retain_until())
        except ObjectExists:
            # A repeated call, or a reply that was lost: ours has our nonce.
            found = decode_record(name, read_whole(self._store, name), repository)
            if isinstance(found, AbortRecord) or found.nonce != self.nonce:
                raise Refused(
                    f"the backup {self.label} was given up before it was complete",
                    because=found.reason if isinstance(found, AbortRecord) else "another run has that id",
                    next_step=f"run it again: backupctl backup {self._archive.name}",
                ) from None
        self._store.sync()
        with suppress(BackupdError):
            self._store.forget_cached(name)
        stored = read_whole(self._store, name)
        if decode_record(name, stored, repository) != record:
            raise damage(name, "the record that was read back is not the one that was written")
        self._prover.close()
        # Committed.  An intent that stays behind is ignored, and swept later.
        with suppress(BackupdError):
            self._store.delete(names.intent_name(self._archive.dbid, self.label))
        return ArchivedBackup(record, sha256_hex(stored))

    def abort(self, reason: str) -> None:
        """Give the backup up: it cannot be committed any more, and its data is removed. May be repeated.

        Raises:
            Refused: it is committed already.
        """
        self._prover.close()
        archive = self._archive
        step("archive.abort")
        fence(archive, self.label, reason)
        with suppress(KeptByLock):  # fenced is what counts; a sweep removes the rest
            remove_parts(archive, self.label)

    def withdraw(self) -> None:
        """Take back the announcement, when nothing was stored yet."""
        self._prover.close()
        with suppress(BackupdError):
            self._store.delete(names.intent_name(self._archive.dbid, self.label))

    def _signed(self, record: BackupRecord, key: DataKey, name: str) -> BackupRecord:
        kids = tuple(key_id(each) for each in self._archive.repository.keys.recipients)
        record = replace(record, encryption=Encryption(CIPHER, key.wrapped, kids))
        mac = mac_of(record, key, object_name=name, repository=self._archive.repository.uuid)
        return replace(record, encryption=Encryption(CIPHER, key.wrapped, kids, mac))

    def _must_fit(self, record: BackupRecord) -> None:
        parent = self._parent
        expected = (
            self.label,
            self.nonce,
            parent.record.id if parent else None,
            parent.sha256 if parent else None,
        )
        if (record.id, record.nonce, record.parent, record.parent_sha256) != expected:
            raise ValueError(f"the record is not that of the backup that was begun: {record.id}, {expected}")
        named = {segment.name: segment.sha256 for file in record.files for segment in file.segments}
        named |= {file.map.name: file.map.sha256 for file in record.files}
        named |= {stored.name: stored.sha256 for stored in record.logs}
        for name, sha256 in named.items():
            if name not in self._stored or self._stored[name].sha256 != sha256:
                raise ValueError(f"the record names {name}, which this backup has not stored")


def fence(archive: DatabaseArchive, label: str, reason: str) -> None:
    """Create the ABORT record where the COMMIT record would go: one of them wins, for ever.

    Raises:
        Refused: the backup is committed.
    """
    name = names.record_name(archive.dbid, label)
    abort = AbortRecord(label, reason, archive.clock.now(), "backupd")
    try:
        archive.store.create(name, [encode_abort(abort, object_name=name, repository=archive.repository.uuid)])
        archive.store.sync()
    except ObjectExists:
        found = decode_record(name, read_whole(archive.store, name), archive.repository.uuid)
        if not isinstance(found, AbortRecord):
            raise Refused(
                f"the backup {label} cannot be given up",
                because="it is complete",
                next_step=f"look at it: backupctl show {label}",
            ) from None


def remove_parts(archive: DatabaseArchive, label: str) -> tuple[int, int]:
    """Remove segments, maps and the intent of a fenced backup; count and bytes. Log files stay: others may use them.

    Raises:
        KeptByLock: some are kept by the store for now; all others are gone.
    """
    store = archive.store
    parts = [*store.list(names.data_prefix(archive.dbid, label)), *store.list(names.maps_prefix(archive.dbid, label))]
    count, size = delete_all(store, [*parts, StoredObject(names.intent_name(archive.dbid, label), 0)])
    return count - 1, size
