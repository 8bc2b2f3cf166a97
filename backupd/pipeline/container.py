"""The container that every data object is: head, blocks, table, seal, all of it a valid zstd stream.

Skippable frames (RFC 8878, 3.1.2) carry what is ours, ordinary frames carry the
content, so ``zstd -dc OBJECT`` gives the content and ignores the rest::

    head    skippable: "BKDH" + JSON that names the object itself
    block*  skippable: "BKD1" + 28 bytes (which pages, how long), then one zstd frame
    table   skippable: "BKDT" + one row a block; lets a reader take single blocks
    seal    skippable: "BKDE" + length of the table + BLAKE3 of every byte before this frame

The seal makes an object prove itself when the record that knew its SHA-256 is
lost; a flip in a bit that zstd ignores is found too.  archive/FORMAT.md has the
bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from backupd.digests import BytesLike, blake3_hasher
from backupd.errors import DamageFound

_FRAME = struct.Struct("<II")
_MAGIC = 0x184D2A50
_ZSTD_MAGIC = 0xFD2FB528
_BLOCK = struct.Struct("<IIIQII")
_ROW = struct.Struct("<IIIQIIQ")
_SEAL = struct.Struct("<4sI32s")
SEAL_BYTES = _FRAME.size + _SEAL.size
_BLOCK_HEAD_BYTES = _FRAME.size + 4 + _BLOCK.size
_PART_BYTES_MAX = 1 << 28
_FRAME_SPARE_BYTES = 1 << 12
HEAD_BYTES_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What the frame after it holds: ``page_count`` pages of file ``file_number``, ``first_page`` (from 0) on.

    Logs and maps count no pages; their blocks are numbered and hold ``plain_bytes``.
    """

    number: int
    file_number: int
    page_count: int
    first_page: int
    plain_bytes: int
    frame_bytes: int

    def packed(self) -> bytes:
        """The 28 bytes of the block's header."""
        return _BLOCK.pack(
            self.number, self.file_number, self.page_count, self.first_page, self.plain_bytes, self.frame_bytes
        )


@dataclass(frozen=True, slots=True)
class Block:
    """A header and its zstd frame."""

    header: BlockHeader
    frame: bytes


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: a block's header and where its header frame begins in the object."""

    header: BlockHeader
    offset: int

    @property
    def length(self) -> int:
        """Bytes of the header frame and the zstd frame together."""
        return _BLOCK_HEAD_BYTES + self.header.frame_bytes


def damage(object_name: str, because: str, *, file: str = "", pages: tuple[int, int] | None = None) -> DamageFound:
    """The error that names a damaged object, the file that it is about, and the pages (from 0, both ends inside)."""
    where = f" (file {file}" + (f", pages {pages[0]} to {pages[1]})" if pages else ")") if file else ""
    details: dict[str, Any] = {"object": object_name, "file": file}
    if pages:
        details |= {"first_page": pages[0], "last_page": pages[1]}
    return DamageFound(
        f"damage in the archive's object {object_name}{where}",
        because=because,
        next_step="see how far it goes with `backupctl verify --level data`, and restore from a backup that is whole",
        **details,
    )


def head_of(object_name: str, kind: str, repository: str, **facts: object) -> bytes:
    """The head's JSON: canonical, and naming the object so that a swap is seen."""
    return canonical({"kind": kind, "object": object_name, "repository": repository, **facts})


def canonical(head: dict[str, Any]) -> bytes:
    """A head as bytes; equal heads are equal bytes."""
    return json.dumps(head, sort_keys=True, separators=(",", ":")).encode()


def _skippable(tag: bytes, payload: bytes) -> bytes:
    return _FRAME.pack(_MAGIC, len(tag) + len(payload)) + tag + payload


def pack(head: bytes, blocks: Iterable[Block]) -> Iterator[bytes]:
    """The container's bytes in pieces; a block is asked for only when the one before it was taken."""
    sealed = blake3_hasher()
    rows: list[bytes] = []
    piece = _skippable(b"BKDH", head)
    sealed.update(piece)
    offset = len(piece)
    yield piece
    for block in blocks:
        rows.append(block.header.packed() + offset.to_bytes(8, "little"))
        piece = _skippable(b"BKD1", block.header.packed())
        sealed.update(piece)
        sealed.update(block.frame)
        offset += len(piece) + len(block.frame)
        yield piece
        yield block.frame
    table = _skippable(b"BKDT", b"".join(rows))
    sealed.update(table)
    yield table
    yield _FRAME.pack(_MAGIC, _SEAL.size) + _SEAL.pack(b"BKDE", len(table), sealed.digest())


class _Pieces:
    """Takes exact numbers of bytes out of an iterator of pieces."""

    def __init__(self, pieces: Iterable[bytes], object_name: str) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._rest = memoryview(b"")
        self._name = object_name

    def take(self, count: int) -> bytes:
        if len(self._rest) >= count:
            taken, self._rest = self._rest[:count], self._rest[count:]
            return bytes(taken)
        parts: list[BytesLike] = []
        while count:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    raise damage(self._name, "the object ends too early")
                self._rest = memoryview(piece)
            part = self._rest[:count]
            self._rest = self._rest[count:]
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def must_be_empty(self) -> None:
        if self._rest or any(self._pieces):
            raise damage(self._name, "there are bytes after the seal")


def unpack(object_name: str, pieces: Iterable[bytes], kind: str) -> tuple[dict[str, Any], Iterator[Block]]:
    """The head, and the blocks one after the other; the seal is checked when the last block was taken.

    Whoever does not take all blocks has checked nothing.

    Raises:
        DamageFound: the head is another object's or not readable; from the iterator: anything off further on.
    """
    source = _Pieces(pieces, object_name)
    sealed = blake3_hasher()
    head = _head(object_name, source, sealed, kind)
    return head, _blocks(source, sealed, object_name)


def read_head(object_name: str, start: bytes, kind: str) -> dict[str, Any]:
    """The head of an object from its first bytes, ``HEAD_BYTES_MAX`` or all that it has. Raises DamageFound."""
    return _head(object_name, _Pieces([start], object_name), blake3_hasher(), kind)


def _head(object_name: str, source: _Pieces, sealed: Any, kind: str) -> dict[str, Any]:
    tag, payload = _take_skippable(source, sealed, object_name)
    if tag != b"BKDH":
        raise damage(object_name, "it does not begin with a head")
    try:
        head: dict[str, Any] = json.loads(payload)
        named, its_kind = head["object"], head["kind"]
    except (ValueError, KeyError, TypeError):
        raise damage(object_name, "its head is not readable") from None
    if named != object_name or its_kind != kind:
        raise damage(object_name, f"these are the bytes of another object: {its_kind} {named}")
    return head


def _take_skippable(source: _Pieces, sealed: Any, object_name: str) -> tuple[bytes, bytes]:
    frame = source.take(_FRAME.size)
    magic, length = _FRAME.unpack(frame)
    if magic != _MAGIC or not 4 <= length <= _PART_BYTES_MAX:
        raise damage(object_name, "a frame header is not what it must be")
    payload = source.take(length)
    if payload[:4] != b"BKDE":
        sealed.update(frame)
        sealed.update(payload)
    return payload[:4], payload[4:]


def _blocks(source: _Pieces, sealed: Any, object_name: str) -> Iterator[Block]:
    table: bytes | None = None
    while True:
        tag, payload = _take_skippable(source, sealed, object_name)
        if tag == b"BKD1" and len(payload) == _BLOCK.size and table is None:
            header = BlockHeader(*_BLOCK.unpack(payload))
            _check_bounds(object_name, header)
            frame = source.take(header.frame_bytes)
            sealed.update(frame)
            yield Block(header, frame)
        elif tag == b"BKDT" and table is None:
            table = payload
        elif tag == b"BKDE" and len(payload) == _SEAL.size - 4 and table is not None:
            if payload[4:] != sealed.digest():
                raise damage(object_name, "its bytes are not those that its seal was made of")
            if int.from_bytes(payload[:4], "little") != _FRAME.size + 4 + len(table):
                raise damage(object_name, "its seal gives a wrong length of the table")
            source.must_be_empty()
            return
        else:
            raise damage(object_name, "a frame is not what it must be")


def _check_bounds(object_name: str, header: BlockHeader) -> None:
    """A frame is never much longer than its content: so much is read into memory at once."""
    longest = header.plain_bytes + (header.plain_bytes >> 4) + _FRAME_SPARE_BYTES
    if not 4 <= header.frame_bytes <= min(longest, _PART_BYTES_MAX):
        raise damage(object_name, "a block header is not what it must be")


def read_table(object_name: str, tail: bytes) -> list[Row]:
    """The rows of the table, from the last bytes of an object (``table_bytes_max`` says how many are enough).

    Raises:
        DamageFound: the tail is not a table and a seal.
    """
    seal = tail[-SEAL_BYTES:]
    if len(seal) < SEAL_BYTES or seal[:12] != _FRAME.pack(_MAGIC, _SEAL.size) + b"BKDE":
        raise damage(object_name, "it does not end with a seal")
    _, table_bytes, _ = _SEAL.unpack(seal[_FRAME.size :])
    table = tail[-SEAL_BYTES - table_bytes : -SEAL_BYTES]
    rows = table[_FRAME.size + 4 :]
    if len(table) != table_bytes or table[8:12] != b"BKDT" or len(rows) % _ROW.size:
        raise damage(object_name, "its table is not what it must be")
    found = [Row(BlockHeader(*row[:6]), row[6]) for row in _ROW.iter_unpack(rows)]
    for row in found:
        _check_bounds(object_name, row.header)
    return found


def table_bytes_max(block_count: int) -> int:
    """How many bytes of the tail hold table and seal when there are ``block_count`` blocks."""
    return _FRAME.size + 4 + block_count * _ROW.size + SEAL_BYTES


def parse_block(object_name: str, row: Row, data: bytes) -> Block:
    """The block that ``row`` points to, out of its own bytes. Raises DamageFound."""
    head = _skippable(b"BKD1", row.header.packed())
    if len(data) != row.length or data[: len(head)] != head:
        raise damage(object_name, "a block is not the one that the table names")
    return Block(row.header, data[len(head) :])


def salvage(data: bytes) -> Iterator[tuple[int, BlockHeader]]:
    """Offsets and headers of everything in ``data`` that still looks like a block; for naming what is damaged."""
    marker = _FRAME.pack(_MAGIC, 4 + _BLOCK.size) + b"BKD1"
    at = data.find(marker)
    while at >= 0:
        packed = data[at + len(marker) : at + len(marker) + _BLOCK.size]
        if len(packed) == _BLOCK.size:
            yield at + len(marker) + _BLOCK.size, BlockHeader(*_BLOCK.unpack(packed))
        at = data.find(marker, at + 1)
