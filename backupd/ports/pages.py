"""The two ends of a stored file: where its pages are read from, and where a restore puts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Extent:
    """Consecutive pages of a data file whose name stays from one backup to the next, wherever they lie in the file."""

    name: str
    first_page: int
    page_count: int


class PageSource(Protocol):
    """One data file of a snapshot, with the knowledge of what its pages must be.

    Several threads call it at once, each for other pages.
    """

    name: str  # path below the copy
    size_bytes: int
    page_bytes: int
    page_count: int
    block_bytes: int  # whole pages: so much is read, checked and compressed at once, and fetched at once by a restore

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` with the bytes from ``offset`` on. Raises NotHealthy: unreadable, or shorter than it says."""
        ...

    def bad_pages(self, first_page: int, pages: memoryview, hashes: np.ndarray) -> Sequence[int]:
        """Page numbers (from 0) of those that were read and are not what they must be.

        Args:
            first_page: the number of the first page in ``pages``, from 0.
            pages: whole pages, as ``read_into`` gave them.
            hashes: xxh3-64 of each.
        """
        ...

    def extents(self) -> Sequence[Extent]:
        """The pieces whose pages an express full compares with those of the same name before; none: always all."""
        ...

    def words(self, pages: Sequence[int]) -> str:
        """Those pages in words for a person: ``page 3 and 9 of app.db``."""
        ...

    def forget(self, offset: int, length: int) -> None:
        """That range was read for the last time: it may leave the page cache, which is the database's."""
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...


class PageFile(Protocol):
    """The other side, at a restore: bytes at offsets, whatever holds them; several threads use it at once."""

    @property
    def size_bytes(self) -> int:
        """As it was opened; 0 when there is nothing."""
        ...

    @property
    def allocated_bytes(self) -> int:
        """What it takes on its disk now, opened or not; 0 when nothing is there."""
        ...

    @property
    def was_empty(self) -> bool:
        """Whether nothing was there when it was opened."""
        ...

    def open(self, size_bytes: int | None) -> None:
        """With a size it is made exactly that long, for its owner only; with None it is only read, and may be missing.

        Raises:
            OSError: it cannot be made.
        """
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Those bytes; fewer where it ends or cannot be read."""
        ...

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write there. Raises OSError."""
        ...

    def start_writing_out(self, offset: int, length: int) -> None:
        """Ask the kernel to begin writing this range to the disk."""
        ...

    def make_durable(self) -> None:
        """After this it survives a power cut, its name included. Raises OSError."""
        ...

    def close(self) -> None:
        """Let go of it; may be called twice."""
        ...

    def describe(self) -> Path:
        """Where it is, for a message."""
        ...
