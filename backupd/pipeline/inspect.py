"""Reads a stored file through without writing it, and names every page range that cannot be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backupd.allocations import blocks_reused
from backupd.digests import blake3_hasher
from backupd.errors import BackupdError, DamageFound, ObjectMissing
from backupd.model.records import StoredFile, StoredSegment
from backupd.pages import Hashes, page_hashes
from backupd.pipeline.ahead import in_order
from backupd.pipeline.cipher import KeyFinder, cipher_for, unpack_clear
from backupd.pipeline.compress import BadFrame, Decompressor
from backupd.pipeline.container import HEAD_BYTES_MAX, Block, damage, read_head, salvage
from backupd.pipeline.layout import Layout, SuperBlock
from backupd.pipeline.page_map import load_express_map, load_map
from backupd.pipeline.segment_reader import expand, hashed_pieces
from backupd.ports import ObjectStore


@dataclass(frozen=True, slots=True)
class FileProblem:
    """What is wrong with an object of a file; pages count from 0, both ends inside."""

    object_name: str
    problem: str
    first_page: int | None = None
    last_page: int | None = None


def inspect_file(
    stored: StoredFile,
    store: ObjectStore,
    on_problem: Callable[[FileProblem], None],
    on_read: Callable[[str, int], None],
    *,
    keys: KeyFinder | None = None,
    workers: int = 2,
) -> None:
    """Read every object of the file and tell ``on_problem`` whatever is wrong.

    ``on_read`` is told the name and the stored bytes of each object that was read whole and is sound.

    Raises:
        ArchiveUnreachable: the archive cannot be read now.
        KeyMissing: it is encrypted, and none of ``keys`` opens it.
    """
    _Inspection(stored, store, on_problem, on_read, keys, workers).run()


def inspect_segment(
    stored: StoredFile,
    store: ObjectStore,
    segment: StoredSegment,
    on_problem: Callable[[FileProblem], None],
    on_read: Callable[[str, int], None],
    *,
    keys: KeyFinder | None = None,
    workers: int = 2,
) -> None:
    """Read one segment of the file: its SHA-256, its seal, and every super-block expanded; not its page map.

    Raises:
        ArchiveUnreachable: the archive cannot be read now.
        KeyMissing: it is encrypted, and none of ``keys`` opens it.
    """
    _Inspection(stored, store, on_problem, on_read, keys, workers).run(segment)


class _Inspection:
    def __init__(
        self,
        stored: StoredFile,
        store: ObjectStore,
        on_problem: Callable[[FileProblem], None],
        on_read: Callable[[str, int], None],
        keys: KeyFinder | None,
        workers: int,
    ) -> None:
        self._stored, self._store, self._keys = stored, store, keys
        self._on_problem, self._on_read = on_problem, on_read
        self._workers = workers
        self._decompressor = Decompressor()
        self._hasher = blake3_hasher()
        self._sound = True
        self._numbers: NDArray[np.int64] | None = None  # of an express file, which page each stored one is

    def run(self, only: StoredSegment | None = None) -> None:
        """All of the file against its map and its BLAKE3, or one segment for itself."""
        page_map = self._map() if only is None else None
        try:
            segments = Layout.of(self._stored).stored_segments(self._stored, self._numbers)
        except DamageFound as problem:
            self._tell(FileProblem(self._stored.map.name, problem.because))
            return
        with blocks_reused(), ThreadPoolExecutor(self._workers, thread_name_prefix="inspect") as pool:
            for segment, blocks in segments:
                if only in {None, segment}:
                    self._segment(pool, segment, blocks, page_map)
        # The BLAKE3 of an express file is over the pages of other backups, too: a restore compares it.
        whole = only is None and self._stored.express is None
        if whole and self._sound and self._hasher.hexdigest() != self._stored.blake3:
            self._tell(FileProblem(self._stored.map.name, "the file's BLAKE3 is not the one in the record"))

    def _tell(self, problem: FileProblem) -> None:
        self._sound = False
        self._on_problem(problem)

    def _map(self) -> Hashes | None:
        name = self._stored.map.name
        for again in (False, True):
            try:
                page_map = self._load_map()
            except ObjectMissing:
                self._tell(FileProblem(name, "it is missing"))
                return None
            except DamageFound as problem:
                if again:
                    self._tell(FileProblem(name, problem.because))
                    return None
                self._forget(name)
            else:
                self._on_read(name, self._stored.map.stored_bytes)
                return page_map
        return None

    def _load_map(self) -> Hashes:
        if self._stored.express is None:
            return load_map(self._store, self._stored, self._keys)
        found = load_express_map(self._store, self._stored, self._keys)
        self._numbers = found.numbers
        return found.hashes

    def _segment(
        self, pool: ThreadPoolExecutor, segment: StoredSegment, blocks: list[SuperBlock], page_map: Hashes | None
    ) -> None:
        hasher_before = self._hasher
        for again in (False, True):
            self._hasher = hasher_before.copy()
            try:
                self._read_segment(pool, segment, blocks, page_map)
            except ObjectMissing:
                pages = (blocks[0].pages[0], blocks[-1].pages[1])
                self._tell(FileProblem(segment.name, "it is missing", *pages))
                return
            except DamageFound as problem:
                if again:
                    self._name_damage(segment, blocks, page_map, problem)
                    return
                self._forget(segment.name)
            else:
                self._on_read(segment.name, segment.stored_bytes)
                return

    def _read_segment(
        self, pool: ThreadPoolExecutor, segment: StoredSegment, blocks: list[SuperBlock], page_map: Hashes | None
    ) -> None:
        count = 0
        pieces = hashed_pieces(self._store, segment.name, segment.sha256)
        _, found = unpack_clear(segment.name, pieces, "segment", self._keys)

        def expansions() -> Iterator[Future[bytes]]:
            nonlocal count
            for got in found:
                if count < len(blocks):
                    yield pool.submit(self._expand, page_map, segment.name, blocks[count], got)
                count += 1

        for plain in in_order(expansions(), 2 * self._workers):
            self._hasher.update(plain)
        if count != len(blocks):
            raise damage(segment.name, f"it holds {count} super-blocks, the record says {len(blocks)}")

    def _expand(self, page_map: Hashes | None, name: str, block: SuperBlock, got: Block) -> bytes:
        if page_map is None:
            try:
                return self._decompressor.decompress(got.frame, block.size_bytes)
            except BadFrame as problem:
                raise damage(name, str(problem), file=self._stored.path, pages=block.pages) from problem
        return expand(self._decompressor, got, block, page_map=page_map, stored=self._stored, name=name)

    def _name_damage(
        self, segment: StoredSegment, blocks: list[SuperBlock], page_map: Hashes | None, problem: DamageFound
    ) -> None:
        """Find the super-blocks that are still whole, wherever they stand; the others are named by their pages."""
        data = b"".join(self._store.read(segment.name))
        whole = self._still_whole(segment.name, data, blocks, page_map)
        bad = [block for block in blocks if block.number not in whole]
        if not bad:
            self._tell(FileProblem(segment.name, f"{problem.because}; all its pages can still be read"))
        for first, last in _runs(bad):
            self._tell(FileProblem(segment.name, problem.because, first.pages[0], last.pages[1]))

    def _still_whole(self, name: str, data: bytes, blocks: list[SuperBlock], page_map: Hashes | None) -> set[int]:
        by_number = {block.number: block for block in blocks}
        whole = set()
        try:
            cipher = cipher_for(name, read_head(name, data[:HEAD_BYTES_MAX], "segment"), self._keys)
        except DamageFound:
            cipher = None  # nothing of an encrypted segment can be read without its head
        for offset, header in salvage(data):
            block = by_number.get(header.number)
            if block is None:
                continue
            with suppress(BadFrame, DamageFound):
                got = Block(header, data[offset : offset + header.frame_bytes])
                frame = cipher.decrypt(name, got).frame if cipher else got.frame
                plain = self._decompressor.decompress(frame, block.size_bytes)
                expected = None if page_map is None else page_map[block.range]
                if expected is None or bool((page_hashes(plain, self._stored.page_bytes) == expected).all()):
                    whole.add(block.number)
        return whole

    def _forget(self, name: str) -> None:
        with suppress(BackupdError):
            self._store.forget_cached(name)


def _runs(blocks: list[SuperBlock]) -> list[tuple[SuperBlock, SuperBlock]]:
    """First and last block of every run of consecutive ones."""
    runs: list[tuple[SuperBlock, SuperBlock]] = []
    for block in blocks:
        if runs and runs[-1][1].number + 1 == block.number:
            runs[-1] = (runs[-1][0], block)
        else:
            runs.append((block, block))
    return runs
