"""Tombs, the orders to delete: what they say, and whether somebody who gave one may still act on it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from backupd.archive import names
from backupd.archive.holder import Holder, this_process
from backupd.archive.lease import is_gone
from backupd.errors import DamageFound, ObjectExists, ObjectMissing

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive


def of_another(archive: DatabaseArchive, tomb: str) -> bool:
    """Whether a tomb was made under a lease that is not ours, by a process that may run, or sleep and go on with it."""
    _, its_mark = names.order_in(tomb)
    if not its_mark or its_mark == mark(archive):
        return False
    content = tomb_content(archive, tomb)
    if content == {}:
        return True  # he has just taken it away
    try:
        return content is not None and not is_gone(Holder(**content["holder"]), content["lease"])
    except (KeyError, TypeError):
        return False


def doomed(archive: DatabaseArchive) -> dict[str, str]:
    """Backups whose deletion somebody before us has begun and may go on with, each with a sentence; one list."""
    why = "a run that lost its lease had begun to delete it, and may go on"
    tombs = archive.store.list(names.tombs_prefix(archive.dbid))
    return {names.order_in(each.name)[0]: why for each in tombs if of_another(archive, each.name)}


def ordered_logs(archive: DatabaseArchive, tomb: str) -> list[str]:
    """The log files that a tomb orders to delete."""
    return list((tomb_content(archive, tomb) or {}).get("logs", []))


def adopted(archive: DatabaseArchive, tomb: str) -> str:
    """An order of a process that is gone, made ours: whoever deletes has a tomb that nobody else takes away."""
    label, its_mark = names.order_in(tomb)
    ours = names.tomb_name(archive.dbid, label, mark(archive))
    content = tomb_content(archive, tomb)
    if archive.lease is None or its_mark == mark(archive) or not content:
        return tomb
    with suppress(ObjectExists):
        archive.sealed.create("tomb", ours, {**content, **order(archive)})
    archive.store.sync()
    archive.store.delete(tomb)
    return ours


def lease_nonce(archive: DatabaseArchive) -> str:
    """The nonce of the lease that we hold; empty when we hold none."""
    return archive.lease.nonce if archive.lease else ""


def mark(archive: DatabaseArchive) -> str:
    """What our tombs are called by; empty when we hold no lease."""
    return archive.lease.mark if archive.lease else ""


def order(archive: DatabaseArchive) -> dict[str, Any]:
    """Who orders a deletion, when, and under which lease."""
    at = archive.clock.now().isoformat()
    return {"at": at, "holder": this_process().to_json(), "lease": lease_nonce(archive)}


def tomb_content(archive: DatabaseArchive, tomb: str) -> dict[str, Any] | None:
    """What the tomb orders; None when it is damaged, nothing when it is not there any more."""
    try:
        return archive.sealed.read("tomb", tomb)
    except ObjectMissing:
        return {}
    except DamageFound:
        return None
