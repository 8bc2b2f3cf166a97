"""The walk over a data file that is stored: worker threads read, hash, check and compress ahead of it, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backupd.digests import blake3_hasher
from backupd.model.records import ExpressFacts, Progress, StoredMap, StoredSegment
from backupd.pages import Hashes, page_hashes
from backupd.pipeline.compress import Compressor
from backupd.pipeline.container import Block, BlockHeader, pack
from backupd.pipeline.layout import Layout, SuperBlock
from backupd.pipeline.stream import map_pieces, pack_stream
from backupd.ports import PageSource, ReportProgress
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.pipeline.store import SegmentSink

_BAD_PAGES_LISTED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Worked:
    """A super-block that a worker is done with."""

    block: SuperBlock
    buffer: bytearray
    hashes: Hashes
    bad: Sequence[int]
    frame: bytes


class ReadAhead:
    """Walks a source's super-blocks in order, working ahead in threads; closing it closes the source."""

    def __init__(self, source: PageSource, level: int, workers: int) -> None:
        self._source = source
        self.layout = Layout.new(source.page_bytes, source.page_count, source.block_bytes)
        self.compressor = Compressor(level)
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="store")
        self._ahead: deque[Future[Worked]] = deque()
        self.ahead_max = 2 * workers
        self._next = 0
        # The source promises whole pages; a file that has lost its tail is noticed when it is read.
        self._buffers = [bytearray(self.layout.block(0).size_bytes) for _ in range(self.ahead_max + 1)]
        self.compressing = True

    def take(self) -> Worked:
        """The next super-block; give its buffer back with ``done``."""
        while len(self._ahead) < self.ahead_max and self._next < self.layout.block_count:
            block = self.layout.block(self._next)
            self._ahead.append(self.pool.submit(self._work, block, self._buffers.pop()))
            self._next += 1
        return self._ahead.popleft().result()

    def done(self, worked: Worked) -> None:
        """The buffer may be filled again; what was read leaves the page cache, which is the database's."""
        self._buffers.append(worked.buffer)
        block = worked.block
        last = block.number + 1 == self.layout.block_count
        if last or (block.number + 1) % self.layout.blocks_per_segment == 0:
            first = self.layout.block(block.number // self.layout.blocks_per_segment * self.layout.blocks_per_segment)
            self._source.forget(first.offset, block.offset + block.size_bytes - first.offset)

    def close(self) -> None:
        """Wait for what is being read, and let go of the file."""
        for future in self._ahead:
            future.cancel()
        self.pool.shutdown(wait=True)
        self._source.close()

    def _work(self, block: SuperBlock, buffer: bytearray) -> Worked:
        view = memoryview(buffer)[: block.size_bytes]
        self._source.read_into(view, block.offset)
        hashes = page_hashes(view, self._source.page_bytes)
        bad = self._source.bad_pages(block.first_page, view, hashes)
        frame = self.compressor.compress(view) if self.compressing and not bad else b""
        return Worked(block, buffer, hashes, bad, frame)


class BadPageSeen(Exception):
    """A page is bad: nothing more is stored."""


class Storing:
    """The one walk over a file: checks all of it, stores it as long as every page is good."""

    def __init__(self, source: PageSource, sink: SegmentSink, reader: ReadAhead, report: ReportProgress | None) -> None:
        self.source = source
        self._sink = sink
        self._reader = reader
        self._report = report
        self._plain = blake3_hasher()
        self.page_map = np.empty(source.page_count, dtype=np.uint64)
        self.bad: list[int] = []
        self.bad_count = 0
        self.checked = 0
        self.stored_bytes = 0

    def segments(self, file_number: int) -> list[StoredSegment]:
        """Store all segments. Raises BadPageSeen."""
        stored = []
        for numbers in self._reader.layout.segments():
            first_page = self._reader.layout.block(numbers[0]).first_page
            stored.append(self._segment(self._blocks(len(numbers), file_number), first_page))
        return stored

    def store_map(self, file_number: int, level: int) -> StoredMap:
        """Store the page map, once all was walked."""
        new = self._sink.next_map(file_number)
        step("pipeline.map")
        stored = self._sink.put(new, pack_stream(new.head, map_pieces(self.map_words()), level, new.cipher))
        self.stored_bytes += stored.size_bytes
        return StoredMap(stored.name, self.stored_pages(), stored.size_bytes, stored.sha256)

    def map_words(self) -> Hashes:
        """What the map object holds."""
        return self.page_map

    def stored_pages(self) -> int:
        """How many pages the segments hold."""
        return self.source.page_count

    def express(self) -> ExpressFacts | None:
        """Of an express file, what the record says of it."""
        return None

    def blake3(self) -> str:
        """Of the whole file, once all was walked."""
        return self._plain.hexdigest()

    def check_rest(self) -> None:
        """Check what was not reached yet, without storing."""
        self._reader.compressing = False
        while self.checked < self.source.page_count:
            worked = self._reader.take()
            self._check(worked)
            self._reader.done(worked)

    def _segment(self, blocks: Iterator[Block], first_page: int) -> StoredSegment:
        new = self._sink.next_segment()
        step("pipeline.segment")
        pages = 0

        def counted() -> Iterator[Block]:
            nonlocal pages
            for block in blocks:
                pages += block.header.page_count
                yield block

        it = self._sink.put(new, pack(new.head, new.cipher.encrypt(counted()) if new.cipher else counted()))
        self.stored_bytes += it.size_bytes
        return StoredSegment(it.name, first_page, pages, pages * self.source.page_bytes, it.size_bytes, it.sha256)

    def _blocks(self, count: int, file_number: int) -> Iterator[Block]:
        for _ in range(count):
            worked = self._take()
            self._reader.done(worked)
            block = worked.block
            header = BlockHeader(
                block.number, file_number, block.page_count, block.first_page, block.size_bytes, len(worked.frame)
            )
            yield Block(header, worked.frame)

    def _take(self) -> Worked:
        """The next super-block, checked and hashed; its buffer is to be given back. Raises BadPageSeen."""
        worked = self._reader.take()
        self._check(worked)
        if self.bad_count:
            self._reader.done(worked)
            raise BadPageSeen
        self._plain.update(memoryview(worked.buffer)[: worked.block.size_bytes])
        return worked

    def _check(self, worked: Worked) -> None:
        block = worked.block
        self.page_map[block.range] = worked.hashes
        bad = worked.bad
        self.bad_count += len(bad)
        self.bad.extend(bad[: _BAD_PAGES_LISTED_MAX - len(self.bad)])
        self.checked += block.page_count
        if self._report:
            done = self.checked * self.source.page_bytes
            self._report(Progress(self.source.name, done, self.source.size_bytes))
