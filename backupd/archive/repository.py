"""An archive: who it is, and whose databases are in it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from backupd import __version__
from backupd.archive import names
from backupd.archive.database import DatabaseArchive
from backupd.archive.envelope import malformed, seal, unseal
from backupd.archive.keys import NO_KEYS, ArchiveKeys, ProtectedKey, key_id
from backupd.archive.objects import Sealed, folders_below, read_whole, twice
from backupd.errors import DamageFound, NotFound, ObjectExists, ObjectMissing
from backupd.ports import Clock, ObjectStore, ProbedStore, StoreFeature


@dataclass(frozen=True, slots=True)
class DatabaseIdentity:
    """Whose backups lie under one prefix; ``identity`` is the engine's own name of the pair."""

    dbid: str
    database: str
    engine: str
    identity: str
    created_at: datetime


class Repository:
    """One archive on one store."""

    def __init__(
        self, store: ObjectStore, clock: Clock, content: Mapping[str, Any], keys: ArchiveKeys | None = None
    ) -> None:
        self.store = store
        self.clock = clock
        self.uuid: str = content["repository"]
        self.created_at = datetime.fromisoformat(content["created_at"])
        self.sealed = Sealed(store, self.uuid)
        self.keys = replace(keys or NO_KEYS, protected=self.protected_keys)
        # Copied to another place, an archive says nothing about that place's server.
        if isinstance(store, ProbedStore) and content.get("probed") == store.describe():
            known = set(StoreFeature)
            store.trust(frozenset(StoreFeature(name) for name in content["features"] if name in known))

    @classmethod
    def create(cls, store: ObjectStore, clock: Clock, keys: ArchiveKeys | None = None) -> Repository:
        """Make a new archive; one that is there already is opened.

        Raises:
            DamageFound: there are backups at that place, and no ``repo.json`` that they belong to.
            Refused: the store's server lacks what an archive needs.
        """
        try:
            return cls.open(store, clock, keys)
        except NotFound:
            pass
        probed = {"probed": store.describe()} if isinstance(store, ProbedStore) and store.probe() else {}
        content = {
            "created_at": clock.now().isoformat(),
            "created_by": f"backupd {__version__}",
            "format": 1,
            "features": sorted(store.features),
            **probed,
        }
        try:
            store.create(names.REPOSITORY, [seal("repository", names.REPOSITORY, str(uuid.uuid4()), content)])
            store.sync()
        except ObjectExists:
            pass
        return cls.open(store, clock, keys)

    @classmethod
    def open(cls, store: ObjectStore, clock: Clock, keys: ArchiveKeys | None = None) -> Repository:
        """Open an archive.

        Raises:
            NotFound: there is none at that place.
            DamageFound: its ``repo.json`` is damaged, or is missing over backups.
        """
        name = names.REPOSITORY
        try:
            content = twice(store, name, lambda: unseal("repository", name, read_whole(store, name), None))
        except ObjectMissing as problem:
            _refuse_headless(store)
            raise NotFound(
                f"{store.describe()} holds no archive",
                because=f"it has no {name}",
                next_step="check the policy's archive, or let the first backup make it: backupctl backup DATABASE",
            ) from problem
        try:
            return cls(store, clock, content, keys)
        except (KeyError, ValueError, TypeError) as problem:
            raise malformed(name, problem) from problem

    def keep_recipients(self, protected_key: bytes | None = None) -> None:
        """Write down to whom is encrypted from now on, once each; with a key that a passphrase protects, that too.

        Raises:
            ArchiveUnreachable: it cannot be written.
        """
        for recipient in self.keys.recipients:
            name = names.key_name(key_id(recipient))
            content = {
                "recipient": recipient,
                "protected_key": protected_key.decode() if protected_key else None,
                "created_at": self.clock.now().isoformat(),
            }
            try:
                self.store.stat(name)
            except ObjectMissing:
                with suppress(ObjectExists):
                    self.sealed.create("key", name, content)

    def protected_keys(self) -> tuple[ProtectedKey, ...]:
        """The private keys that the archive keeps under a passphrase. Raises DamageFound, ArchiveUnreachable."""
        found = []
        for each in self.store.list(names.KEYS):
            content = self.sealed.read("key", each.name)
            if content.get("protected_key"):
                found.append(ProtectedKey(f"{self.store.describe()}/{each.name}", content["protected_key"].encode()))
        return tuple(found)

    def identity_of(self, dbid: str) -> DatabaseIdentity:
        """Whose prefix that is. Raises ObjectMissing, DamageFound."""
        name = names.identity_name(dbid)
        content = self.sealed.read("identity", name)
        try:
            created = datetime.fromisoformat(content["created_at"])
            return DatabaseIdentity(dbid, content["database"], content["engine"], content["identity"], created)
        except (KeyError, ValueError, TypeError) as problem:
            raise malformed(name, problem) from problem

    def database_ids(self) -> tuple[str, ...]:
        """The prefixes that hold anything, sorted."""
        return tuple(folder.removeprefix("db/").rstrip("/") for folder in folders_below(self.store, "db/"))

    def databases(self) -> tuple[DatabaseIdentity, ...]:
        """All databases with an identity. Raises DamageFound."""
        found = []
        for dbid in self.database_ids():
            try:
                found.append(self.identity_of(dbid))
            except ObjectMissing:
                continue  # verify reports a prefix without an identity
        return tuple(found)

    def database(self, name: str, engine: str, identity: str | None) -> DatabaseArchive:
        """One database's part of the archive.

        With ``identity`` the part is made when it is missing, and must be that
        pair's.  None only reads: a restore after everything else was lost.

        Raises:
            Refused: the part belongs to another pair of that name.
            NotFound: there is no such part, and ``identity`` is None.
            DamageFound: there are objects, and no ``identity.json`` that says whose.
        """
        dbid = names.database_id(name, engine)
        try:
            found = self.identity_of(dbid)
        except ObjectMissing:
            self._refuse_nameless(dbid)
            found = None
        if found is None and identity is not None:
            try:
                content = {
                    "database": name,
                    "engine": engine,
                    "identity": identity,
                    "created_at": self.clock.now().isoformat(),
                }
                self.sealed.create("identity", names.identity_name(dbid), content)
                self.store.sync()
            except ObjectExists:
                pass
            found = self.identity_of(dbid)
        if found is None:
            raise NotFound(
                f"{self.store.describe()} holds nothing of the database {name}",
                because=f"it has no {names.identity_name(dbid)}",
                next_step="see what it holds: backupctl list; or check the policy's archive",
            )
        archive = DatabaseArchive(self, name, engine, dbid, found.identity)
        if identity is not None:
            archive.refuse_another_pair(identity)
        return archive

    def _refuse_nameless(self, dbid: str) -> None:
        """Objects without an identity: it was lost. Raises DamageFound."""
        first = next(iter(self.store.list(names.database_prefix(dbid))), None)
        if first is not None and first.name != names.identity_name(dbid):  # it may have come this moment
            raise _lost(names.identity_name(dbid), first.name)


def _refuse_headless(store: ObjectStore) -> None:
    """A place with backups but without ``repo.json`` is a damaged archive and not an empty one."""
    try:
        store.stat(names.REPOSITORY)
    except ObjectMissing:
        first = next(iter(store.list("db/")), None)
        if first is not None:
            raise _lost(names.REPOSITORY, first.name) from None


def _lost(name: str, witness: str) -> DamageFound:
    return DamageFound(
        f"{name} is missing",
        because=f"it was written before everything else, and {witness} is there",
        next_step=f"put {name} back from a copy of the archive, or name an empty place as the archive",
        object=name,
    )
