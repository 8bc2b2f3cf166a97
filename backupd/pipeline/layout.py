"""Where a file's pages go: super-blocks of about 1 MiB, segments of about 64 MiB of plain pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backupd.model.records import StoredFile, StoredSegment
from backupd.pipeline.container import damage

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
    span: tuple[int, int] | None = None  # where the pages are packed: what they are pages of

    @property
    def pages(self) -> tuple[int, int]:
        """First and last page, from 0, as a person knows them: those of the file."""
        return self.span or (self.first_page, self.first_page + self.page_count - 1)

    @property
    def range(self) -> slice:
        """Where its pages are in a list of all stored ones."""
        return slice(self.first_page, self.first_page + self.page_count)


@dataclass(frozen=True, slots=True)
class Layout:
    """The super-blocks of one file of whole pages."""

    page_bytes: int
    page_count: int
    pages_per_block: int

    @classmethod
    def new(cls, page_bytes: int, page_count: int, block_bytes: int) -> Layout:
        """The layout for a file that is stored now."""
        return cls(page_bytes, page_count, max(1, block_bytes // page_bytes))

    @classmethod
    def of(cls, stored: StoredFile) -> Layout:
        """The layout of the pages that are stored of a file, whatever the sizes of today are."""
        express = stored.express
        return cls(stored.page_bytes, express.stored_pages if express else stored.page_count, stored.block_pages)

    @classmethod
    def of_whole(cls, stored: StoredFile) -> Layout:
        """The same of all pages that the file has, wherever they are stored."""
        return cls(stored.page_bytes, stored.page_count, stored.block_pages)

    @property
    def block_count(self) -> int:
        """How many super-blocks the file has."""
        return -(-self.page_count // self.pages_per_block)

    @property
    def blocks_per_segment(self) -> int:
        """Super-blocks in each segment but the last, of a file that is stored now."""
        return max(1, SEGMENT_BYTES // (self.pages_per_block * self.page_bytes))

    def block(self, number: int) -> SuperBlock:
        """The super-block of that number."""
        first = number * self.pages_per_block
        count = min(self.pages_per_block, self.page_count - first)
        return SuperBlock(number, first, count, first * self.page_bytes, count * self.page_bytes)

    def segments(self) -> Iterator[range]:
        """The numbers of the super-blocks of each segment, of a file that is stored now."""
        for start in range(0, self.block_count, self.blocks_per_segment):
            yield range(start, min(start + self.blocks_per_segment, self.block_count))

    def stored_segments(
        self, stored: StoredFile, numbers: NDArray[np.int64] | None = None
    ) -> list[tuple[StoredSegment, list[SuperBlock]]]:
        """Each segment of a stored file with its super-blocks.

        Args:
            stored: the file.
            numbers: of an express file, which page of the file each stored one is, where that is known.

        Raises:
            DamageFound: the segments do not cover the file, one after the other.
        """
        found = []
        page = 0
        for index, segment in enumerate(stored.segments):
            end = page + segment.page_count
            if stored.express is not None and len(stored.express.spans) != len(stored.segments):
                break
            if segment.first_page != page or (end % self.pages_per_block and end != self.page_count):
                break
            blocks = [self.block(at) for at in range(page // self.pages_per_block, -(-end // self.pages_per_block))]
            if stored.express is not None:
                blocks = [_named(block, stored.express.spans[index], numbers) for block in blocks]
            found.append((segment, blocks))
            page = end
        if page != self.page_count or len(found) != len(stored.segments):
            raise damage(stored.map.name, "the record's segments are not those of such a file", file=stored.path)
        return found


def _named(block: SuperBlock, span: tuple[int, int], numbers: NDArray[np.int64] | None) -> SuperBlock:
    """The block with the pages of the file that it is about, as exactly as they are known."""
    if numbers is not None:
        found = numbers[block.range]
        span = (int(found[0]), int(found[-1]))
    return replace(block, span=span)


def pages_of(stored: StoredFile, index: int) -> tuple[int, int]:
    """The first and the last page, from 0, of the file's segment of that index."""
    segment = stored.segments[index]
    if stored.express is not None:
        return stored.express.spans[index]
    return segment.first_page, segment.first_page + segment.page_count - 1
