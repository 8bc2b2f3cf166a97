"""Tombs, the orders to delete: what they say, and whether somebody who gave one may still act on it.

A process that is gone acts no more on a disk.  A request of its may still be on its way to a server: what a dead
socket holds is sent again for minutes, and a server that stood still reads it when it goes on.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from backupd.archive import names
from backupd.archive.holder import Holder, this_process
from backupd.archive.lease import is_gone
from backupd.errors import DamageFound, ObjectExists, ObjectMissing
from backupd.ports import ProbedStore

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

# How long after its order a request of a process that is gone may still arrive at a server.
_ON_ITS_WAY_FOR = timedelta(hours=1)


def of_another(archive: DatabaseArchive, tomb: str) -> bool:
    """Whether a tomb was made under a lease that is not ours, and may still be acted on.

    By a process that runs, or sleeps and goes on with it; or by a request that outlives it.
    """
    _, its_mark = names.order_in(tomb)
    if not its_mark or its_mark == mark(archive):
        return False
    content = tomb_content(archive, tomb)
    if content == {}:
        return True  # he has just taken it away
    try:
        if content is None:
            return False
        return not is_gone(Holder(**content["holder"]), content["lease"]) or _may_arrive(archive, content["at"])
    except (KeyError, TypeError, ValueError):
        return False


def _may_arrive(archive: DatabaseArchive, at: str) -> bool:
    """Whether a request of a process that is gone may still be on its way to the store's server."""
    return isinstance(archive.store, ProbedStore) and archive.clock.now() - datetime.fromisoformat(at) < _ON_ITS_WAY_FOR


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
