"""Removes what dead backups and interrupted deletions left, and reports what nothing may remove."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from backupd.archive import names
from backupd.archive.abort_removal import ABORT_TOMB, finish_abort_removal
from backupd.archive.copy_intent import copy_intents, end_old_copies
from backupd.archive.findings import Finding
from backupd.archive.intent import read_intent
from backupd.archive.listing import Listing
from backupd.archive.log_removal import LOGS_TOMB, finish_log_prune, log_of, unnamed_logs
from backupd.archive.objects import Removing, delete_all
from backupd.archive.open_backup import fence, remove_parts
from backupd.archive.removal import Removed, finish_deletion, finish_for_a_sleeper
from backupd.archive.tombs import adopted, lease_nonce, of_another
from backupd.errors import Busy, DamageFound, KeptByLock, ObjectMissing, Refused
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

# An ABORT record outlives its data so long, so that a zombie's commit still fails.
_ABORT_KEPT = timedelta(days=30)


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


def sweep(archive: DatabaseArchive, *, holding_lease: bool) -> Swept:
    """See ``DatabaseArchive.sweep``."""
    swept = Swept()
    listing = archive.list()
    ended = set(listing.by_id()) | {abort.id for abort in listing.aborted}  # what those left, _sweep_aborted removes
    _sweep_intents(archive, swept, ended, holding_lease=holding_lease)
    swept.sentences += end_old_copies(archive)
    _sweep_tombs(archive, swept)
    listing = archive.list(since=listing)
    _sweep_aborted(archive, swept, listing)
    _sweep_gone(archive, swept, listing)
    archive.store.sync()
    swept.orphans = orphans(archive, since=listing)
    return swept


def _sweep_intents(archive: DatabaseArchive, swept: Swept, ended: set[str], *, holding_lease: bool) -> None:
    for each in list(archive.store.list(names.intents_prefix(archive.dbid))):
        label = names.label_in(each.name)
        if label in ended:
            with suppress(KeptByLock):  # a role that may not delete: it is ignored, and goes when one sweeps that may
                archive.store.delete(each.name)
            continue
        if names.is_copy_intent(each.name):
            continue  # see end_old_copies
        try:
            intent = read_intent(archive.sealed, archive.dbid, label)
            dead = intent.seems_dead(archive.clock.now(), holding_lease=holding_lease, lease=lease_nonce(archive))
        except ObjectMissing:
            continue
        except DamageFound:
            dead = holding_lease  # unreadable: as long as nobody can be making it here, fencing it is safe
        if dead and label:
            _fence_and_remove(archive, label, swept)


def _fence_and_remove(archive: DatabaseArchive, label: str, swept: Swept) -> None:
    try:
        fence(archive, label, "its process is gone, or stood still and lost its lease")
    except Refused:
        with suppress(KeptByLock):
            archive.store.delete(names.intent_name(archive.dbid, label))  # it had committed
        return
    except DamageFound:
        return  # its record is there and damaged: verify reports it, nothing is removed
    step("archive.delete")
    swept.aborted.append(label)
    try:
        swept.add(*remove_parts(archive, label))
        end = "its data was removed"
    except KeptByLock as problem:
        end = f"its data is removed later: {problem.because}"
    swept.sentences.append(f"the backup {label} was left unfinished by a process that is gone; {end}")


def _sweep_tombs(archive: DatabaseArchive, swept: Swept) -> None:
    for each in list(archive.store.list(names.tombs_prefix(archive.dbid))):
        label, _ = names.order_in(each.name)
        if of_another(archive, each.name):
            removed = finish_for_a_sleeper(archive, each.name)
            swept.add(removed.count, removed.bytes)
            continue
        try:
            removed = _finish(archive, label, adopted(archive, each.name))
        except (Busy, Refused, DamageFound) as problem:
            swept.sentences.append(f"the deletion of {label} was not finished: {problem.because}")
            continue
        swept.add(removed.count, removed.bytes)
        swept.sentences.append(f"the interrupted deletion of {label} was finished")


def _finish(archive: DatabaseArchive, label: str, tomb: str) -> Removed:
    """Finish what a tomb orders, by what its label says that this is."""
    if label.startswith(ABORT_TOMB):
        return finish_abort_removal(archive, tomb)
    if label.startswith(LOGS_TOMB):
        return finish_log_prune(archive, tomb)
    return finish_deletion(archive, tomb)


def _sweep_aborted(archive: DatabaseArchive, swept: Swept, listing: Listing) -> None:
    store = archive.store
    unnamed = unnamed_logs(archive, listing)
    for abort in listing.aborted:
        parts = [*store.list(names.data_prefix(archive.dbid, abort.id))]
        parts += store.list(names.maps_prefix(archive.dbid, abort.id))
        if parts:
            step("archive.delete")
            try:
                swept.add(*remove_parts(archive, abort.id))
            except KeptByLock as problem:
                swept.sentences.append(f"what {abort.id} left is removed later: {problem.because}")
        elif archive.clock.now() - abort.at > _ABORT_KEPT and not unnamed:
            with suppress(KeptByLock):
                store.delete(names.record_name(archive.dbid, abort.id))


def _sweep_gone(archive: DatabaseArchive, swept: Swept, listing: Listing) -> None:
    """What the store kept of deleted backups; their names never come again, so nothing can need it."""
    store = archive.store
    for note in list(store.list(names.gones_prefix(archive.dbid))):
        label = names.label_in(note.name)
        removing = Removing()
        step("archive.delete")
        removing.attempt(partial(remove_parts, archive, label))
        removing.attempt(partial(delete_all, store, store.list(names.verdicts_prefix(archive.dbid, label))))
        swept.add(removing.count, removing.bytes)
        if removing.later:
            swept.sentences.append(f"what is left of the deleted {label} is removed later: {removing.later}")
        elif not unnamed_logs(archive, listing):
            with suppress(KeptByLock):
                store.delete(note.name)


def orphans(archive: DatabaseArchive, since: Listing | None = None) -> tuple[Finding, ...]:
    """See ``DatabaseArchive.orphans``."""
    store, dbid = archive.store, archive.dbid
    excused = {
        names.label_in(each.name)
        for prefix in (
            *(names.intents_prefix(dbid), names.tombs_prefix(dbid), names.records_prefix(dbid)),
            names.gones_prefix(dbid),
        )
        for each in store.list(prefix)
    }
    seen: dict[str, list[str]] = {}
    beside = (names.verdicts_prefix(dbid), names.holds_prefix(dbid), names.bares_prefix(dbid))
    for prefix in (names.data_prefix(dbid), names.maps_prefix(dbid), *beside):
        for each in store.list(prefix):
            label = names.label_in(each.name)
            if label not in excused:
                seen.setdefault(label, []).append(each.name)
    # Log that a copy brings names the backup that stored it, which may never come here.
    copying = next(copy_intents(archive), None) is not None
    for each in () if copying else unnamed_logs(archive, archive.list(since=since)):
        log = log_of(archive, each.name)
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
