"""Removes the ABORT record of a copy that was given up, so that the same backup may be copied again after all.

This is the one name in an archive that is deleted and then created anew.  The
deletion has an order, as every other has: on a server the order of a process that
died stays for an hour, and no copy of that backup begins while it stands, for the
dead one's request would remove the record that the copy ends with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.archive import names, tombs
from backupd.archive.removal import Removed, refuse_without_right
from backupd.errors import Busy
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

ABORT_TOMB = "abort-"


def remove_abort(archive: DatabaseArchive, label: str, *, leased: DatabaseArchive) -> None:
    """Take the ABORT record of ``label`` away; the caller has announced a copy of it and has seen that it is ABORT.

    ``leased`` is the archive that holds the lease under which copies are made.
    Whoever got the lease since has begun before our order, and then we find it lost; or he finds our order.

    Raises:
        Busy: the lease is lost.
        KeptByLock: nothing may be deleted here.
    """
    tomb = names.tomb_name(archive.dbid, ABORT_TOMB + label, tombs.mark(leased))
    refuse_without_right(archive, tomb)
    content = {"label": label, "reason": "the backup is copied after all", "by": "copy-archive", "logs": []}
    step("copy.take_back")
    archive.sealed.create("tomb", tomb, {**content, **tombs.order(leased)})
    archive.store.sync()
    leased.still_ours()
    step("copy.abort")
    archive.store.delete(names.record_name(archive.dbid, label))
    archive.store.sync()
    archive.store.delete(tomb)


def finish_abort_removal(archive: DatabaseArchive, tomb: str) -> Removed:
    """Take the order of a process that is gone away: the next copy gives it anew where the ABORT record still is."""
    archive.store.delete(tomb)
    return Removed(0, 0)


def refuse_while_abort_goes(archive: DatabaseArchive, label: str) -> None:
    """Raises Busy when somebody may still remove what stands where a copy of ``label`` would end."""
    for tomb in archive.store.list(names.tomb_name(archive.dbid, ABORT_TOMB + label).removesuffix("json")):
        raise Busy(
            f"the backup {label} cannot be copied to {archive.store.describe()} now",
            because=f"a copier that is gone had begun to remove what stands in its place, and may yet: {tomb.name}",
            next_step=f"an hour after that it can: backupctl copy-archive {archive.name}",
        )
