"""Hashes of pages, and one rolling checksum over all pages of a file.

The **page hash** is xxh3-64 of the page's bytes.  The **rolling checksum** of a
file is the XOR, over its pages, of ``mix(hash, page number)``: a changed page
is taken out and put in again without reading the others, so the checksum after
a log file costs only the pages in it (the idea is LiteFS's, see
reference/sqlite.md, section 2).  Page numbers count from 1, as SQLite's do.

SQLite's **lock page** (the page that holds byte 2**30, see
https://www.sqlite.org/fileformat2.html#lockbyte) carries no data and never
appears in a WAL: in a map its hash is 0, and it is left out of the checksum.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

Hashes = NDArray[np.uint64]
Block = bytes | bytearray | memoryview

LOCK_BYTE = 1 << 30

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def lock_page_number(page_bytes: int) -> int:
    """The number (from 1) of the page that SQLite never writes."""
    return LOCK_BYTE // page_bytes + 1


def page_hashes(block: Block, page_bytes: int, first_page: int | None = None) -> Hashes:
    """The hash of each page of ``block``, whose length must be a multiple of ``page_bytes``.

    With ``first_page`` (from 1) the block is a piece of an SQLite file that
    begins there, and its lock page, if inside, gets the hash 0.

    Raises:
        ValueError: the block ends within a page.
    """
    view = memoryview(block)
    if view.nbytes % page_bytes:
        raise ValueError(f"{view.nbytes} bytes are not whole pages of {page_bytes}")
    found = [xxh3_64_intdigest(view[at : at + page_bytes]) for at in range(0, view.nbytes, page_bytes)]
    hashes = np.fromiter(found, np.uint64, len(found))
    if first_page is not None:
        lock_index = lock_page_number(page_bytes) - first_page
        if 0 <= lock_index < len(hashes):
            hashes[lock_index] = 0
    return hashes


def filled_runs(view: memoryview, page_bytes: int) -> Iterator[tuple[int, int]]:
    """The runs of pages that are not all zeros, as byte ranges; a part of a page at the end counts as filled.

    ``page_bytes`` is a multiple of 8.
    """
    whole = len(view) // page_bytes
    words = np.frombuffer(view, dtype=np.uint64, count=whole * page_bytes // 8)
    rows = words.reshape(whole, page_bytes // 8)
    filled = rows[:, 0] != 0  # nearly every page that is filled begins with something
    empty_begun = np.flatnonzero(~filled)
    filled[empty_begun] = rows[empty_begun].any(axis=1)
    edges = np.flatnonzero(np.diff(filled, prepend=False, append=len(view) > whole * page_bytes))
    ends = [*(edges * page_bytes).tolist(), len(view)]
    yield from zip(ends[::2], ends[1::2], strict=False)


def mix(hashes: Hashes, pages: int | NDArray[np.integer]) -> Hashes:
    """What each page puts into the rolling checksum.

    ``pages`` is the number (from 1) of the first of consecutive pages, or the
    number of each page.  The finalizer is that of splitmix64, so two pages that
    swap places, or two equal pages, do not cancel out.
    """
    if isinstance(pages, int):
        numbers = np.arange(pages, pages + len(hashes), dtype=np.uint64)
    else:
        numbers = pages.astype(np.uint64)
    numbers *= _GOLDEN
    numbers ^= hashes
    numbers ^= numbers >> np.uint64(30)
    numbers *= _MIX_1
    numbers ^= numbers >> np.uint64(27)
    numbers *= _MIX_2
    numbers ^= numbers >> np.uint64(31)
    return numbers


def xor_of(values: Hashes) -> int:
    """All values XORed into one; 0 for none."""
    return int(np.bitwise_xor.reduce(values)) if len(values) else 0


def rolling_checksum(page_map: Hashes, page_bytes: int) -> int:
    """The checksum of a whole file from the hashes of all its pages, the lock page left out."""
    checksum = 0
    lock_index = lock_page_number(page_bytes) - 1
    for start in range(0, len(page_map), 1 << 16):
        part = page_map[start : start + (1 << 16)]
        mixed = mix(part, start + 1)
        if start <= lock_index < start + len(part):
            mixed[lock_index - start] = 0
        checksum ^= xor_of(mixed)
    return checksum
