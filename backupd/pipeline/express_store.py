"""Stores only the pages of a file that the parent backup's file does not have, packed into super-blocks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from backupd.model.records import ExpressFacts, StoredSegment
from backupd.pages import Hashes
from backupd.pipeline.ahead import in_order
from backupd.pipeline.container import Block, BlockHeader
from backupd.pipeline.express import DIFFERENT_SHARE_MAX, MostPagesDiffer, PageBase, Selection
from backupd.pipeline.storing import ReadAhead, Storing
from backupd.ports import PageSource, ReportProgress

if TYPE_CHECKING:
    from backupd.pipeline.store import SegmentSink


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
        self._stored: list[StoredSegment] = []
        self._numbers = np.empty(0, dtype=np.int64)
        self._runs = np.empty((0, 3), dtype=np.uint64)

    def segments(self, file_number: int) -> list[StoredSegment]:
        """Store all segments. Raises BadPageSeen, MostPagesDiffer."""
        blocks = in_order(self._packed(file_number), self._reader.ahead_max)
        for first in blocks:
            some = chain([first], islice(blocks, self._reader.layout.blocks_per_segment - 1))
            self._stored.append(self._segment(some, first.header.first_page))
        self._numbers, self._runs = self._selection.numbers(), self._selection.runs()
        return self._stored

    def map_words(self) -> Hashes:
        """The hashes of the stored pages, then the runs of the others."""
        return np.concatenate((self.page_map[self._numbers], self._runs.reshape(-1)))

    def stored_pages(self) -> int:
        """How many pages the segments hold."""
        return len(self._numbers)

    def express(self) -> ExpressFacts:
        """What the record says of it."""
        spans = []
        for segment in self._stored:
            inside = self._numbers[segment.first_page : segment.first_page + segment.page_count]
            spans.append((int(inside[0]), int(inside[-1])))
        return ExpressFacts(len(self._numbers), len(self._runs), self._selection.base_page_count, tuple(spans))

    def _packed(self, file_number: int) -> Iterator[Future[Block]]:
        """The changed pages in super-blocks, each compressed in the reader's threads."""
        first = 0
        for number, pages in enumerate(self._gathered()):
            yield self._reader.pool.submit(self._compressed, number, file_number, first, pages)
            first += len(pages) // self.source.page_bytes

    def _compressed(self, number: int, file_number: int, first: int, pages: bytes) -> Block:
        frame = self._reader.compressor.compress(pages)
        count = len(pages) // self.source.page_bytes
        return Block(BlockHeader(number, file_number, count, first, len(pages), len(frame)), frame)

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
