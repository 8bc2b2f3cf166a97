"""One data file out of the archive into its stage: only what is not there yet, every byte proven.

Pages whose hash is the archived one are taken from the stage itself (a restore
that was interrupted goes on) or from the live file (a delta restore); the rest
is fetched, a whole segment in one stream or single super-blocks by the
segment's table.  What passes is checked three times: the segment's SHA-256 (when
it is read whole), the frame's checksum, and at last BLAKE3 over the file as it
was written.  Where that is not the archived one, all is fetched once more, each
page is looked up in the page map, and the error names those that are wrong.

Four threads overlap: one reads segments and hashes what is stored, two
(``workers``) expand and write, and the caller's own hashes what was written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from backupd.allocations import blocks_reused
from backupd.digests import blake3_hasher
from backupd.model.records import Progress, StoredFile, StoredSegment
from backupd.pages import Hashes
from backupd.pipeline.ahead import in_background
from backupd.pipeline.cipher import KeyFinder
from backupd.pipeline.compress import Decompressor
from backupd.pipeline.container import Block, damage
from backupd.pipeline.express_fetch import ExpressFetch
from backupd.pipeline.layout import Layout, SuperBlock
from backupd.pipeline.page_map import load_homes, load_map
from backupd.pipeline.segment_reader import SegmentReader, expand
from backupd.pipeline.stage import Local, Matches, Stage
from backupd.ports import ObjectStore, PageFile, ReportProgress
from backupd.steps import step


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a fetch did; ``read_bytes`` were read from the archive."""

    reused_pages: int
    fetched_pages: int
    read_bytes: int


def fetch_file(
    stored: StoredFile,
    store: ObjectStore,
    stage_place: Path | PageFile,
    live_place: Path | PageFile | None = None,
    *,
    bases: Sequence[StoredFile] = (),
    keys: KeyFinder | None = None,
    workers: int = 2,
    report: ReportProgress | None = None,
) -> FetchResult:
    """Make ``stage_place`` the archived file, byte for byte, and durable; repeat it to go on after an interruption.

    The live file is only read.

    Args:
        stored: the file that is wanted.
        store: the archive's objects.
        stage_place: where it is built.
        live_place: a file whose pages may be reused.
        bases: for an express file the same file of the backups that it builds on, the full's first.
        keys: opens what is encrypted.
        workers: threads.
        report: told how far it has come.

    Raises:
        DamageFound: an object is damaged; the stage is not whole then and must not be used.
        ObjectMissing: an object is not there.
        ArchiveUnreachable: the archive cannot be read now.
        NotHealthy: the stage cannot be written (disk full, permission).
        KeyMissing: it is encrypted, and none of ``keys`` opens it.
    """
    files = (*bases, stored)
    homes = load_homes(store, files, keys) if stored.express is not None else None
    page_map = homes.page_map if homes is not None else load_map(store, stored, keys)
    step("fetch.open")
    with (
        blocks_reused(),
        Stage(stage_place, stored) as stage,
        Local(live_place, stored) as live,
        ThreadPoolExecutor(workers, thread_name_prefix="fetch") as pool,
    ):

        def walk() -> _Fetch | ExpressFetch:
            if homes is not None:
                return ExpressFetch(files, homes, store, stage, live, keys, pool, 2 * workers, report)
            return _Fetch(_Sides(stored, store, page_map, stage, live, keys), pool, 2 * workers, report)

        fetch = walk()
        fetch.run(first=True)
        if fetch.plain != stored.blake3:
            # Damage, which the second walk names; or a page that was here had an archived one's hash (2**-64).
            stage.distrust()
            fetch = walk()
            fetch.run(first=False)
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
    """One walk over the file's segments, in order.

    In memory are about ``2 * ahead_max`` super-blocks, and of two segments those that are here already.
    """

    def __init__(self, sides: _Sides, pool: ThreadPoolExecutor, ahead_max: int, report: ReportProgress | None) -> None:
        self._stored, self._store, self._page_map = sides.stored, sides.store, sides.page_map
        self._stage, self._live, self._keys = sides.stage, sides.live, sides.keys
        self._segments = Layout.of(sides.stored).stored_segments(sides.stored)
        self._pool, self._report = pool, report
        self._ahead: deque[Future[bytes]] = deque()
        self._ahead_max = ahead_max
        self._missing: dict[int, Matches] = {}  # of blocks that are to be fetched: the pages that are not here
        self._checked: Hashes | None = None  # what each page is compared with
        self._reader = SegmentReader(sides.stored, sides.store, sides.keys)
        self._decompressor = Decompressor()
        self._hasher = blake3_hasher()
        self._hashed_bytes = 0
        self.plain = ""
        self.reused_pages = 0
        self.fetched_pages = 0

    @property
    def read_bytes(self) -> int:
        """How much was read from the archive."""
        return self._reader.read_bytes

    def run(self, *, first: bool) -> None:
        """Bring every page into the stage; ``plain`` is the BLAKE3 of what is there then.

        A walk that is not the first takes nothing from here, and looks at each page.
        """
        self._checked = None if first else self._page_map
        read = in_background(self._read(use_local=first), self._ahead_max)
        try:
            for segment, block, got in read:
                if isinstance(got, bytes):
                    self.reused_pages += block.page_count
                    self._ahead.append(_done(got))
                else:
                    self.fetched_pages += block.page_count
                    self._ahead.append(self._pool.submit(self._expand, segment, block, got))
                del got
                while len(self._ahead) > self._ahead_max:
                    self._retire()
            while self._ahead:
                self._retire()
        finally:
            read.close()
            for future in self._ahead:
                future.cancel()
        self.plain = self._hasher.hexdigest()

    def _read(self, *, use_local: bool) -> Generator[tuple[StoredSegment, SuperBlock, Block | bytes], None, None]:
        """All super-blocks in order, each with what is stored of it, or as it is in the stage already."""
        for segment, blocks in self._segments:
            here = self._bring_segment(blocks) if use_local else {}
            step("fetch.write")
            fetched = self._reader.take(segment, blocks, {it.number for it in blocks} - here.keys())
            got = next(fetched, None)
            for block in blocks:
                if block.number in here:
                    yield segment, block, here.pop(block.number)
                elif got is not None:
                    yield segment, block, got[1]
                # Of a segment that is read whole comes what is here, too.
                if got is not None and got[0].number == block.number:
                    got = next(fetched, None)

    def _bring_segment(self, blocks: list[SuperBlock]) -> dict[int, bytes]:
        """The super-blocks that stage or live can give; live pages are copied to the stage."""
        if self._stage.was_empty and not self._live.exists:
            return {}
        found = self._pool.map(self._bring_local, blocks)
        return {block.number: plain for block, plain in zip(blocks, found, strict=True) if plain is not None}

    def _bring_local(self, block: SuperBlock) -> bytes | None:
        """The block, if it is in the stage as a whole now; of another one it is kept which pages are missing there."""
        staged, in_stage = self._stage.look(block, self._page_map)
        if in_stage.all():
            return staged or self._stage.read(block)
        data, in_live = self._live.look(block, self._page_map) if self._live.exists else (b"", in_stage)
        if (in_stage | in_live).all():
            self._stage.write_pages(block, data, in_live & ~in_stage)
            return data if in_live.all() else self._stage.read(block)
        if in_stage.any():
            self._missing[block.number] = ~in_stage
        return None

    def _expand(self, segment: StoredSegment, block: SuperBlock, got: Block) -> bytes:
        plain = expand(self._decompressor, got, block, page_map=self._checked, stored=self._stored, name=segment.name)
        missing = self._missing.pop(block.number, None)
        if missing is None:
            self._stage.write(block.offset, plain)
        else:
            self._stage.write_pages(block, plain, missing)
        return plain

    def _retire(self) -> None:
        plain = self._ahead.popleft().result()
        self._hasher.update(plain)
        before, self._hashed_bytes = self._hashed_bytes, self._hashed_bytes + len(plain)
        # Not here: who starts the write of dirty pages looks for their places on the disk.
        self._pool.submit(self._stage.write_out_behind, before, self._hashed_bytes)
        if self._report:
            self._report(Progress(self._stored.path, self._hashed_bytes, self._stored.size_bytes))


def _done(plain: bytes) -> Future[bytes]:
    """A block that waits for nothing but its turn to be hashed."""
    future: Future[bytes] = Future()
    future.set_result(plain)
    return future
