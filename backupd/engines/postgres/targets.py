"""Which target a person means, and the rule that it is never a passive."""

from __future__ import annotations

import os
from pathlib import Path

from backupd.engines.mounts import same_or_inside
from backupd.engines.postgres.active_target import ActiveTarget
from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.directory_target import DirectoryTarget
from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.restore_rooms import linked_tablespaces, wal_room
from backupd.engines.postgres.staged_target import RestoreChoices
from backupd.errors import Refused
from backupd.ports import RestoreTarget


def choose_target(
    target: str, *, database: str, active: PgCopy | None, passive: PgCopy | None, choices: RestoreChoices
) -> RestoreTarget:
    """``active``, the name of a copy, or a directory.

    Args:
        target: what the person said.
        database: its name, for what is said.
        active: the copy that is the primary, by the servers themselves; None when nobody can say.
        passive: the standby; None when nobody can say.
        choices: what holds for every restore.

    Raises:
        Refused: the target is the passive, by name, by its data directory or by a place
            of its tablespaces; it is inside of the active's own places; or nobody can
            say which copy is the active.
    """
    if passive is not None and target == passive.name:
        raise _passive(target, database, passive)
    if active is not None and target in ("active", active.name):
        return ActiveTarget(active, passive, choices)
    if target == "active":
        raise Refused(
            f"cannot restore {database} to the active",
            because="neither server says which copy that is, and their files do not either",
            next_step="name the copy that shall be the active, or restore to a directory",
        )
    if passive is not None and any(same_or_inside(target, place) for place in _places(passive)):
        raise _passive(target, database, passive)
    if active is not None and any(same_or_inside(target, place) for place in _places(active)):
        raise Refused(
            f"cannot restore to {target}",
            because=f"the active copy ({active.name}) lives there, and replacing it needs its server to be told",
            next_step=f"backupctl restore {database} --target active",
        )
    return DirectoryTarget(Path(target).absolute(), choices, like=_owner_of(active, passive))


def _passive(target: str, database: str, passive: PgCopy) -> Refused:
    return Refused(
        f"cannot restore to {target}",
        because=f"that is the passive copy ({passive.name}), and restores go to the active only",
        next_step=f"backupctl restore {database} --target active (the passive is seeded from it), "
        "or name a scratch directory",
    )


def _places(copy: PgCopy) -> list[Path]:
    """Where a copy's files are, when it is on this host."""
    wal = wal_room(copy.data_directory)
    more = [*linked_tablespaces(copy.data_directory).values(), *([wal.place] if wal else [])]
    return [Path(os.path.realpath(place)) for place in (copy.data_directory, *more)]


def _owner_of(*copies: PgCopy | None) -> Owner | None:
    for copy in copies:
        if copy is not None and copy.data_directory.is_dir():
            return Owner.of(copy.data_directory)
    return None
