"""The port of the archive: objects under names, written once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from backupd.errors import KeptByLock


class StoreFeature(StrEnum):
    """What a store can do; the absence of a feature has a stated consequence."""

    CREATE_ONCE = "create-once"  # absent: one writer only, a lease file decides
    CHECKS_ON_ARRIVAL = "checks-on-arrival"  # absent: what was stored is read back before it counts
    CHEAP_LIST = "cheap-list"  # absent: listing costs money
    OBJECT_LOCK = "object-lock"  # absent: whoever may delete can delete everything


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store knows it; ``sha256`` (hex) is of the stored bytes."""

    name: str
    size_bytes: int
    sha256: str = ""


class ObjectStore(Protocol):
    """Bytes under names, written once.

    Names are relative, with ``/`` between parts, of ``[A-Za-z0-9._-]`` only.
    All errors are ``ArchiveUnreachable`` unless said otherwise.
    """

    features: frozenset[StoreFeature]

    def describe(self) -> str:
        """Where this is, in words for a person: ``/backups`` or ``s3://bucket/prefix``."""
        ...

    def create(
        self, name: str, pieces: Iterable[bytes | memoryview], *, retain_until: datetime | None = None
    ) -> StoredObject:
        """Write an object whole, or not at all; it is durable after ``sync``.

        Until ``retain_until`` nobody can remove it, where the store has Object Lock and the policy asks for it.

        Raises:
            ObjectExists: the name is taken (also by an equal object).
        """
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """The object's bytes in pieces of at most 4 MiB. Raises ObjectMissing."""
        ...

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; fewer only at the end. Raises ObjectMissing."""
        ...

    def stat(self, name: str) -> StoredObject:
        """Its size. Raises ObjectMissing."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose name begins with ``prefix``, sorted by name; an empty answer is not an error."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; it may be gone already. Only prune calls this.

        Raises:
            KeptByLock: the store keeps it for now: it is locked, or we may not delete.
        """
        ...

    def forget_cached(self, name: str) -> None:
        """Make the next read come from the medium and not from a cache, where the store can."""
        ...

    def sync(self) -> None:
        """After this, everything created so far survives a power cut."""
        ...


@runtime_checkable
class ListsFolders(Protocol):
    """What a store may do beyond ``ObjectStore``: name the folders of a place without listing all that is in them."""

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Every ``prefix + part + "/"`` that an object's name begins with; ``prefix`` is empty or ends with ``/``.

        On S3 this is a listing with the delimiter ``/``: a request for each 1,000 folders.
        Raises ArchiveUnreachable.
        """
        ...


@runtime_checkable
class DeletesMany(Protocol):
    """A store that removes many objects in one request."""

    def delete_many(self, names: Sequence[str]) -> Sequence[KeptByLock]:
        """Remove them; they may be gone already. Answers with one error for each that is kept for now."""
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """What a server was seen to honour, and the same in sentences for a person."""

    features: frozenset[StoreFeature]
    sentences: tuple[str, ...]


@runtime_checkable
class ProbedStore(Protocol):
    """A store on a server that may honour less than it should, so it is tried out before it is written to."""

    def probe(self) -> Probe:
        """Try out what the server honours; writes and removes objects below ``probe/``.

        Raises:
            Refused: it lacks what an archive needs, or what the policy asks for.
        """
        ...

    def trust(self, features: frozenset[StoreFeature]) -> None:
        """Take these from an earlier probe; a store that was told nothing probes before it first writes."""
        ...
