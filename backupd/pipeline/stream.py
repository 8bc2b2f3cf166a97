"""Plain streams as containers: log files and page maps, a block for each MiB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from backupd.errors import NotHealthy
from backupd.pages import Hashes
from backupd.pipeline.cipher import KeyFinder, ObjectCipher, unpack_clear
from backupd.pipeline.compress import DEFAULT_LEVEL, BadFrame, Compressor, Decompressor
from backupd.pipeline.container import Block, BlockHeader, damage, pack

_BLOCK_BYTES = 1 << 20


def pack_stream(
    head: bytes, plain: Iterable[bytes], level: int = DEFAULT_LEVEL, cipher: ObjectCipher | None = None
) -> Iterator[bytes]:
    """The container of ``plain``, whose pieces become blocks as they are (give pieces of about 1 MiB)."""
    blocks = _blocks(plain, Compressor(level))
    return pack(head, cipher.encrypt(blocks) if cipher else blocks)


def _blocks(plain: Iterable[bytes], compressor: Compressor) -> Iterator[Block]:
    for number, piece in enumerate(plain):
        frame = compressor.compress(piece)
        yield Block(BlockHeader(number, 0, 0, 0, len(piece), len(frame)), frame)


def unpack_stream(
    object_name: str, pieces: Iterable[bytes], kind: str, keys: KeyFinder | None = None
) -> tuple[dict[str, Any], Iterator[bytes]]:
    """The head and the plain pieces; whole and sound once the iterator has ended.

    Raises:
        DamageFound: at once, or from the iterator.
        KeyMissing: it is encrypted, and none of ``keys`` opens it.
    """
    head, blocks = unpack_clear(object_name, pieces, kind, keys)
    return head, expand_stream(object_name, blocks)


def expand_stream(object_name: str, blocks: Iterator[Block]) -> Iterator[bytes]:
    """The plain pieces of blocks whose frames are in clear. Raises DamageFound."""
    decompressor = Decompressor()
    for number, block in enumerate(blocks):
        if block.header.number != number:
            raise damage(object_name, f"block {block.header.number} stands where block {number} belongs")
        try:
            yield decompressor.decompress(block.frame, block.header.plain_bytes)
        except BadFrame as problem:
            raise damage(object_name, str(problem)) from problem


def file_pieces(path: Path) -> Iterator[bytes]:
    """The file's bytes in pieces of 1 MiB.

    Raises:
        NotHealthy: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            while piece := file.read(_BLOCK_BYTES):
                yield piece
    except OSError as problem:
        raise NotHealthy(
            f"cannot read {path}",
            because=problem.strerror or str(problem),
            next_step=f"look at the file and its disk: ls -l {path}",
        ) from problem


def map_pieces(hashes: Hashes) -> Iterator[bytes]:
    """A page map as bytes, little endian, in pieces of 1 MiB."""
    count = _BLOCK_BYTES // 8
    for start in range(0, len(hashes), count):
        yield hashes[start : start + count].astype("<u8", copy=False).tobytes()


def read_map(object_name: str, pieces: Iterable[bytes], page_count: int, keys: KeyFinder | None = None) -> Hashes:
    """The page map in the object ``object_name``: one hash a page.

    Raises:
        DamageFound: the object is damaged, or holds another number of pages.
        KeyMissing: it is encrypted, and none of ``keys`` opens it.
    """
    _, plain = unpack_stream(object_name, pieces, "map", keys)
    hashes = np.empty(page_count, dtype=np.uint64)
    filled = 0
    for piece in plain:
        part = np.frombuffer(piece, dtype="<u8") if len(piece) % 8 == 0 else None
        if part is None or filled + len(part) > page_count:
            raise damage(object_name, f"it does not hold {page_count} hashes")
        hashes[filled : filled + len(part)] = part
        filled += len(part)
    if filled != page_count:
        raise damage(object_name, f"it holds {filled} hashes, {page_count} were expected")
    return hashes
