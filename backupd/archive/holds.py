"""Holds on backups: a named reason why a backup, and what it builds on, must not be pruned; both nodes see it.

A hold is written, then the tombs are read; a deletion writes its tomb, then
reads the holds.  One of the two sees the other, as with intents.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from backupd.archive import names
from backupd.archive.envelope import malformed
from backupd.errors import BackupdError, DamageFound, NotFound, ObjectMissing, Refused
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive


@dataclass(frozen=True, slots=True)
class BackupHold:
    """Why a backup stays: who said so, when, and for which reason; ``id`` is 8 hex digits."""

    backup_id: str
    id: str
    reason: str
    by: str
    at: datetime | None

    @property
    def sentence(self) -> str:
        """For the plan of a prune."""
        since = f" since {self.at.date().isoformat()}" if self.at else ""
        return f"{self.by} holds it{since}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """For the object, and for ``holds --json``."""
        return {
            "backup_id": self.backup_id,
            "id": self.id,
            "reason": self.reason,
            "by": self.by,
            "at": self.at.isoformat() if self.at else None,
        }


def place_hold(archive: DatabaseArchive, backup_id: str, *, reason: str, by: str) -> BackupHold:
    """See ``DatabaseArchive.hold``."""
    archive.get(backup_id)
    hold = BackupHold(backup_id, secrets.token_hex(4), reason, by, archive.clock.now())
    name = names.hold_name(archive.dbid, backup_id, hold.id)
    step("archive.hold")
    archive.sealed.create("hold", name, hold.to_json())
    archive.store.sync()
    try:
        step("archive.tombs")
        _refuse_deletion(archive, backup_id)
        archive.get(backup_id)
    except BackupdError:
        archive.store.delete(name)
        raise
    return hold


def _refuse_deletion(archive: DatabaseArchive, backup_id: str) -> None:
    if any(names.order_in(each.name)[0] == backup_id for each in archive.store.list(names.tombs_prefix(archive.dbid))):
        raise Refused(
            f"the backup {backup_id} cannot be held",
            because="it is being deleted",
            next_step=f"see what is left: backupctl list {archive.name}",
        )


def release_hold(archive: DatabaseArchive, hold: BackupHold) -> None:
    """See ``DatabaseArchive.release``."""
    step("archive.hold")
    archive.store.delete(names.hold_name(archive.dbid, hold.backup_id, hold.id))
    archive.store.sync()


def holds_of(archive: DatabaseArchive, backup_id: str = "") -> tuple[BackupHold, ...]:
    """See ``DatabaseArchive.holds``."""
    found = []
    for each in archive.store.list(names.holds_prefix(archive.dbid, backup_id)):
        label, hold_id = names.label_in(each.name), names.hold_id_in(each.name)
        if not label or not hold_id:
            continue  # verify names it
        try:
            found.append(read_hold(archive, each.name))
        except ObjectMissing:
            continue  # released since the listing
        except DamageFound:
            # It still holds: what may not be pruned is in its name.
            found.append(BackupHold(label, hold_id, "its reason is damaged and cannot be read", "somebody", None))
    return tuple(found)


def read_hold(archive: DatabaseArchive, name: str) -> BackupHold:
    """One hold. Raises DamageFound, ObjectMissing."""
    content = archive.sealed.read("hold", name)
    try:
        at = datetime.fromisoformat(content["at"])
        return BackupHold(content["backup_id"], content["id"], content["reason"], content["by"], at)
    except (KeyError, ValueError, TypeError) as problem:
        raise malformed(name, problem) from problem


def refuse_held(archive: DatabaseArchive, backup_id: str) -> None:
    """Raises Refused while a hold keeps the backup."""
    for hold in holds_of(archive, backup_id):
        raise Refused(
            f"the backup {backup_id} cannot be deleted",
            because=hold.sentence,
            next_step=f"if it may go: backupctl release {backup_id}",
        )


def the_hold(archive: DatabaseArchive, backup_id: str, hold_id: str = "") -> BackupHold:
    """The one hold of a backup, or the one of that id.

    Raises:
        NotFound: there is none.
        Refused: there are several, and no id says which.
    """
    found = [hold for hold in holds_of(archive, backup_id) if hold_id in {"", hold.id}]
    if not found:
        raise NotFound(
            f"no hold {hold_id} keeps the backup {backup_id}" if hold_id else f"no hold keeps the backup {backup_id}",
            because=f"the archive of {archive.name} has none of that name",
            next_step=f"see what there is: backupctl holds {archive.name}",
        )
    if len(found) > 1:
        raise Refused(
            f"the backup {backup_id} has {len(found)} holds",
            because=", ".join(f"{hold.id} ({hold.reason})" for hold in found),
            next_step=f"say which: backupctl release {backup_id} --hold {found[0].id}",
        )
    return found[0]
