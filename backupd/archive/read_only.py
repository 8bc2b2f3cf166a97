"""A store that only reads: whoever looks at an archive from outside of its pair changes nothing there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from backupd.archive.objects import folders_below
from backupd.errors import Refused
from backupd.ports import ObjectStore, StoredObject, StoreFeature


class ReadOnlyStore:
    """The ``ObjectStore`` over another one, whose writing half says no. Writing raises Refused."""

    features: frozenset[StoreFeature] = frozenset()

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def describe(self) -> str:
        """Where it is."""
        return self._store.describe()

    def read(self, name: str) -> Iterator[bytes]:
        """See ``ObjectStore.read``."""
        return self._store.read(name)

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """See ``ObjectStore.read_range``."""
        return self._store.read_range(name, offset, length)

    def stat(self, name: str) -> StoredObject:
        """See ``ObjectStore.stat``."""
        return self._store.stat(name)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See ``ObjectStore.list``."""
        return self._store.list(prefix)

    def list_folders(self, prefix: str) -> Iterator[str]:
        """See ``ListsFolders``."""
        return iter(folders_below(self._store, prefix))

    def forget_cached(self, name: str) -> None:
        """See ``ObjectStore.forget_cached``."""
        self._store.forget_cached(name)

    def create(
        self, name: str, pieces: Iterable[bytes | memoryview], *, retain_until: datetime | None = None
    ) -> StoredObject:
        """Always refused."""
        del pieces, retain_until
        raise self._refused(f"write {name}")

    def delete(self, name: str) -> None:
        """Always refused."""
        raise self._refused(f"delete {name}")

    def sync(self) -> None:
        """Nothing is ever to be written out."""

    def _refused(self, what: str) -> Refused:
        return Refused(
            f"the archive {self.describe()} is only read here, so this command does not {what}",
            because="it was named with --from, by nobody's policy",
            next_step="work with a policy that names the archive: backupctl init DIR",
        )
