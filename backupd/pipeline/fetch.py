"""One data file out of the archive into its stage: only what is not there yet, every byte proven.

Pages whose hash is the archived one are taken from the stage itself (a restore
that was interrupted goes on) or from the live file (a delta restore); the rest
is fetched, a whole segment in one stream or single super-blocks by the
segment's table.  What passes is checked four times: the segment's SHA-256 (when
it is read whole), the frame's checksum, each page against the page map, and at
last BLAKE3 over the file as it was written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backupd.digests import blake3_hasher, sha256_hasher
from backupd.errors import DamageFound
from backupd.model.records import Progress, StoredFile, StoredSegment
from backupd.pages import Hashes, page_hashes
from backupd.pipeline.cipher import KeyFinder, cipher_for, unpack_clear
from backupd.pipeline.compress import BadFrame, Decompressor
from backupd.pipeline.container import (
    HEAD_BYTES_MAX,
    Block,
    damage,
    parse_block,
    read_head,
    read_table,
    table_bytes_max,
)
from backupd.pipeline.layout import Layout, SuperBlock
from backupd.pipeline.stage import Local, Stage
from backupd.pipeline.stream import read_map
from backupd.ports import ObjectStore, PageFile, ReportProgress
from backupd.steps import step

# Below this share of a segment's super-blocks, single blocks are read instead of the whole object.
WHOLE_SEGMENT_SHARE = 0.5
_WRITE_OUT_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a fetch did; ``read_bytes`` were read from the archive."""

    reused_pages: int
    fetched_pages: int
    read_bytes: int


def hashed_pieces(store: ObjectStore, name: str, sha256: str, *, file: str = "") -> Iterator[bytes]:
    """An object's bytes, as the store has them; the last piece is followed by a look at their SHA-256.

    Raises:
        ObjectMissing: it is not there.
        DamageFound: from the iterator, when all bytes were given.
    """
    hasher = sha256_hasher()
    for piece in store.read(name):
        hasher.update(piece)
        yield piece
    if hasher.hexdigest() != sha256:
        raise damage(name, "its SHA-256 is not the one in the backup's record", file=file)


def load_map(store: ObjectStore, stored: StoredFile, keys: KeyFinder | None = None) -> Hashes:
    """The page map of a stored file. Raises DamageFound, ObjectMissing, KeyMissing."""
    name = stored.map.name
    try:
        return read_map(name, hashed_pieces(store, name, stored.map.sha256), stored.page_count, keys)
    except DamageFound as problem:
        raise damage(name, problem.because, file=stored.path) from problem


def fetch_file(
    stored: StoredFile,
    store: ObjectStore,
    stage_place: Path | PageFile,
    live_place: Path | PageFile | None = None,
    *,
    keys: KeyFinder | None = None,
    workers: int = 2,
    report: ReportProgress | None = None,
) -> FetchResult:
    """Make ``stage_place`` the archived file, byte for byte, and durable; repeat it to go on after an interruption.

    The live file is only read.

    Raises:
        DamageFound: an object is damaged; the stage is not whole then and must not be used.
        ObjectMissing: an object is not there.
        ArchiveUnreachable: the archive cannot be read now.
        NotHealthy: the stage cannot be written (disk full, permission).
        KeyMissing: it is encrypted, and none of ``keys`` opens it.
    """
    page_map = load_map(store, stored, keys)
    step("fetch.open")
    with (
        Stage(stage_place, stored) as stage,
        Local(live_place, stored) as live,
        ThreadPoolExecutor(workers, thread_name_prefix="fetch") as pool,
    ):
        sides = _Sides(stored, store, page_map, stage, live, keys)
        fetch = _Fetch(sides, pool, 2 * workers, report)
        fetch.run(use_local=True)
        if fetch.plain != stored.blake3 and fetch.reused_pages:
            # A page that is not the archived one had its hash: 2**-64, but then only fetching everything helps.
            stage.distrust()
            fetch = _Fetch(sides, pool, 2 * workers, report)
            fetch.run(use_local=False)
        if fetch.plain != stored.blake3:
            raise damage(stored.map.name, "the restored file's BLAKE3 is not the one in the record", file=stored.path)
        step("fetch.fsync")
        stage.make_durable()
    return FetchResult(fetch.reused_pages, fetch.fetched_pages, fetch.read_bytes)


@dataclass(frozen=True, slots=True)
class _Sides:
    """Where pages come from and where they go."""

    stored: StoredFile
    store: ObjectStore
    page_map: Hashes
    stage: Stage
    live: Local
    keys: KeyFinder | None


class _Fetch:
    """One walk over the file's segments, in order; up to ``ahead_max + 1`` super-blocks are in memory."""

    def __init__(self, sides: _Sides, pool: ThreadPoolExecutor, ahead_max: int, report: ReportProgress | None) -> None:
        self._stored, self._store, self._page_map = sides.stored, sides.store, sides.page_map
        self._stage, self._live, self._keys = sides.stage, sides.live, sides.keys
        self._segments = Layout.of(sides.stored).stored_segments(sides.stored)
        self._pool, self._report = pool, report
        self._ahead: deque[Future[bytes]] = deque()
        self._ahead_max = ahead_max
        self._decompressor = Decompressor()
        self._hasher = blake3_hasher()
        self._hashed_bytes = 0
        self.plain = ""
        self.reused_pages = 0
        self.fetched_pages = 0
        self.read_bytes = 0

    def run(self, *, use_local: bool) -> None:
        """Bring every page into the stage; ``plain`` is the BLAKE3 of what is there then."""
        try:
            for segment, blocks in self._segments:
                wanted = self._not_here(blocks) if use_local else {block.number for block in blocks}
                step("fetch.write")
                self._take_segment(segment, blocks, wanted)
            while self._ahead:
                self._retire()
        finally:
            for future in self._ahead:
                future.cancel()
        self.plain = self._hasher.hexdigest()

    def _not_here(self, blocks: list[SuperBlock]) -> set[int]:
        """Numbers of the super-blocks that neither stage nor live can give; live pages are copied to the stage."""
        if self._stage.was_empty and not self._live.exists:
            return {block.number for block in blocks}
        found = self._pool.map(self._bring_local, blocks)
        return {block.number for block, whole in zip(blocks, found, strict=True) if not whole}

    def _bring_local(self, block: SuperBlock) -> bool:
        in_stage = self._stage.matching(block, self._page_map)
        if in_stage.all():
            return True
        in_live = self._live.matching(block, self._page_map)
        if not (in_stage | in_live).all():
            return False
        self._stage.write(block.offset, self._live.merged(block, in_live, self._stage))
        return True

    def _take_segment(self, segment: StoredSegment, blocks: list[SuperBlock], wanted: set[int]) -> None:
        whole = len(wanted) >= len(blocks) * WHOLE_SEGMENT_SHARE
        fetched = (self._whole(segment, blocks) if whole else self._single(segment, blocks, wanted)) if wanted else None
        for block in blocks:
            if fetched is not None and (whole or block.number in wanted):
                self._submit_fetched(segment, block, next(fetched))
            else:
                self.reused_pages += block.page_count
                self._ahead.append(self._pool.submit(self._stage.read, block))
            while len(self._ahead) > self._ahead_max:
                self._retire()
        # Running the iterator to its end checks seal and SHA-256.
        if fetched is not None and next(fetched, None) is not None:
            raise damage(segment.name, "it holds more super-blocks than the record says", file=self._stored.path)

    def _submit_fetched(self, segment: StoredSegment, block: SuperBlock, got: Block) -> None:
        header = got.header
        if (header.number, header.first_page, header.page_count, header.plain_bytes) != (
            block.number,
            block.first_page,
            block.page_count,
            block.size_bytes,
        ):
            raise damage(
                segment.name,
                f"super-block {header.number} stands where super-block {block.number} belongs",
                file=self._stored.path,
                pages=block.pages,
            )
        self.fetched_pages += block.page_count
        self._ahead.append(self._pool.submit(self._expand, segment, block, got))

    def _expand(self, segment: StoredSegment, block: SuperBlock, got: Block) -> bytes:
        plain = expand(self._decompressor, got, block, page_map=self._page_map, stored=self._stored, name=segment.name)
        self._stage.write(block.offset, plain)
        return plain

    def _whole(self, segment: StoredSegment, blocks: list[SuperBlock]) -> Iterator[Block]:
        self.read_bytes += segment.stored_bytes
        pieces = hashed_pieces(self._store, segment.name, segment.sha256, file=self._stored.path)
        span = (blocks[0].first_page, blocks[-1].pages[1])
        try:
            _, found = unpack_clear(segment.name, pieces, "segment", self._keys)
            count = 0
            for got in found:
                span = (blocks[min(count, len(blocks) - 1)].first_page, span[1])
                count += 1
                yield got
            if count < len(blocks):
                raise damage(segment.name, "it holds fewer super-blocks than the record says")
        except DamageFound as problem:
            raise damage(segment.name, problem.because, file=self._stored.path, pages=span) from problem

    def _single(self, segment: StoredSegment, blocks: list[SuperBlock], wanted: set[int]) -> Iterator[Block]:
        tail = min(table_bytes_max(len(blocks)), segment.stored_bytes)
        rows = read_table(segment.name, self._store.read_range(segment.name, segment.stored_bytes - tail, tail))
        self.read_bytes += tail
        if len(rows) != len(blocks):
            raise damage(segment.name, "its table has another number of super-blocks", file=self._stored.path)
        cipher = None
        if self._keys is not None:
            start = self._store.read_range(segment.name, 0, HEAD_BYTES_MAX)
            cipher = cipher_for(segment.name, read_head(segment.name, start, "segment"), self._keys)
        for row, block in zip(rows, blocks, strict=True):
            if block.number in wanted:
                if row.offset + row.length > segment.stored_bytes:
                    raise damage(segment.name, "its table points beyond its end", file=self._stored.path)
                self.read_bytes += row.length
                block_bytes = self._store.read_range(segment.name, row.offset, row.length)
                found = parse_block(segment.name, row, block_bytes)
                yield cipher.decrypt(segment.name, found) if cipher else found

    def _retire(self) -> None:
        plain = self._ahead.popleft().result()
        self._hasher.update(plain)
        before, self._hashed_bytes = self._hashed_bytes, self._hashed_bytes + len(plain)
        if before // _WRITE_OUT_BYTES != self._hashed_bytes // _WRITE_OUT_BYTES:
            self._stage.start_writing_out(before // _WRITE_OUT_BYTES * _WRITE_OUT_BYTES, _WRITE_OUT_BYTES)
        if self._report:
            self._report(Progress(self._stored.path, self._hashed_bytes, self._stored.size_bytes))


def expand(
    decompressor: Decompressor, got: Block, block: SuperBlock, *, page_map: Hashes, stored: StoredFile, name: str
) -> bytes:
    """The plain pages of a fetched super-block, each checked against the page map.

    Raises:
        DamageFound: naming the file and the pages.
    """
    try:
        plain = decompressor.decompress(got.frame, block.size_bytes)
    except BadFrame as problem:
        raise damage(name, str(problem), file=stored.path, pages=block.pages) from problem
    expected = page_map[block.first_page : block.first_page + block.page_count]
    bad = np.flatnonzero(page_hashes(plain, stored.page_bytes) != expected)
    if len(bad):
        pages = (block.first_page + int(bad[0]), block.first_page + int(bad[-1]))
        raise damage(name, "pages are not those of the page map", file=stored.path, pages=pages)
    return plain
