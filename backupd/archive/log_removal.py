"""Removes log files that no backup names and that none can come to name; the rules are removal.py's."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from backupd.archive import names, tombs
from backupd.archive.listing import Listing
from backupd.archive.objects import Removing, delete_all
from backupd.archive.removal import Removed, all_records_readable, named_logs, no_live_intents, refuse_without_right
from backupd.errors import BackupdError, DamageFound, ObjectMissing, Refused
from backupd.model.records import BackupRecord, LogFile
from backupd.ports import StoredObject
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

LOGS_TOMB = "logs-"


def prune_logs(archive: DatabaseArchive, *, reason: str) -> Removed:
    """See ``DatabaseArchive.prune_logs``."""
    candidates = _prunable_logs(archive)
    if not candidates:
        return Removed(0, 0)
    label = LOGS_TOMB + secrets.token_hex(8)
    tomb = names.tomb_name(archive.dbid, label, tombs.mark(archive))
    content = {"label": label, "reason": reason, "logs": sorted(candidates), **tombs.order(archive)}
    refuse_without_right(archive, tomb)
    step("archive.tomb")
    archive.sealed.create("tomb", tomb, content)
    archive.store.sync()
    return finish_log_prune(archive, tomb)


def finish_log_prune(archive: DatabaseArchive, tomb: str) -> Removed:
    """Do what the tomb for log files says, as far as it still holds. Raises Busy, Refused (both take it back)."""
    content = tombs.tomb_content(archive, tomb) or {}
    try:
        archive.still_ours()
        no_live_intents(archive)
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
    return Removed(removing.count, removing.bytes, removing.later)


def _prunable_logs(archive: DatabaseArchive) -> dict[str, StoredObject]:
    """Log objects that no backup names, and that none can come to name.

    They were let go, end before the oldest full of their history, or their history is gone.

    Raises:
        Refused: a record cannot be read, so what it names is not known.
    """
    listing = archive.list()
    if not all_records_readable(listing):
        raise Refused(
            f"no log file of {archive.name} can be removed",
            because="a backup's record cannot be read, so which log files it needs is not known",
            next_step=f"backupctl verify --level manifest; then backupctl prune {archive.name} removes that backup",
        )
    records = [backup.record for backup in listing.backups]
    named = named_logs(records)
    known = {position.history for record in records for position in (record.log_start, record.log_end)}
    known |= {stored.log.history for record in records for stored in record.logs}
    let_go = {name for gone in listing.let_go.values() for name in gone}
    found = {}
    for each in archive.store.list(names.logs_prefix(archive.dbid)):
        if each.name in named:
            continue
        history = each.name.split("/")[3]
        if each.name in let_go or history not in known or _before_oldest_full(archive, each.name, history, records):
            found[each.name] = each
    return found


def _before_oldest_full(archive: DatabaseArchive, name: str, history: str, records: list[BackupRecord]) -> bool:
    fulls = [
        record.log_end.offset for record in records if record.type.takes_pages and record.log_end.history == history
    ]
    log = log_of(archive, name)
    return bool(fulls) and log is not None and log[0].end.history == history and log[0].end.offset <= min(fulls)


def unnamed_logs(archive: DatabaseArchive, listing: Listing) -> list[StoredObject]:
    """Log objects that no committed backup names, and that no note lets go."""
    named = named_logs([backup.record for backup in listing.backups])
    named |= {name for gone in listing.let_go.values() for name in gone}
    return [each for each in archive.store.list(names.logs_prefix(archive.dbid)) if each.name not in named]


def log_of(archive: DatabaseArchive, name: str) -> tuple[LogFile, str] | None:
    """The log file of an object and the label that stored it; None when it cannot be read (verify says so)."""
    from backupd.archive.logs import read_head  # pulls the pipeline in, which listing must not wait for

    try:
        return read_head(archive.store, name)
    except (DamageFound, ObjectMissing):
        return None
