"""An express file out of the archive: its own pages, and the others out of the backups that it builds on.

First it is seen which pages are here already, then each backup of the line gives
the pages that are still its own, and at last the whole stage is read once and its
BLAKE3 compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from backupd.digests import blake3_hasher
from backupd.model.records import Progress, StoredFile
from backupd.pipeline.ahead import in_order
from backupd.pipeline.cipher import KeyFinder
from backupd.pipeline.compress import Decompressor
from backupd.pipeline.container import Block
from backupd.pipeline.express import Homes
from backupd.pipeline.layout import Layout, SuperBlock
from backupd.pipeline.segment_reader import SegmentReader, expand
from backupd.pipeline.stage import Local, Stage
from backupd.ports import ObjectStore, ReportProgress
from backupd.steps import step

Marks = NDArray[np.bool_]


class ExpressFetch:
    """One walk: ``run`` makes the stage the file; ``plain`` is the BLAKE3 of what is there then.

    Args:
        files: the full's file, those of the expresses after it, and at last the one that is wanted.
        homes: where each of its pages is.
        store: the archive's objects.
        stage: where the file is built.
        live: a file whose pages may be reused.
        keys: opens what is encrypted.
        pool: threads that expand pages and write them.
        ahead_max: so many super-blocks are in memory at most.
        report: told how far it has come.
    """

    def __init__(
        self,
        files: Sequence[StoredFile],
        homes: Homes,
        store: ObjectStore,
        stage: Stage,
        live: Local,
        keys: KeyFinder | None,
        pool: ThreadPoolExecutor,
        ahead_max: int,
        report: ReportProgress | None,
    ) -> None:
        self._files, self._homes = files, homes
        self._store, self._keys = store, keys
        self._stage, self._live = stage, live
        self._pool, self._ahead_max, self._report = pool, ahead_max, report
        self._wanted = files[-1]
        self._layout = Layout.of_whole(self._wanted)
        self._decompressor = Decompressor()
        self._done_pages = 0
        self.plain = ""
        self.reused_pages = 0
        self.fetched_pages = 0
        self.read_bytes = 0

    def run(self, *, first: bool) -> None:
        """Bring every page into the stage, then hash all of it; only the first walk takes what is here."""
        here = self._bring_local() if first else np.zeros(self._layout.page_count, dtype=np.bool_)
        self.reused_pages += int(here.sum())
        self._done_pages = int(here.sum())
        for holder, file in enumerate(self._files):
            pages = np.flatnonzero(~here & (self._homes.holders == holder))
            if len(pages):
                self._fetch_from(holder, file, pages)
        self._hash()

    def _bring_local(self) -> Marks:
        """Which pages are in the stage already or could be copied there from the live file."""
        here = np.zeros(self._layout.page_count, dtype=np.bool_)
        if self._stage.was_empty and not self._live.exists:
            return here
        blocks = [self._layout.block(number) for number in range(self._layout.block_count)]
        for block, found in zip(blocks, self._pool.map(self._bring_block, blocks), strict=True):
            here[block.range] = found
        return here

    def _bring_block(self, block: SuperBlock) -> Marks:
        in_stage = self._stage.matching(block, self._homes.page_map)
        if in_stage.all():
            return in_stage
        data, in_live = self._live.look(block, self._homes.page_map)
        self._stage.write_pages(block, data, in_live & ~in_stage)
        return in_stage | in_live

    def _fetch_from(self, holder: int, file: StoredFile, pages: NDArray[np.int64]) -> None:
        """Fetch ``pages`` of the wanted file, which are stored in ``file``."""
        indexes = self._homes.indexes[pages].astype(np.int64)
        order = np.argsort(indexes, kind="stable")
        pages, indexes = pages[order], indexes[order]
        page_map, numbers = self._homes.stored_in(holder)
        reader = SegmentReader(file, self._store, self._keys)

        def write(name: str, block: SuperBlock, got: Block) -> int:
            plain = expand(self._decompressor, got, block, page_map=page_map, stored=file, name=name)
            first, last = np.searchsorted(indexes, (block.first_page, block.first_page + block.page_count))
            self._scatter(plain, pages[first:last], indexes[first:last] - block.first_page)
            return int(last - first)

        def writes() -> Iterator[Future[int]]:
            for segment, blocks in Layout.of(file).stored_segments(file, numbers):
                edges = np.searchsorted(indexes, [blocks[0].first_page, *(block.range.stop for block in blocks)])
                wanted = {block.number for block, count in zip(blocks, np.diff(edges), strict=True) if count}
                step("fetch.write")
                for block, got in reader.take(segment, blocks, wanted):
                    yield self._pool.submit(write, segment.name, block, got)

        for count in in_order(writes(), self._ahead_max):
            self.fetched_pages += count
            self._done_pages += count
            self._tell(self._done_pages * self._wanted.page_bytes)
        self.read_bytes += reader.read_bytes

    def _scatter(self, plain: bytes, pages: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        """Write those pages of a super-block where they belong, as many as are side by side at once."""
        if not len(pages):
            return
        page_bytes = self._wanted.page_bytes
        breaks = np.flatnonzero((np.diff(pages) != 1) | (np.diff(places) != 1)) + 1
        view = memoryview(plain)
        for start, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(pages)], strict=True):
            first = int(places[start]) * page_bytes
            self._stage.write(int(pages[start]) * page_bytes, view[first : first + (end - start) * page_bytes])

    def _hash(self) -> None:
        """BLAKE3 of the stage as it is now; its pages are read ahead by the threads."""
        hasher = blake3_hasher()
        blocks = map(self._layout.block, range(self._layout.block_count))
        hashed_bytes = 0
        for plain in in_order((self._pool.submit(self._stage.read, block) for block in blocks), self._ahead_max):
            hasher.update(plain)
            self._stage.write_out_behind(hashed_bytes, hashed_bytes + len(plain))
            hashed_bytes += len(plain)
        self.plain = hasher.hexdigest()
        self._tell(self._wanted.size_bytes)

    def _tell(self, done_bytes: int) -> None:
        if self._report:
            self._report(Progress(self._wanted.path, done_bytes, self._wanted.size_bytes))
