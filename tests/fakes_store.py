"""Stores for tests that need no disk, or one that fails on demand; both are real ``ObjectStore``s."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from backupd.archive.names import is_object_name
from backupd.errors import ArchiveUnreachable, ObjectExists, ObjectMissing
from backupd.ports import ObjectStore, StoredObject, StoreFeature


class MemoryStore:
    """Objects in a dict; ``objects`` may be damaged by a test."""

    features = frozenset({StoreFeature.CREATE_ONCE, StoreFeature.CHEAP_LIST})

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def describe(self) -> str:
        return "memory"

    def create(
        self, name: str, pieces: Iterable[bytes | memoryview], *, retain_until: datetime | None = None
    ) -> StoredObject:
        if not is_object_name(name):
            raise ValueError(name)
        data = b"".join(pieces)
        if name in self.objects:
            raise ObjectExists(f"{name} is there", because="it was created", next_step="take another name")
        self.objects[name] = data
        return StoredObject(name, len(data), hashlib.sha256(data).hexdigest())

    def read(self, name: str) -> Iterator[bytes]:
        data = self._data(name)
        for start in range(0, len(data), 1 << 20):
            yield data[start : start + (1 << 20)]

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        return self._data(name)[offset : offset + length]

    def stat(self, name: str) -> StoredObject:
        return StoredObject(name, len(self._data(name)))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        found = sorted(name for name in self.objects if name.startswith(prefix))
        return iter([StoredObject(name, len(self.objects[name])) for name in found])

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)

    def forget_cached(self, name: str) -> None:
        self._data(name)

    def sync(self) -> None:
        pass

    def _data(self, name: str) -> bytes:
        if name not in self.objects:
            raise ObjectMissing(f"no {name}", because="it was not created", next_step="create it")
        return self.objects[name]


class FailingStore:
    """Another store whose calls fail while ``fails(verb, name)`` says so."""

    def __init__(self, inner: ObjectStore, fails: Callable[[str, str], bool]) -> None:
        self.inner = inner
        self.fails = fails
        self.features = inner.features

    def _may(self, verb: str, name: str) -> None:
        if self.fails(verb, name):
            raise ArchiveUnreachable(f"cannot {verb} {name}", because="a test said so", next_step="ask the test")

    def describe(self) -> str:
        return self.inner.describe()

    def create(
        self, name: str, pieces: Iterable[bytes | memoryview], *, retain_until: datetime | None = None
    ) -> StoredObject:
        self._may("create", name)
        stored = self.inner.create(name, pieces, retain_until=retain_until)
        self._may("reply", name)  # the object is there, and the caller is told that it failed
        return stored

    def read(self, name: str) -> Iterator[bytes]:
        self._may("read", name)
        return self.inner.read(name)

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        self._may("read", name)
        return self.inner.read_range(name, offset, length)

    def stat(self, name: str) -> StoredObject:
        self._may("stat", name)
        return self.inner.stat(name)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self._may("list", prefix)
        return self.inner.list(prefix)

    def delete(self, name: str) -> None:
        self._may("delete", name)
        self.inner.delete(name)

    def forget_cached(self, name: str) -> None:
        self.inner.forget_cached(name)

    def sync(self) -> None:
        self._may("sync", "")
        self.inner.sync()
