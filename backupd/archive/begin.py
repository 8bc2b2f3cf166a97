"""Begins a backup: a label, an intent, and a look at the deletions that are under way."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from backupd.archive import names, tombs
from backupd.archive.holder import this_process
from backupd.archive.intent import Intent
from backupd.archive.open_backup import OpenBackup
from backupd.errors import Busy, ObjectMissing, Refused
from backupd.model.records import ArchivedBackup, BackupType
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive


def begin_backup(
    archive: DatabaseArchive, backup_type: BackupType, parent: ArchivedBackup | None, label: str | None, level: int
) -> OpenBackup:
    """See ``DatabaseArchive.begin``."""
    key = archive.keys.new_data_key()
    label = label or _free_label(archive, backup_type)
    intent = Intent(
        label=label,
        holder=this_process(),
        started_at=archive.clock.now(),
        parent=parent.record.id if parent else None,
        nonce=secrets.token_hex(16),
        lease=tombs.lease_nonce(archive),
    )
    step("archive.intent")
    archive.sealed.create("intent", names.intent_name(archive.dbid, label), intent.to_json())
    backup = OpenBackup(archive, intent, parent, level, key)
    try:
        archive.still_ours()
        step("archive.tombs")
        backup.condemned = _refuse_tombs(archive, parent)
        _refuse_gone(archive, parent)
    except BaseException:
        backup.withdraw()
        raise
    return backup


def _refuse_tombs(archive: DatabaseArchive, parent: ArchivedBackup | None) -> frozenset[str]:
    """The names of log files that somebody may still delete: a holder of the lease before us, if he only sleeps."""
    condemned: set[str] = set()
    for each in archive.store.list(names.tombs_prefix(archive.dbid)):
        label, _ = names.order_in(each.name)
        if parent and label == parent.record.id:
            raise _not_built_on(archive, label, "it is being deleted")
        if archive.lease is None or not tombs.of_another(archive, each.name):
            raise Busy(
                f"a backup of {archive.name} cannot begin now",
                because=f"a deletion is going on or was interrupted: {each.name}",
                next_step="let it finish, or finish it: backupctl recover",
            )
        condemned.update(tombs.ordered_logs(archive, each.name))
    return frozenset(condemned)


def _refuse_gone(archive: DatabaseArchive, parent: ArchivedBackup | None) -> None:
    """A deletion that was over before our intent was written has left no tomb."""
    if parent is None:
        return
    try:
        archive.store.stat(names.record_name(archive.dbid, parent.record.id))
    except ObjectMissing:
        raise _not_built_on(archive, parent.record.id, "it was deleted since it was chosen") from None


def _not_built_on(archive: DatabaseArchive, label: str, because: str) -> Refused:
    return Refused(
        f"the backup {label} cannot be built on",
        because=because,
        next_step=f"take a full: backupctl backup {archive.name} --type full",
        tombed=label,
    )


def _free_label(archive: DatabaseArchive, backup_type: BackupType) -> str:
    """A label later than every other one, so that labels sort as backups happened, whatever the clock did."""
    at = archive.clock.now().replace(microsecond=0)  # as the label will say it
    last = ""
    for prefix in (names.records_prefix(archive.dbid), names.intents_prefix(archive.dbid)):
        for each in archive.store.list(prefix):
            last = max(last, names.label_in(each.name))
    if last:
        latest = names.parse_label(last).at
        # A clock that was days ahead once must not push labels into the future for ever.
        if at <= latest <= at + timedelta(days=1):
            at = latest + timedelta(seconds=1)
    return names.new_label(at, backup_type, secrets.token_hex(4))
