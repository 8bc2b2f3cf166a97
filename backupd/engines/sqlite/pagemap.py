"""The map of a database: one 8-byte hash a page, and the rolling checksum that a log leads to.

A log file is applied to the map without reading the database: the last version
of each page counts, pages beyond the last commit's size are dead (VACUUM), and
the checksum changes only by the pages that changed.  Beside a copy the map lies
in a file: 64-byte header, the hashes little endian, blake3 of both.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backupd.digests import blake3_hasher
from backupd.durable import sync_directory
from backupd.engines.sqlite.logfile import entries, read_pieces
from backupd.engines.sqlite.logheader import LogHeader, unwritable
from backupd.engines.sqlite.wal import frame_headers, pages_view
from backupd.errors import DamageFound, NotFound
from backupd.pages import Block, Hashes, lock_page_number, mix, page_hashes, rolling_checksum, xor_of
from backupd.steps import step

Numbers = NDArray[np.uint32]

_HEADER = struct.Struct("<8s8sQIIQ24x")  # magic, history, number, page size, pages, checksum
_MAGIC = b"BKDPMAP1"
_PIECE_BYTES = 1 << 20
# Page versions that are kept before older versions of the same page are dropped.
_VERSIONS_KEPT = 1 << 18


class Changes:
    """Which pages a log changes, and the hash of the last version of each; fed in the log's order."""

    def __init__(self, page_bytes: int) -> None:
        self.page_bytes = page_bytes
        self._numbers: list[Numbers] = []
        self._hashes: list[Hashes] = []
        self._count = 0
        self._compact_at = _VERSIONS_KEPT

    def add(self, frames: Block) -> None:
        """Take the next entries of a FRAMES or DELTA log (also straight from a WAL) in."""
        numbers = frame_headers(frames, self.page_bytes)["page"].astype(np.uint32)
        pages = np.ascontiguousarray(pages_view(frames, self.page_bytes))
        self.add_pages(numbers, page_hashes(pages.data.cast("B"), self.page_bytes))

    def add_pages(self, numbers: Numbers, hashes: Hashes) -> None:
        """Take pages in whose hashes are known."""
        self._numbers.append(numbers)
        self._hashes.append(hashes)
        self._count += len(numbers)
        if self._count >= self._compact_at:
            last_numbers, last_hashes = self.last_versions(0xFFFFFFFF)
            self._numbers, self._hashes, self._count = [last_numbers], [last_hashes], len(last_numbers)
            self._compact_at = max(_VERSIONS_KEPT, 2 * self._count)

    def last_versions(self, pages_after: int) -> tuple[Numbers, Hashes]:
        """The last version of each page not beyond ``pages_after``, by page number; without the lock page."""
        if not self._numbers:
            return np.empty(0, np.uint32), np.empty(0, np.uint64)
        numbers, hashes = np.concatenate(self._numbers), np.concatenate(self._hashes)
        last = last_version_indexes(numbers)
        last = last[(numbers[last] <= pages_after) & (numbers[last] != lock_page_number(self.page_bytes))]
        return numbers[last], hashes[last]

    def clear(self) -> None:
        """Forget everything: the next log begins."""
        self._numbers, self._hashes, self._count = [], [], 0
        self._compact_at = _VERSIONS_KEPT


def last_version_indexes(numbers: Numbers) -> NDArray[np.int64]:
    """For each page, in order of its number, the index of its last version."""
    _, from_end = np.unique(numbers[::-1], return_index=True)
    indexes: NDArray[np.int64] = len(numbers) - 1 - from_end
    return indexes


class PageMap:
    """The hashes of all pages of one database and their checksum; grows and shrinks with it."""

    def __init__(self, page_bytes: int, hashes: Hashes | None = None) -> None:
        self.page_bytes = page_bytes
        self._store = np.zeros(0, np.uint64) if hashes is None else hashes
        self.pages = len(self._store)
        self.checksum = rolling_checksum(self._store, page_bytes)

    @property
    def hashes(self) -> Hashes:
        """One hash a page; a view, valid until the map changes."""
        return self._store[: self.pages]

    @classmethod
    def of_file(cls, path: Path, page_bytes: int) -> PageMap:
        """Hash all pages of a database file; a torn page at its end is not counted. Raises OSError."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            count = os.fstat(fd).st_size // page_bytes
            hashes = np.empty(count, np.uint64)
            done = 0
            for piece in read_pieces(fd, 0, count * page_bytes, max(_PIECE_BYTES, page_bytes)):
                some = page_hashes(piece, page_bytes, done + 1)
                hashes[done : done + len(some)] = some
                done += len(some)
        finally:
            os.close(fd)
        return cls(page_bytes, hashes)

    def copy(self) -> PageMap:
        """A map of its own."""
        twin = PageMap(self.page_bytes)
        twin._store, twin.pages, twin.checksum = self.hashes.copy(), self.pages, self.checksum
        return twin

    def _sum(self, first: int, last: int) -> int:
        """What pages ``first`` to ``last`` put into the checksum."""
        part = mix(self._store[first - 1 : last], first)
        lock_index = lock_page_number(self.page_bytes) - first
        if 0 <= lock_index < len(part):
            part[lock_index] = 0
        return xor_of(part)

    def plan(self, changes: Changes, pages_after: int) -> int:
        """The checksum after ``changes`` and a size of ``pages_after``; the map stays as it is."""
        return self._checksum_after(*changes.last_versions(pages_after), pages_after)

    def _checksum_after(self, numbers: Numbers, hashes: Hashes, pages_after: int) -> int:
        checksum = self.checksum
        if pages_after < self.pages:
            checksum ^= self._sum(pages_after + 1, self.pages)
        replaced = numbers[numbers <= min(self.pages, pages_after)]
        checksum ^= xor_of(mix(self._store[replaced.astype(np.int64) - 1], replaced))
        return checksum ^ xor_of(mix(hashes, numbers)) ^ self._holes(numbers, pages_after)

    def _holes(self, numbers: Numbers, pages_after: int) -> int:
        """What pages put in by which the file grows without their being written: they read as zeros, hash 0 here."""
        grown = max(0, pages_after - self.pages)
        written = int(np.count_nonzero(numbers > self.pages))
        lock_page = lock_page_number(self.page_bytes)
        if grown == written + int(self.pages < lock_page <= pages_after):
            return 0
        missing = np.setdiff1d(np.arange(self.pages + 1, pages_after + 1, dtype=np.uint32), numbers)
        missing = missing[missing != lock_page]
        return xor_of(mix(np.zeros(len(missing), np.uint64), missing))

    def apply(self, changes: Changes, pages_after: int) -> int:
        """Bring the map to the state after ``changes``; answers with its checksum."""
        numbers, hashes = changes.last_versions(pages_after)
        self.checksum = self._checksum_after(numbers, hashes, pages_after)
        if pages_after > len(self._store):
            grown = np.zeros(max(pages_after, len(self._store) + (len(self._store) >> 3)), np.uint64)
            grown[: self.pages] = self.hashes
            self._store = grown
        elif pages_after > self.pages:
            self._store[self.pages : pages_after] = 0
        self._store[numbers.astype(np.int64) - 1] = hashes
        self.pages = pages_after
        return self.checksum

    def save(self, path: Path, history: str, number: int, *, durable: bool = True) -> None:
        """Write the map, as it is after log ``number`` of ``history``, in place of the file at ``path``.

        Raises:
            NotHealthy: the disk is full or refuses; the old file stays.
        """
        header = _HEADER.pack(_MAGIC, bytes.fromhex(history), number, self.page_bytes, self.pages, self.checksum)
        hashes = self.hashes.astype("<u8", copy=False).data.cast("B")
        digest = blake3_hasher()
        digest.update(header)
        digest.update(hashes)
        tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        step("pagemap.save")
        try:
            with open(tmp, "wb", opener=_private) as file:
                file.writelines((header, hashes, digest.digest()))
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.rename(tmp, path)
            if durable:
                sync_directory(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                tmp.unlink()
            raise unwritable(path, error) from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


@dataclass(frozen=True, slots=True)
class SavedMap:
    """A map as it was saved: the state after log ``number`` of ``history``."""

    history: str
    number: int
    map: PageMap


def load_map(path: Path) -> SavedMap:
    """Read a saved map back.

    Raises:
        NotFound: there is none.
        DamageFound: it is not what was saved; the database file can be hashed again instead.
    """
    try:
        data = memoryview(bytearray(path.read_bytes()))
    except FileNotFoundError:
        raise NotFound(
            f"no page map at {path}", because="it was never saved", next_step="restart the backupd service"
        ) from None
    digest = blake3_hasher()
    digest.update(data[:-32])
    if len(data) < _HEADER.size + 32 or digest.digest() != data[-32:] or data[:8] != _MAGIC:
        raise DamageFound(
            f"the page map {path} is damaged",
            because="its digest does not match",
            next_step=f"rm {path} (the map is made again from the database file)",
        )
    _, history, number, page_bytes, _, _ = _HEADER.unpack_from(data)
    hashes = np.frombuffer(data[_HEADER.size : -32], dtype="<u8").astype(np.uint64, copy=False)
    return SavedMap(history.hex(), number, PageMap(page_bytes, hashes))


def log_changes(path: Path, header: LogHeader) -> Changes:
    """What a FRAMES or DELTA log file changes; streams the file. Raises DamageFound or OSError."""
    changes = Changes(header.page_bytes)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for piece in entries(fd, header):
            changes.add(piece)
    finally:
        os.close(fd)
    return changes


def roll_forward(page_map: PageMap, path: Path, header: LogHeader) -> int:
    """Bring ``page_map`` to the state after one log file of any kind; answers with its checksum."""
    if header.kind.has_pages:
        return page_map.apply(log_changes(path, header), header.pages_after)
    return page_map.checksum
