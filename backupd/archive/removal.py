"""Removes on order: delete a backup, prune log files (sweep.py removes what dead backups left).

The rules (reference/archives.md, section 7.3):

* An object of a backup is garbage only when the backup's record is ABORT, or is
  absent while a tomb exists.  Anything else is kept and reported.
* A backup writes its intent, then reads the tombs.  A deletion writes its tomb,
  then reads the intents.  One of the two sees the other; neither needs a clock.
* First the record goes (nobody lists the backup any more), then what it named.
  A deletion that was interrupted is finished by the next one, or by ``sweep``.
* What the store keeps for now (Object Lock, a role that may not delete) is left
  behind an ABORT record in the old record's place: ``sweep`` tries it again, and
  no tomb stands in the way of the next backup meanwhile.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backupd.archive import names
from backupd.archive.intent import read_intent
from backupd.archive.listing import Listing
from backupd.archive.objects import Removing, delete_all
from backupd.archive.open_backup import fence, remove_parts
from backupd.errors import BackupdError, Busy, DamageFound, KeptByLock, NotFound, ObjectExists, ObjectMissing, Refused
from backupd.model.records import BackupRecord, LogFile
from backupd.ports import StoredObject
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

LOGS_TOMB = "logs-"


@dataclass(frozen=True, slots=True)
class Removed:
    """How many objects were removed, and their stored bytes; ``later`` says why some are kept for now."""

    count: int
    bytes: int
    later: str = ""


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
    # A tomb that could not be taken back would stop every backup: who may not delete is told so before there is one.
    archive.store.delete(f"{tomb}.trial")
    step("archive.tomb")
    with suppress(ObjectExists):  # an interrupted deletion of it: its tomb knows the log files
        archive.sealed.create("tomb", tomb, content)
    archive.store.sync()
    return finish_deletion(archive, backup_id, decided_now=True)


def finish_deletion(archive: DatabaseArchive, label: str, *, decided_now: bool = False) -> Removed:
    """Do what the tomb says, from wherever it was left. Raises Busy, Refused (both take the tomb back).

    While the record is there the backup is whole.  An order that an earlier process
    left is taken back then: by now that backup may be the last good one.
    """
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
    if not decided_now and _there(archive, record):
        archive.store.delete(tomb)
        raise Refused(
            f"the deletion of {label} was taken back",
            because="nothing of the backup had been removed yet, and the next prune decides about it anew",
            next_step=f"backupctl prune {archive.name}",
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
    try:
        store.delete(record)
    except KeptByLock:
        store.delete(tomb)
        raise
    # The record must be gone for good before anything that it names goes.
    store.sync()
    removing = Removing(count=1)
    removing.attempt(lambda: remove_parts(archive, label))
    needed = _named_logs([each.record for each in listing.backups if each.record.id != label])
    unneeded = [name for name in (content or {}).get("logs", []) if name not in needed]
    if _all_records_readable(listing, but=record):
        removing.attempt(lambda: delete_all(store, _existing(archive, unneeded)))
    removing.attempt(lambda: delete_all(store, store.list(names.verdicts_prefix(archive.dbid, label))))
    if removing.kept is not None:
        fence(archive, label, f"it was deleted; what the archive keeps for now goes later: {removing.kept.because}")
    store.sync()
    store.delete(tomb)
    return Removed(removing.count, removing.bytes, removing.kept.because if removing.kept else "")


def prune_logs(archive: DatabaseArchive, *, reason: str) -> Removed:
    """See ``DatabaseArchive.prune_logs``."""
    candidates = _prunable_logs(archive)
    if not candidates:
        return Removed(0, 0)
    label = LOGS_TOMB + secrets.token_hex(8)
    archive.store.delete(f"{names.tomb_name(archive.dbid, label)}.trial")  # as in delete_backup
    content = {"label": label, "reason": reason, "at": archive.clock.now().isoformat(), "logs": sorted(candidates)}
    step("archive.tomb")
    archive.sealed.create("tomb", names.tomb_name(archive.dbid, label), content)
    archive.store.sync()
    return finish_log_prune(archive, label)


def finish_log_prune(archive: DatabaseArchive, label: str) -> Removed:
    """Do what the tomb for log files says, as far as it still holds. Raises Busy, Refused (both take it back)."""
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
    removing = Removing()
    removing.attempt(lambda: delete_all(archive.store, ordered))  # what is kept for now, the next prune finds again
    archive.store.sync()
    archive.store.delete(tomb)
    return Removed(removing.count, removing.bytes, removing.kept.because if removing.kept else "")


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
    log = log_of(archive, name)
    return bool(fulls) and log is not None and log[0].end.history == history and log[0].end.offset <= min(fulls)


def unnamed_logs(archive: DatabaseArchive, listing: Listing) -> list[StoredObject]:
    """Log objects that no committed backup names."""
    named = _named_logs([backup.record for backup in listing.backups])
    return [each for each in archive.store.list(names.logs_prefix(archive.dbid)) if each.name not in named]


def _named_logs(records: list[BackupRecord]) -> set[str]:
    return {stored.name for record in records for stored in record.logs}


def log_of(archive: DatabaseArchive, name: str) -> tuple[LogFile, str] | None:
    """The log file of an object and the label that stored it; None when it cannot be read (verify says so)."""
    from backupd.archive.logs import read_head  # pulls the pipeline in, which listing must not wait for

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
                with suppress(Refused):  # it had committed; or its parts are kept for now
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
