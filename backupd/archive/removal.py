"""Removes backups on order (log_removal.py removes log files, sweep.py what dead backups left).

The rules (reference/archives.md, section 7.3):

* An object of a backup is garbage only when the backup's record is ABORT, or is
  absent while a tomb exists.  Anything else is kept and reported.
* A backup writes its intent, then reads the tombs.  A deletion writes its tomb,
  then reads the intents.  One of the two sees the other; neither needs a clock.
* First the record goes (nobody lists the backup any more), then what it named.
  A deletion that was interrupted is finished by the next one, or by ``sweep``.
* A deletion of a holder who lost the lease, and who may only sleep, can go on at
  any time.  Its tomb stays: nothing is built on what it orders to delete, and no
  log file gets a name that it may still delete.  On a server a tomb of a process
  that is gone stays so for an hour, for a request of its may arrive that late.
* What the store keeps for now (Object Lock, a role that may not delete) is left
  behind a note, ``gone/<label>.json``: ``sweep`` tries it again, and no tomb
  stands in the way of the next backup meanwhile.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupd.archive import names, tombs
from backupd.archive.copy_intent import refuse_live_copy
from backupd.archive.holds import refuse_held
from backupd.archive.intent import read_intent
from backupd.archive.listing import Listing
from backupd.archive.objects import Removing, delete_all
from backupd.archive.open_backup import fence, remove_parts
from backupd.errors import Busy, DamageFound, KeptByLock, NotFound, ObjectExists, ObjectMissing, Refused
from backupd.model.records import BackupRecord
from backupd.ports import StoredObject
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

# After so long a sleeper is taken for dead; the same assumption as with an ABORT record.
SLEEPER_AFTER = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Removed:
    """How many objects were removed, and their stored bytes; ``later`` says why some are kept for now."""

    count: int
    bytes: int
    later: str = ""


def delete_backup(
    archive: DatabaseArchive, backup_id: str, *, reason: str, by: str, since: Listing | None = None
) -> Removed:
    """See ``DatabaseArchive.delete_backup``."""
    tomb = names.tomb_name(archive.dbid, backup_id, tombs.mark(archive)) if names.is_label(backup_id) else ""
    if not tomb or not (_there(archive, names.record_name(archive.dbid, backup_id)) or _there(archive, tomb)):
        archive.get(backup_id)  # says NotFound, in its words
    listing = archive.list(since=since)
    _refuse_children(archive, backup_id, listing)
    if backup_id in {abort.id for abort in listing.aborted}:
        raise NotFound(
            f"there is no backup {backup_id} of {archive.name}",
            because="it was aborted; what it left is swept, not deleted",
            next_step="backupctl recover",
        )
    found = listing.by_id().get(backup_id)
    logs = [*(stored.name for stored in found.record.logs), *listing.let_go.get(backup_id, ())] if found else []
    content = {"label": backup_id, "reason": reason, "by": by, "logs": logs, **tombs.order(archive)}
    refuse_without_right(archive, tomb)
    step("archive.tomb")
    with suppress(ObjectExists):  # an interrupted deletion of it: its tomb knows the log files
        archive.sealed.create("tomb", tomb, content)
    archive.store.sync()
    return finish_deletion(archive, tomb, decided_now=True, since=listing)


def finish_deletion(
    archive: DatabaseArchive, tomb: str, *, decided_now: bool = False, since: Listing | None = None
) -> Removed:
    """Do what the tomb says, from wherever it was left. Raises Busy, Refused (both take the tomb back).

    While the record is there the backup is whole.  An order that an earlier process
    left is taken back then: by now that backup may be the last good one.
    """
    label, _ = names.order_in(tomb)
    content = tombs.tomb_content(archive, tomb)
    record = names.record_name(archive.dbid, label)
    if (content is None or not decided_now) and _there(archive, record):
        raise _taken_back(archive, tomb, damaged=content is None)
    try:
        archive.still_ours()
        no_live_intents(archive)
        listing = archive.list(since=since)
        _refuse_children(archive, label, listing)
        if label in listing.labels():
            refuse_held(archive, label)
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
    needed = named_logs([each.record for each in listing.backups if each.record.id != label])
    unneeded = [name for name in (content or {}).get("logs", []) if name not in needed]
    if all_records_readable(listing, but=record):
        removing.attempt(lambda: delete_all(store, _existing(archive, unneeded)))
    removing.attempt(lambda: delete_all(store, store.list(names.verdicts_prefix(archive.dbid, label))))
    with suppress(KeptByLock):
        store.delete(names.bare_name(archive.dbid, label))
    if removing.later:
        _note_gone(archive, label, removing.later)
    _order_is_done(archive, tomb)
    return Removed(removing.count, removing.bytes, removing.later)


def _taken_back(archive: DatabaseArchive, tomb: str, *, damaged: bool) -> DamageFound | Refused:
    """Take an order back whose backup is still whole; the error that says so."""
    archive.store.delete(tomb)
    problem = f"the deletion of {names.order_in(tomb)[0]} was taken back"
    again = f"backupctl prune {archive.name}"
    if damaged:
        because = f"its order {tomb} is damaged"
        return DamageFound(problem, because=because, next_step=f"order it again: {again}", object=tomb)
    because = "nothing of the backup had been removed yet, and the next prune decides about it anew"
    return Refused(problem, because=because, next_step=again)


def _note_gone(archive: DatabaseArchive, label: str, because: str) -> None:
    note = {"label": label, "because": because, "at": archive.clock.now().isoformat()}
    with suppress(ObjectExists):
        archive.sealed.create("gone", names.gone_name(archive.dbid, label), note)


def refuse_without_right(archive: DatabaseArchive, tomb: str) -> None:
    """A tomb that could not be taken back would stop every backup: who may not delete is told before there is one.

    Raises:
        KeptByLock: we may not delete here.
    """
    archive.store.delete(f"{tomb}.trial")


def _order_is_done(archive: DatabaseArchive, tomb: str) -> None:
    """Take a tomb away; one whose lease was lost stays, for others have deleted beside us, and it says what is left."""
    archive.store.sync()
    if archive.lease is not None:
        archive.lease.raise_if_lost()
    archive.store.delete(tomb)


def named_logs(records: list[BackupRecord]) -> set[str]:
    """The names of all log objects that these records name."""
    return {stored.name for record in records for stored in record.logs}


def all_records_readable(listing: Listing, but: str = "") -> bool:
    """Whether all that backups need is known; the record ``but`` may be damaged."""
    readable = {backup.record.id for backup in listing.backups}
    return all(each.backup_id in readable or each.object_name == but for each in listing.findings)


def no_live_intents(archive: DatabaseArchive) -> None:
    """Fence what is dead; refuse while a backup is being made. Raises Busy."""
    intents = list(archive.store.list(names.intents_prefix(archive.dbid)))
    committed = archive.list().labels() if intents else set()
    for each in intents:
        label = names.label_in(each.name)
        if label in committed:
            continue
        with suppress(ObjectMissing):
            if names.is_copy_intent(each.name):
                refuse_live_copy(archive, each.name)
                continue
            intent = read_intent(archive.sealed, archive.dbid, label)
            if intent.seems_dead(archive.clock.now(), holding_lease=False, lease=tombs.lease_nonce(archive)):
                with suppress(Refused):  # it had committed; or its parts are kept for now
                    fence(archive, label, "its process is gone, or stood still and lost its lease")
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


def finish_for_a_sleeper(archive: DatabaseArchive, tomb: str) -> Removed:
    """Remove what is left of a backup whose deletion sleeps, once its record is gone; its tomb stays.

    While the record is there the backup is whole, and whether it goes is decided anew by the next prune.
    Whatever is removed here has a name that never comes again, so the sleeper does no harm when it removes it too.
    """
    label, _ = names.order_in(tomb)
    store = archive.store
    count = size = 0
    if names.is_label(label) and not _there(archive, names.record_name(archive.dbid, label)):
        count, size = remove_parts(archive, label)
        more, more_size = delete_all(store, store.list(names.verdicts_prefix(archive.dbid, label)))
        count, size = count + more, size + more_size
        store.delete(names.bare_name(archive.dbid, label))
        more, more_size = _logs_for_a_sleeper(archive, tomb)
        count, size = count + more, size + more_size
    at = (tombs.tomb_content(archive, tomb) or {}).get("at", "")
    if at and archive.clock.now() - datetime.fromisoformat(at) > SLEEPER_AFTER:
        store.delete(tomb)
    return Removed(count, size)


def _logs_for_a_sleeper(archive: DatabaseArchive, tomb: str) -> tuple[int, int]:
    """Remove the log files of such an order that no backup names now, under an order of our own; count and bytes."""
    there = _existing(archive, tombs.ordered_logs(archive, tomb))
    if archive.lease is None or not there:
        return 0, 0
    label, _ = names.order_in(tomb)
    ours = names.tomb_name(archive.dbid, label, tombs.mark(archive))
    with suppress(ObjectExists):
        archive.sealed.create("tomb", ours, {**(tombs.tomb_content(archive, tomb) or {}), **tombs.order(archive)})
    archive.store.sync()
    count = size = 0
    try:
        archive.still_ours()
        no_live_intents(archive)
        listing = archive.list()
        if all_records_readable(listing):
            needed = named_logs([each.record for each in listing.backups])
            count, size = delete_all(archive.store, [each for each in there if each.name not in needed])
            archive.store.sync()
    except (Busy, KeptByLock):
        pass  # the next run sees to it
    archive.store.delete(ours)
    return count, size


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
