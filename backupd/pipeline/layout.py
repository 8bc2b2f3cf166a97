"""Where a file's pages go: super-blocks of about 1 MiB, segments of about 64 MiB of plain pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# Measured with 1, 2 and 4 MiB: the same size and speed within the noise, so the
# smallest wins: less memory, and less to fetch for a delta restore.
SUPER_BLOCK_BYTES = 1 << 20
# Plain bytes of a segment: about 20 to 30 MiB stored.
SEGMENT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class SuperBlock:
    """Consecutive pages that are compressed together; ``number`` counts from 0 in the file."""

    number: int
    first_page: int
    page_count: int
    offset: int
    size_bytes: int

    @property
    def pages(self) -> tuple[int, int]:
        """First and last page, from 0."""
        return self.first_page, self.first_page + self.page_count - 1


@dataclass(frozen=True, slots=True)
class Layout:
    """The super-blocks of one file of whole pages; equal facts give an equal layout."""

    page_bytes: int
    page_count: int

    @property
    def pages_per_block(self) -> int:
        """Pages in each super-block but the last."""
        return max(1, SUPER_BLOCK_BYTES // self.page_bytes)

    @property
    def block_count(self) -> int:
        """How many super-blocks the file has."""
        return -(-self.page_count // self.pages_per_block)

    @property
    def blocks_per_segment(self) -> int:
        """Super-blocks in each segment but the last."""
        return max(1, SEGMENT_BYTES // (self.pages_per_block * self.page_bytes))

    def block(self, number: int) -> SuperBlock:
        """The super-block of that number."""
        first = number * self.pages_per_block
        count = min(self.pages_per_block, self.page_count - first)
        return SuperBlock(number, first, count, first * self.page_bytes, count * self.page_bytes)

    def segments(self) -> Iterator[range]:
        """The numbers of the super-blocks of each segment."""
        for start in range(0, self.block_count, self.blocks_per_segment):
            yield range(start, min(start + self.blocks_per_segment, self.block_count))
