"""What a restore needs and does not find is damage: a missing object is told like a flipped one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backupd.decide.restore_path import RestorePath
from backupd.errors import DamageFound, ObjectMissing
from backupd.pipeline.container import damage
from backupd.ports import ObjectStore


def refuse_missing(store: ObjectStore, route: RestorePath) -> None:
    """Look whether every object that a restore reads is there and as long as its record says; reads none of them.

    Raises:
        ObjectMissing: one is not there.
        DamageFound: one has another length.
        ArchiveUnreachable: the archive cannot be read now.
    """
    files = [file for backup in route.pages_from for file in backup.record.files]
    needed = {part.name: part.stored_bytes for file in files for part in file.segments}
    needed |= {file.map.name: file.map.stored_bytes for file in files}
    needed |= {log.name: log.stored_bytes for log in route.logs}
    # A bucket is listed by the thousand; asking for each of a large database's objects would take minutes.
    rooms = sorted({name.rpartition("/")[0] + "/" for name in needed})
    there = {found.name: found.size_bytes for room in rooms for found in store.list(room)}
    for name, stored_bytes in needed.items():
        found = there[name] if name in there else store.stat(name).size_bytes
        if found != stored_bytes:
            raise damage(name, f"it has {found} bytes, and the backup's record says {stored_bytes}")


@contextmanager
def needed_objects(backup_id: str) -> Iterator[None]:
    """Turn *no such object*, of an object that a backup's record names, into damage.

    Args:
        backup_id: the backup that is restored; the next step verifies it.

    Raises:
        DamageFound: an object was missing in the block; its name is in the problem.
    """
    try:
        yield
    except ObjectMissing as missing:
        raise DamageFound(
            missing.problem,
            because=f"{missing.because}, and a backup's record names it",
            next_step=f"see what else is missing: backupctl verify --level presence {backup_id}; "
            "then restore from a backup that is whole",
            **missing.details,
        ) from missing
