"""Reading and writing single objects of one archive: small ones whole, and twice before they are called damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from backupd.archive.envelope import seal, unseal
from backupd.digests import sha256_hasher
from backupd.errors import BackupdError, DamageFound, KeptByLock
from backupd.model.records import StoredLog, StoredMap, StoredSegment
from backupd.pipeline.container import damage
from backupd.ports import DeletesMany, ListsFolders, ObjectStore, StoredObject

T = TypeVar("T")


# The largest record names a log file for each 16 MB of log between two fulls, in about 500 bytes.
_SMALL_BYTES_MAX = 256 << 20


def read_whole(store: ObjectStore, name: str) -> bytes:
    """A small object's bytes. Raises ObjectMissing, and DamageFound for one that is not small."""
    pieces: list[bytes] = []
    size = 0
    for piece in store.read(name):
        pieces.append(piece)
        size += len(piece)
        if size > _SMALL_BYTES_MAX:
            raise damage(name, f"it has more than {_SMALL_BYTES_MAX} bytes, which no such object has")
    return b"".join(pieces)


def twice(store: ObjectStore, name: str, look: Callable[[], T]) -> T:
    """What ``look`` answers; when it finds damage, it looks once more, past the cache.

    A bad cache or a bad cable is not a bad object (reference/archives.md, section 0, line 10).
    """
    try:
        return look()
    except DamageFound:
        with suppress(BackupdError):
            store.forget_cached(name)
        return look()


class Sealed:
    """The small objects of one repository."""

    def __init__(self, store: ObjectStore, repository: str) -> None:
        self.store = store
        self.repository = repository

    def create(self, kind: str, name: str, content: dict[str, Any]) -> StoredObject:
        """Write one. Raises ObjectExists."""
        return self.store.create(name, [seal(kind, name, self.repository, content)])

    def read(self, kind: str, name: str) -> dict[str, Any]:
        """Read one. Raises DamageFound, ObjectMissing."""
        return twice(self.store, name, lambda: unseal(kind, name, read_whole(self.store, name), self.repository))


def folders_below(store: ObjectStore, prefix: str) -> tuple[str, ...]:
    """What begins with ``prefix`` and goes on with one more part and a ``/``: ``db/orders-1a2b3c4d/``; sorted.

    A store that can list folders does it by itself; of another one every object below is listed.
    """
    if isinstance(store, ListsFolders):
        return tuple(sorted(store.list_folders(prefix)))
    below = (each.name.removeprefix(prefix).partition("/") for each in store.list(prefix))
    return tuple(sorted({f"{prefix}{first}/" for first, slash, _ in below if slash}))


def object_of(named: StoredLog | StoredSegment | StoredMap) -> StoredObject:
    """What a record names, as the object that the store must have; records that name the same bytes name one object."""
    return StoredObject(named.name, named.stored_bytes, named.sha256)


def check_stored(store: ObjectStore, stored: StoredObject) -> int:
    """Read an object and compare length and SHA-256; answers with its bytes.

    Raises:
        DamageFound: it is not what was stored, also when read again.
    """

    def look() -> int:
        hasher = sha256_hasher()
        size = 0
        for piece in store.read(stored.name):
            hasher.update(piece)
            size += len(piece)
        if size != stored.size_bytes:
            raise damage(stored.name, f"it has {size} bytes, {stored.size_bytes} were stored")
        if hasher.hexdigest() != stored.sha256:
            raise damage(stored.name, "its SHA-256 is not that of what was stored")
        return size

    return twice(store, stored.name, look)


def delete_all(store: ObjectStore, objects: Iterable[StoredObject]) -> tuple[int, int]:
    """Delete them; how many, and their bytes.

    Raises:
        KeptByLock: the store keeps some for now; all others are gone.
    """
    wanted = list(objects)
    if not wanted:
        return 0, 0
    kept: list[KeptByLock] = []
    if isinstance(store, DeletesMany):
        kept += store.delete_many([each.name for each in wanted])
    else:
        for each in wanted:
            try:
                store.delete(each.name)
            except KeptByLock as problem:
                kept.append(problem)
    if kept:
        objects_are = "object is" if len(kept) == 1 else "objects are"
        raise KeptByLock(
            f"{len(kept)} of {len(wanted)} {objects_are} kept by the archive for now",
            because=kept[0].because,
            next_step=kept[0].next_step,
            objects=[problem.details.get("object", "") for problem in kept],
        )
    return len(wanted), sum(each.size_bytes for each in wanted)


@dataclass(slots=True)
class Removing:
    """Counts what goes; what is kept for now stops nothing."""

    count: int = 0
    bytes: int = 0
    kept: KeptByLock | None = None

    @property
    def later(self) -> str:
        """Why some are kept for now; empty when none are."""
        return self.kept.because if self.kept is not None else ""

    def attempt(self, remove: Callable[[], tuple[int, int]]) -> None:
        """Remove some; ``kept`` says afterwards whether the store keeps any."""
        try:
            count, size = remove()
        except KeptByLock as problem:
            self.kept = problem
        else:
            self.count += count
            self.bytes += size
