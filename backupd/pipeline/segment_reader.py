"""Takes super-blocks out of one stored file's segments: a whole segment in one stream, or single ones by its table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from backupd.digests import sha256_hasher
from backupd.errors import DamageFound
from backupd.model.records import StoredFile, StoredSegment
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
from backupd.pipeline.layout import SuperBlock
from backupd.ports import ObjectStore

# Below this share of a segment's super-blocks, single blocks are read instead of the whole object.
_WHOLE_SEGMENT_SHARE = 0.5


def is_read_whole(blocks: Sequence[SuperBlock], wanted: Collection[int]) -> bool:
    """Whether the object is read in one stream, when the blocks of these numbers are wanted.

    What is wanted in one run, as by a restore that goes on, is read alone, however much it is.
    """
    if len(wanted) < len(blocks) * _WHOLE_SEGMENT_SHARE:
        return False
    return len(wanted) == len(blocks) or max(wanted) - min(wanted) + 1 != len(wanted)


class SegmentReader:
    """Reads segments of ``stored``; ``read_bytes`` counts what was read from the archive."""

    def __init__(self, stored: StoredFile, store: ObjectStore, keys: KeyFinder | None) -> None:
        self._stored, self._store, self._keys = stored, store, keys
        self.read_bytes = 0

    def take(
        self, segment: StoredSegment, blocks: Sequence[SuperBlock], wanted: Collection[int]
    ) -> Iterator[tuple[SuperBlock, Block]]:
        """The super-blocks of a segment whose numbers are wanted, in order; run it to its end, which is checked.

        Where the whole segment is read, more than is wanted may come.

        Raises:
            DamageFound: an object is not what the record says.
            ObjectMissing, ArchiveUnreachable, KeyMissing: as they say.
        """
        if not wanted:
            return
        whole = is_read_whole(blocks, wanted)
        some = blocks if whole else [block for block in blocks if block.number in wanted]
        fetched = self._whole(segment, blocks) if whole else self._single(segment, blocks, wanted)
        for block in some:
            got = next(fetched)
            self._check(segment, block, got)
            yield block, got
        # Running the iterator to its end checks seal and SHA-256.
        if next(fetched, None) is not None:
            raise damage(segment.name, "it holds more super-blocks than the record says", file=self._stored.path)

    def _check(self, segment: StoredSegment, block: SuperBlock, got: Block) -> None:
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

    def _whole(self, segment: StoredSegment, blocks: Sequence[SuperBlock]) -> Iterator[Block]:
        self.read_bytes += segment.stored_bytes
        pieces = hashed_pieces(self._store, segment.name, segment.sha256, file=self._stored.path)
        span = (blocks[0].pages[0], blocks[-1].pages[1])
        try:
            _, found = unpack_clear(segment.name, pieces, "segment", self._keys)
            count = 0
            for got in found:
                span = (blocks[min(count, len(blocks) - 1)].pages[0], span[1])
                count += 1
                yield got
            if count < len(blocks):
                raise damage(segment.name, "it holds fewer super-blocks than the record says")
        except DamageFound as problem:
            raise damage(segment.name, problem.because, file=self._stored.path, pages=span) from problem

    def _single(self, segment: StoredSegment, blocks: Sequence[SuperBlock], wanted: Collection[int]) -> Iterator[Block]:
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


def expand(
    decompressor: Decompressor, got: Block, block: SuperBlock, *, page_map: Hashes | None, stored: StoredFile, name: str
) -> bytes:
    """The plain pages of a fetched super-block, each checked against the page map if there is one.

    Raises:
        DamageFound: naming the file and the pages.
    """
    try:
        plain = decompressor.decompress(got.frame, block.size_bytes)
    except BadFrame as problem:
        raise damage(name, str(problem), file=stored.path, pages=block.pages) from problem
    if page_map is None:
        return plain
    expected = page_map[block.range]
    bad = np.flatnonzero(page_hashes(plain, stored.page_bytes) != expected)
    if len(bad):
        first = block.first_page
        pages = block.pages if block.span else (first + int(bad[0]), first + int(bad[-1]))
        raise damage(name, "pages are not those of the page map", file=stored.path, pages=pages)
    return plain
