"""Stores only the pages of a file that the parent backup's file does not have, packed into super-blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from backupd.model.records import ExpressFacts, StoredSegment
from backupd.pages import Hashes
from backupd.pipeline.container import Block, BlockHeader
from backupd.pipeline.express import DIFFERENT_SHARE_MAX, MostPagesDiffer, PageBase, Selection
from backupd.pipeline.storing import ReadAhead, Storing
from backupd.ports import PageSource, ReportProgress

if TYPE_CHECKING:
    from backupd.pipeline.store import SegmentSink


@dataclass(frozen=True, slots=True)
class _Packed:
    """A super-block of changed pages on its way: which of them it holds, and its frame when it is compressed."""

    number: int
    first: int  # among the stored pages
    count: int
    frame: Future[bytes]


class ExpressStoring(Storing):
    """As ``Storing``: all pages are read, checked and hashed, the changed ones are stored."""

    def __init__(
        self,
        base: PageBase,
        source: PageSource,
        sink: SegmentSink,
        reader: ReadAhead,
        report: ReportProgress | None,
    ) -> None:
        super().__init__(source, sink, reader, report)
        reader.compressing = False
        self._selection = Selection(base, source.extents(), source.page_count)
        self._pages_per_block = reader.layout.pages_per_block
        self._counts: list[int] = []

    def segments(self, file_number: int) -> list[StoredSegment]:
        """Store all segments. Raises BadPageSeen, MostPagesDiffer."""
        packed = self._packed()
        stored: list[StoredSegment] = []
        for first in packed:
            some = chain([first], islice(packed, self._reader.layout.blocks_per_segment - 1))
            stored.append(self._segment(self._as_blocks(some, file_number), first.first))
        self._counts = [segment.page_count for segment in stored]
        return stored

    def map_words(self) -> Hashes:
        """The hashes of the stored pages, then the runs of the others."""
        runs = self._selection.runs()
        return np.concatenate((self.page_map[self._selection.numbers()], runs.reshape(-1)))

    def stored_pages(self) -> int:
        """How many pages the segments hold."""
        return self._selection.stored_pages

    def express(self) -> ExpressFacts:
        """What the record says of it."""
        numbers = self._selection.numbers()
        ends = np.cumsum(self._counts, dtype=np.int64)
        starts = ends - self._counts
        spans = tuple((int(numbers[a]), int(numbers[b - 1])) for a, b in zip(starts, ends, strict=True))
        return ExpressFacts(
            self._selection.stored_pages, len(self._selection.runs()), self._selection.base_page_count, spans
        )

    def _as_blocks(self, packed: Iterator[_Packed], file_number: int) -> Iterator[Block]:
        for each in packed:
            frame = each.frame.result()
            size = each.count * self.source.page_bytes
            yield Block(BlockHeader(each.number, file_number, each.count, each.first, size, len(frame)), frame)

    def _packed(self) -> Iterator[_Packed]:
        """The changed pages in super-blocks, compressed ahead in the reader's threads."""
        ahead: deque[_Packed] = deque()
        first = 0
        for number, pages in enumerate(self._gathered()):
            frame = self._reader.pool.submit(self._reader.compressor.compress, pages)
            count = len(pages) // self.source.page_bytes
            ahead.append(_Packed(number, first, count, frame))
            first += count
            while len(ahead) > self._reader.ahead_max:
                yield ahead.popleft()
        yield from ahead

    def _gathered(self) -> Iterator[bytes]:
        """The bytes of the changed pages, so many together as a super-block holds; the last may hold fewer."""
        page_bytes = self.source.page_bytes
        full_bytes = self._pages_per_block * page_bytes
        waiting = bytearray()
        while self.checked < self.source.page_count:
            worked = self._take()
            block = worked.block
            changed = self._selection.changed(block.first_page, worked.hashes)
            if changed.any():
                rows = np.frombuffer(worked.buffer, np.uint8, block.size_bytes).reshape(block.page_count, page_bytes)
                waiting += rows[changed].tobytes()
                del rows
            self._reader.done(worked)
            self._refuse_too_many()
            while len(waiting) >= full_bytes:
                yield bytes(waiting[:full_bytes])
                del waiting[:full_bytes]
        if waiting:
            yield bytes(waiting)

    def _refuse_too_many(self) -> None:
        total, stored = self.source.page_count, self._selection.stored_pages
        if stored > total * DIFFERENT_SHARE_MAX:
            raise MostPagesDiffer(
                f"an express full of {self.source.name} is not worth it",
                because=f"at least {stored} of its {total} pages are not those of the full before it",
                next_step="take a full: backupctl backup DATABASE --type full",
            )
