"""The two strong hashes: BLAKE3 for what is plain, SHA-256 for what is stored.

BLAKE3 runs at several GB/s on one core and proves that a restored file is the
file that was read.  SHA-256 is slower but everybody has it: S3 checks it on
arrival and ``sha256sum`` checks it by hand, so it names what is stored.
Both are fed in order, from one thread; both release the GIL while they work.
"""

from __future__ import annotations

import hashlib
from typing import Protocol, Self

from blake3 import blake3

BytesLike = bytes | bytearray | memoryview


class Hasher(Protocol):
    """A hash of one stream of bytes, fed in order."""

    def update(self, data: BytesLike, /) -> object:
        """Add the next bytes of the stream."""
        ...

    def digest(self) -> bytes:
        """The 32 bytes of the hash of everything so far."""
        ...

    def hexdigest(self) -> str:
        """The same as 64 lower-case hex digits."""
        ...

    def copy(self) -> Self:
        """Another hash that goes on from here."""
        ...


def blake3_hasher() -> Hasher:
    """A new BLAKE3 hash (256 bits) of an empty stream."""
    hasher: Hasher = blake3()
    return hasher


def sha256_hasher() -> Hasher:
    """A new SHA-256 hash of an empty stream."""
    return hashlib.sha256()


def sha256_hex(data: BytesLike) -> str:
    """SHA-256 of ``data``, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()
