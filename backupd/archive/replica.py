"""What makes an archive the replica of another one: the same uuid, so that the same objects are valid in both.

Every object names itself and the repository's uuid inside; the second archive has
a byte for byte copy of the first one's ``repo.json`` and of the database's identity.
"""

from __future__ import annotations

from contextlib import suppress

from backupd.archive import names
from backupd.archive.database import DatabaseArchive
from backupd.archive.objects import read_whole
from backupd.archive.repository import Repository
from backupd.errors import NotFound, ObjectExists, ObjectMissing, Refused
from backupd.ports import ObjectStore
from backupd.steps import step

# What stands beside the databases and is needed to read them: who the archive is, and wrapped keys where it has any.
_BESIDE = (names.REPOSITORY, names.KEYS)


def refuse_other_archive(source: DatabaseArchive, there: Repository) -> None:
    """Raises Refused when an archive is not a replica of the source's."""
    if there.uuid != source.repository.uuid:
        raise Refused(
            f"{there.store.describe()} is another archive",
            because=f"its uuid is {there.uuid}, that of {source.store.describe()} is {source.repository.uuid}",
            next_step="name an empty place, or the first archive's own replica, as second_archive.url in the policy",
        )


def make_replica(source: DatabaseArchive, store: ObjectStore) -> DatabaseArchive:
    """The same database's part of the replica at ``store``; both are begun there when the place is empty.

    Raises:
        Refused: another archive, or another database of that name, is there.
        DamageFound: what names the archive or the database is damaged, there or in the source.
        ArchiveUnreachable: one of the two cannot be reached now.
    """
    clock = source.clock
    try:
        refuse_other_archive(source, Repository.open(store, clock))
    except NotFound:
        pass  # an empty place: it is begun below
    for prefix in _BESIDE:
        for each in source.store.list(prefix):
            _bring_small(source.store, store, each.name)
    there = Repository.open(store, clock)
    refuse_other_archive(source, there)
    try:
        found = there.database(source.name, source.engine, None)
    except NotFound:
        _bring_small(source.store, store, names.identity_name(source.dbid))
        found = there.database(source.name, source.engine, None)
    store.sync()
    ours, theirs = source.repository.identity_of(source.dbid).identity, there.identity_of(source.dbid).identity
    if ours != theirs:
        raise Refused(
            f"{store.describe()} holds the backups of another database named {source.name}",
            because=f"they are of the pair {theirs}, this is the pair {ours}",
            next_step="name another place as second_archive.url in the policy",
        )
    return found


def _bring_small(source: ObjectStore, target: ObjectStore, name: str) -> None:
    with suppress(ObjectMissing):
        target.stat(name)
        return
    step("copy.begin")
    with suppress(ObjectExists):
        target.create(name, [read_whole(source, name)])
