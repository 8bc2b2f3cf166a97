"""Everything that removes: delete a backup, prune log files, sweep what dead backups left.

The rules (reference/archives.md, section 7.3):

* An object of a backup is garbage only when the backup's record is ABORT, or is
  absent while a tomb exists.  Anything else is kept and reported.
* A backup writes its intent, then reads the tombs.  A deletion writes its tomb,
  then reads the intents.  One of the two sees the other; neither needs a clock.
* First the record goes (nobody lists the backup any more), then what it named.
  A deletion that was interrupted is finished by the next one, or by ``sweep``.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backupd.archive import names
from backupd.archive.findings import Finding
from backupd.archive.intent import read_intent
from backupd.archive.listing import Listing
from backupd.archive.logs import read_head
from backupd.archive.objects import delete_all
from backupd.archive.open_backup import fence, remove_parts
from backupd.errors import BackupdError, Busy, DamageFound, NotFound, ObjectExists, ObjectMissing, Refused
from backupd.model.records import BackupRecord, LogFile
from backupd.ports import StoredObject
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

_LOGS_TOMB = "logs-"
# An ABORT record outlives its data so long, so that a zombie's commit still fails.
_ABORT_KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Removed:
    """How many objects were removed, and their stored bytes."""

    count: int
    bytes: int


@dataclass(slots=True)
class Swept:
    """What a sweep did and found: backups that it fenced, what it removed, and what it must not touch."""

    aborted: list[str] = field(default_factory=list)
    removed_objects: int = 0
    removed_bytes: int = 0
    orphans: tuple[Finding, ...] = ()
    sentences: list[str] = field(default_factory=list)

    def add(self, count: int, size: int) -> None:
        """Count removed objects."""
        self.removed_objects += count
        self.removed_bytes += size


def delete_backup(archive: DatabaseArchive, backup_id: str, *, reason: str, by: str) -> Removed:
    """See ``DatabaseArchive.delete_backup``."""
    tomb = names.tomb_name(archive.dbid, backup_id) if names.is_label(backup_id) else ""
    if not tomb or not (_there(archive, names.record_name(archive.dbid, backup_id)) or _there(archive, tomb)):
        archive.get(backup_id)  # says NotFound, in its words
    listing = archive.list()
    _refuse_children(archive, backup_id, listing)
    if backup_id in {abort.id for abort in listing.aborted}:
        raise NotFound(
            f"there is no backup {backup_id} of {archive.name}",
            because="it was aborted; what it left is swept, not deleted",
            next_step="backupctl recover",
        )
    found = listing.by_id().get(backup_id)
    content = {
        "label": backup_id,
        "reason": reason,
        "by": by,
        "at": archive.clock.now().isoformat(),
        "logs": [stored.name for stored in found.record.logs] if found else [],
    }
    step("archive.tomb")
    with suppress(ObjectExists):  # an interrupted deletion of it: its tomb knows the log files
        archive.sealed.create("tomb", tomb, content)
    archive.store.sync()
    return _finish_deletion(archive, backup_id)


def _finish_deletion(archive: DatabaseArchive, label: str) -> Removed:
    """Do what the tomb says, from wherever it was left. Raises Busy, Refused (both take the tomb back)."""
    tomb = names.tomb_name(archive.dbid, label)
    content = _tomb_content(archive, tomb)
    record = names.record_name(archive.dbid, label)
    if content is None and _there(archive, record):
        archive.store.delete(tomb)
        raise DamageFound(
            f"the deletion of {label} was taken back",
            because=f"its order {tomb} is damaged",
            next_step=f"order it again: backupctl prune {archive.name}",
            object=tomb,
        )
    try:
        _no_live_intents(archive)
        listing = archive.list()
        _refuse_children(archive, label, listing)
    except (Busy, Refused):
        if _there(archive, record):
            archive.store.delete(tomb)
        raise
    store = archive.store
    step("archive.delete")
    store.delete(record)
    # The record must be gone for good before anything that it names goes.
    store.sync()
    count, size = remove_parts(archive, label)
    needed = _named_logs([each.record for each in listing.backups if each.record.id != label])
    unneeded = [name for name in (content or {}).get("logs", []) if name not in needed]
    if _all_records_readable(listing, but=record):
        more, more_size = delete_all(store, _existing(archive, unneeded))
        count, size = count + more, size + more_size
    more, more_size = delete_all(store, store.list(names.verdicts_prefix(archive.dbid, label)))
    store.sync()
    store.delete(tomb)
    return Removed(count + more + 1, size + more_size)


def prune_logs(archive: DatabaseArchive, *, reason: str) -> Removed:
    """See ``DatabaseArchive.prune_logs``."""
    candidates = _prunable_logs(archive)
    if not candidates:
        return Removed(0, 0)
    label = _LOGS_TOMB + secrets.token_hex(8)
    content = {"label": label, "reason": reason, "at": archive.clock.now().isoformat(), "logs": sorted(candidates)}
    step("archive.tomb")
    archive.sealed.create("tomb", names.tomb_name(archive.dbid, label), content)
    archive.store.sync()
    return _finish_log_prune(archive, label)


def _finish_log_prune(archive: DatabaseArchive, label: str) -> Removed:
    tomb = names.tomb_name(archive.dbid, label)
    content = _tomb_content(archive, tomb) or {}
    try:
        _no_live_intents(archive)
        still = _prunable_logs(archive)
    except BackupdError:
        archive.store.delete(tomb)
        raise
    step("archive.delete")
    ordered = [still[name] for name in content.get("logs", []) if name in still]
    count, size = delete_all(archive.store, ordered)
    archive.store.sync()
    archive.store.delete(tomb)
    return Removed(count, size)


def _prunable_logs(archive: DatabaseArchive) -> dict[str, StoredObject]:
    """Log objects that no backup names, and that end before the oldest full of their history, or whose history is gone.

    Raises:
        Refused: a record cannot be read, so what it names is not known.
    """
    listing = archive.list()
    if not _all_records_readable(listing):
        raise Refused(
            f"no log file of {archive.name} can be removed",
            because="a backup's record cannot be read, so which log files it needs is not known",
            next_step=f"backupctl verify --level manifest; then backupctl prune {archive.name} removes that backup",
        )
    records = [backup.record for backup in listing.backups]
    named = _named_logs(records)
    known = {position.history for record in records for position in (record.log_start, record.log_end)}
    known |= {stored.log.history for record in records for stored in record.logs}
    found = {}
    for each in archive.store.list(names.logs_prefix(archive.dbid)):
        if each.name in named:
            continue
        history = each.name.split("/")[3]
        if history not in known or _before_oldest_full(archive, each.name, history, records):
            found[each.name] = each
    return found


def _before_oldest_full(archive: DatabaseArchive, name: str, history: str, records: list[BackupRecord]) -> bool:
    fulls = [
        record.log_end.offset for record in records if record.type.takes_pages and record.log_end.history == history
    ]
    log = _log_of(archive, name)
    return bool(fulls) and log is not None and log[0].end.history == history and log[0].end.offset <= min(fulls)


def sweep(archive: DatabaseArchive, *, holding_lease: bool) -> Swept:
    """See ``DatabaseArchive.sweep``."""
    swept = Swept()
    _sweep_intents(archive, swept, holding_lease=holding_lease)
    _sweep_tombs(archive, swept)
    _sweep_aborted(archive, swept)
    archive.store.sync()
    swept.orphans = orphans(archive)
    return swept


def _sweep_intents(archive: DatabaseArchive, swept: Swept, *, holding_lease: bool) -> None:
    listing = archive.list()
    committed = set(listing.by_id())
    for each in list(archive.store.list(names.intents_prefix(archive.dbid))):
        label = names.label_in(each.name)
        if label in committed:
            archive.store.delete(each.name)
            continue
        try:
            intent = read_intent(archive.sealed, archive.dbid, label)
            dead = intent.seems_dead(archive.clock.now(), holding_lease=holding_lease)
        except ObjectMissing:
            continue
        except DamageFound:
            dead = holding_lease  # unreadable: as long as nobody can be making it here, fencing it is safe
        if dead and label:
            _fence_and_remove(archive, label, swept)


def _fence_and_remove(archive: DatabaseArchive, label: str, swept: Swept) -> None:
    try:
        fence(archive, label, "its process is gone")
    except Refused:
        archive.store.delete(names.intent_name(archive.dbid, label))  # it had committed
        return
    except DamageFound:
        return  # its record is there and damaged: verify reports it, nothing is removed
    step("archive.delete")
    swept.add(*remove_parts(archive, label))
    swept.aborted.append(label)
    swept.sentences.append(f"the backup {label} was left unfinished by a process that is gone; its data was removed")


def _sweep_tombs(archive: DatabaseArchive, swept: Swept) -> None:
    for each in list(archive.store.list(names.tombs_prefix(archive.dbid))):
        label = each.name.rpartition("/")[2].removesuffix(".json")
        finish = _finish_log_prune if label.startswith(_LOGS_TOMB) else _finish_deletion
        try:
            removed = finish(archive, label)
        except (Busy, Refused, DamageFound) as problem:
            swept.sentences.append(f"the deletion of {label} was not finished: {problem.because}")
            continue
        swept.add(removed.count, removed.bytes)
        swept.sentences.append(f"the interrupted deletion of {label} was finished")


def _sweep_aborted(archive: DatabaseArchive, swept: Swept) -> None:
    store = archive.store
    listing = archive.list()
    unnamed = _unnamed_logs(archive, listing)
    for abort in listing.aborted:
        parts = [*store.list(names.data_prefix(archive.dbid, abort.id))]
        parts += store.list(names.maps_prefix(archive.dbid, abort.id))
        if parts:
            step("archive.delete")
            swept.add(*remove_parts(archive, abort.id))
        elif archive.clock.now() - abort.at > _ABORT_KEPT and not unnamed:
            store.delete(names.record_name(archive.dbid, abort.id))


def orphans(archive: DatabaseArchive) -> tuple[Finding, ...]:
    """See ``DatabaseArchive.orphans``."""
    store, dbid = archive.store, archive.dbid
    excused = {
        names.label_in(each.name)
        for prefix in (names.intents_prefix(dbid), names.tombs_prefix(dbid), names.records_prefix(dbid))
        for each in store.list(prefix)
    }
    seen: dict[str, list[str]] = {}
    for prefix in (names.data_prefix(dbid), names.maps_prefix(dbid), names.verdicts_prefix(dbid)):
        for each in store.list(prefix):
            label = names.label_in(each.name)
            if label not in excused:
                seen.setdefault(label, []).append(each.name)
    for each in _unnamed_logs(archive, archive.list()):
        log = _log_of(archive, each.name)
        if log is not None and log[1] not in excused:
            seen.setdefault(log[1], []).append(each.name)
    return tuple(
        Finding(
            found[0],
            f"the record of this backup was lost: {len(found)} of its objects are here without it"
            if names.is_label(label)
            else "no object of an archive has such a name",
            label,
        )
        for label, found in sorted(seen.items())
    )


def _unnamed_logs(archive: DatabaseArchive, listing: Listing) -> list[StoredObject]:
    named = _named_logs([backup.record for backup in listing.backups])
    return [each for each in archive.store.list(names.logs_prefix(archive.dbid)) if each.name not in named]


def _named_logs(records: list[BackupRecord]) -> set[str]:
    return {stored.name for record in records for stored in record.logs}


def _log_of(archive: DatabaseArchive, name: str) -> tuple[LogFile, str] | None:
    """The log file of an object and the label that stored it; None when it cannot be read (verify says so)."""
    try:
        return read_head(archive.store, name)
    except (DamageFound, ObjectMissing):
        return None


def _all_records_readable(listing: Listing, but: str = "") -> bool:
    readable = {backup.record.id for backup in listing.backups}
    return all(each.backup_id in readable or each.object_name == but for each in listing.findings)


def _no_live_intents(archive: DatabaseArchive) -> None:
    """Fence what is dead; refuse while a backup is being made. Raises Busy."""
    committed = archive.list().labels()
    for each in list(archive.store.list(names.intents_prefix(archive.dbid))):
        label = names.label_in(each.name)
        if label in committed:
            continue
        with suppress(ObjectMissing):
            intent = read_intent(archive.sealed, archive.dbid, label)
            if intent.seems_dead(archive.clock.now(), holding_lease=False):
                with suppress(Refused):
                    fence(archive, label, "its process is gone")
                    remove_parts(archive, label)
                continue
            raise Busy(
                f"nothing of {archive.name} can be deleted now",
                because=f"the backup {label} is being made on {intent.holder.host} by process {intent.holder.pid}",
                next_step="wait for it, or end what is left of it: backupctl recover",
            )


def _refuse_children(archive: DatabaseArchive, backup_id: str, listing: Listing) -> None:
    children = listing.children_of(backup_id)
    if children:
        raise Refused(
            f"the backup {backup_id} cannot be deleted",
            because=f"{len(children)} backups build on it, the first is {children[0]}",
            next_step=f"let prune remove the whole chain when it is due: backupctl prune {archive.name}",
        )


def _tomb_content(archive: DatabaseArchive, tomb: str) -> dict[str, Any] | None:
    """What the tomb orders; None when it is damaged."""
    try:
        return archive.sealed.read("tomb", tomb)
    except DamageFound:
        return None


def _existing(archive: DatabaseArchive, some: list[str]) -> list[StoredObject]:
    found = []
    for name in some:
        with suppress(ObjectMissing):
            found.append(archive.store.stat(name))
    return found


def _there(archive: DatabaseArchive, name: str) -> bool:
    try:
        archive.store.stat(name)
    except ObjectMissing:
        return False
    return True
