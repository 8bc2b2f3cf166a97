"""One data file into the archive: read, check each page, compress, store; every byte is read once.

Worker threads read a super-block, hash its pages, ask the source whether they are
what they must be, and compress it; all of it lets other threads run.  The calling
thread takes the results in order, feeds BLAKE3 (whose stream has an order) and
hands the frames to the store, which writes them as they come.  At
most ``2 * workers + 1`` super-blocks are in memory.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from backupd.digests import blake3_hasher
from backupd.errors import NotHealthy
from backupd.model.records import Progress, StoredFile, StoredMap, StoredSegment
from backupd.pages import Hashes, page_hashes
from backupd.pipeline.cipher import DataKey, ObjectCipher
from backupd.pipeline.compress import DEFAULT_LEVEL, Compressor
from backupd.pipeline.container import Block, BlockHeader, head_of, pack
from backupd.pipeline.layout import Layout, SuperBlock
from backupd.pipeline.stream import map_pieces, pack_stream
from backupd.ports import PageSource, ReportProgress, StoredObject
from backupd.steps import step

_BAD_PAGES_LISTED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class NewObject:
    """The name that the next object will get, the head that its bytes begin with, and what encrypts its blocks."""

    name: str
    head: bytes
    cipher: ObjectCipher | None = None


def new_object(name: str, kind: str, repository: str, key: DataKey | None, **facts: object) -> NewObject:
    """An object to write: its head names it, and with a key says how it is encrypted."""
    if key is None:
        return NewObject(name, head_of(name, kind, repository, **facts))
    head = head_of(name, kind, repository, encryption=key.new_encryption(), **facts)
    return NewObject(name, head, ObjectCipher(key, json.loads(head)))


class SegmentSink(Protocol):
    """Where segments and maps go: the backup that is being made (archive/repository.py has it)."""

    def next_segment(self) -> NewObject:
        """Name the next segment; names are dense and in order."""
        ...

    def next_map(self, file_number: int) -> NewObject:
        """Name the page map of a file."""
        ...

    def put(self, new: NewObject, pieces: Iterable[bytes]) -> StoredObject:
        """Store the object. Raises ArchiveUnreachable, ObjectExists."""
        ...


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What became of a file; ``file`` is None when a page is bad, and ``bad_pages`` (from 0) says which.

    ``checked_pages`` counts the pages whose hash the source was asked about: all of them, in either case.
    At most 10 000 bad pages are listed; ``bad_page_count`` counts them all.
    """

    file: StoredFile | None
    bad_pages: tuple[int, ...]
    bad_page_count: int
    checked_pages: int
    read_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class _Worked:
    """A super-block that a worker is done with."""

    block: SuperBlock
    buffer: bytearray
    hashes: Hashes
    bad: Sequence[int]
    frame: bytes


class _BadPageSeen(Exception):
    """A page is bad: nothing more is stored."""


class _Reader:
    """Walks a source's super-blocks in order, working ahead in threads."""

    def __init__(self, source: PageSource, level: int, workers: int) -> None:
        self._source = source
        self.layout = Layout.new(source.page_bytes, source.page_count, source.block_bytes)
        self._compressor = Compressor(level)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="store")
        self._ahead: deque[Future[_Worked]] = deque()
        self._ahead_max = 2 * workers
        self._next = 0
        # The source promises whole pages; a file that has lost its tail is noticed when it is read.
        self._buffers = [bytearray(self.layout.block(0).size_bytes) for _ in range(self._ahead_max + 1)]
        self.compressing = True

    def take(self) -> _Worked:
        """The next super-block; give its buffer back with ``done``."""
        while len(self._ahead) < self._ahead_max and self._next < self.layout.block_count:
            block = self.layout.block(self._next)
            self._ahead.append(self._pool.submit(self._work, block, self._buffers.pop()))
            self._next += 1
        return self._ahead.popleft().result()

    def done(self, worked: _Worked) -> None:
        """The buffer may be filled again; what was read leaves the page cache, which is the database's."""
        self._buffers.append(worked.buffer)
        block = worked.block
        last = block.number + 1 == self.layout.block_count
        if last or (block.number + 1) % self.layout.blocks_per_segment == 0:
            first = self.layout.block(block.number // self.layout.blocks_per_segment * self.layout.blocks_per_segment)
            self._source.forget(first.offset, block.offset + block.size_bytes - first.offset)

    def close(self) -> None:
        for future in self._ahead:
            future.cancel()
        self._pool.shutdown(wait=True)
        self._source.close()

    def _work(self, block: SuperBlock, buffer: bytearray) -> _Worked:
        view = memoryview(buffer)[: block.size_bytes]
        self._source.read_into(view, block.offset)
        hashes = page_hashes(view, self._source.page_bytes)
        bad = self._source.bad_pages(block.first_page, view, hashes)
        frame = self._compressor.compress(view) if self.compressing and not bad else b""
        return _Worked(block, buffer, hashes, bad, frame)


class _Storing:
    """The one walk over a file: checks all of it, stores it as long as every page is good."""

    def __init__(self, source: PageSource, sink: SegmentSink, reader: _Reader, report: ReportProgress | None) -> None:
        self._source = source
        self._sink = sink
        self._reader = reader
        self._report = report
        self._plain = blake3_hasher()
        self.map = np.empty(source.page_count, dtype=np.uint64)
        self.bad: list[int] = []
        self.bad_count = 0
        self.checked = 0
        self.stored_bytes = 0

    def segments(self, file_number: int) -> list[StoredSegment]:
        """Store all segments. Raises _BadPageSeen."""
        stored = []
        for numbers in self._reader.layout.segments():
            new = self._sink.next_segment()
            step("pipeline.segment")
            blocks = self._blocks(numbers, file_number)
            it = self._sink.put(new, pack(new.head, new.cipher.encrypt(blocks) if new.cipher else blocks))
            self.stored_bytes += it.size_bytes
            first, last = self._reader.layout.block(numbers[0]), self._reader.layout.block(numbers[-1])
            pages = last.first_page + last.page_count - first.first_page
            stored.append(
                StoredSegment(
                    it.name, first.first_page, pages, pages * self._source.page_bytes, it.size_bytes, it.sha256
                )
            )
        return stored

    def blake3(self) -> str:
        return self._plain.hexdigest()

    def check_rest(self) -> None:
        """Check what was not reached yet, without storing."""
        self._reader.compressing = False
        while self.checked < self._source.page_count:
            worked = self._reader.take()
            self._check(worked)
            self._reader.done(worked)

    def _blocks(self, numbers: range, file_number: int) -> Iterator[Block]:
        for _ in numbers:
            worked = self._reader.take()
            self._check(worked)
            if self.bad_count:
                self._reader.done(worked)
                raise _BadPageSeen
            block = worked.block
            self._plain.update(memoryview(worked.buffer)[: block.size_bytes])
            self._reader.done(worked)
            header = BlockHeader(
                block.number, file_number, block.page_count, block.first_page, block.size_bytes, len(worked.frame)
            )
            yield Block(header, worked.frame)

    def _check(self, worked: _Worked) -> None:
        block = worked.block
        self.map[block.first_page : block.first_page + block.page_count] = worked.hashes
        bad = worked.bad
        self.bad_count += len(bad)
        self.bad.extend(bad[: _BAD_PAGES_LISTED_MAX - len(self.bad)])
        self.checked += block.page_count
        if self._report:
            done = self.checked * self._source.page_bytes
            self._report(Progress(self._source.name, done, self._source.size_bytes))


def store_file(
    source: PageSource,
    sink: SegmentSink,
    *,
    level: int = DEFAULT_LEVEL,
    workers: int = 2,
    file_number: int = 0,
    report: ReportProgress | None = None,
) -> StoreResult:
    """Check and store one data file.

    The first bad page ends the storing (the segment that was being written does
    not come to exist); the check goes on to the file's end, so that every bad
    page is known.

    Raises:
        NotHealthy: the file cannot be read, or is shorter than its pages say.
        ArchiveUnreachable: the archive cannot be written.
    """
    if source.size_bytes != source.page_count * source.page_bytes:
        raise NotHealthy(
            f"{source.name} is not made of whole pages",
            because=f"it has {source.size_bytes} bytes, {source.page_count} pages of {source.page_bytes} were expected",
            next_step="seed the passive again: backupctl copy seed DATABASE",
        )
    reader = _Reader(source, level, workers)
    try:
        storing = _Storing(source, sink, reader, report)
        file: StoredFile | None = None
        try:
            segments = storing.segments(file_number)
            page_map = _store_map(storing, sink, file_number, level)
            file = StoredFile(
                path=source.name,
                size_bytes=source.size_bytes,
                page_bytes=source.page_bytes,
                page_count=source.page_count,
                blake3=storing.blake3(),
                segments=tuple(segments),
                map=page_map,
                block_pages=reader.layout.pages_per_block,
            )
        except _BadPageSeen:
            storing.check_rest()
    finally:
        reader.close()
    read = storing.checked * source.page_bytes
    return StoreResult(file, tuple(storing.bad), storing.bad_count, storing.checked, read, storing.stored_bytes)


def _store_map(storing: _Storing, sink: SegmentSink, file_number: int, level: int) -> StoredMap:
    new = sink.next_map(file_number)
    step("pipeline.map")
    stored = sink.put(new, pack_stream(new.head, map_pieces(storing.map), level, new.cipher))
    storing.stored_bytes += stored.size_bytes
    return StoredMap(stored.name, len(storing.map), stored.size_bytes, stored.sha256)
