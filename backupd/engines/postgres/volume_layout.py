"""Where in a volume each file lies: from a range of the volume to pieces of files, and from pages to words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backupd.engines.postgres.cluster import PAGE_BYTES
from backupd.engines.postgres.data_files import SEGMENT_BLOCKS
from backupd.engines.postgres.volume_table import Entry, Kind

_PAGES_NAMED_MAX = 10
_FORKS = {"fsm": "free space map", "vm": "visibility map", "init": "init fork"}


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one file within a range of the volume: ``start`` counts in the range, ``offset`` in the file."""

    entry: Entry
    start: int
    offset: int
    length: int


class VolumeLayout:
    """The files of a volume by their places; never changes."""

    def __init__(self, entries: Sequence[Entry], page_count: int) -> None:
        self.entries = entries
        self.page_count = page_count
        self.size_bytes = page_count * PAGE_BYTES
        self.files = [entry for entry in entries if entry.page_count]
        self._starts = [entry.first_page for entry in self.files]

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The files' bytes in that range, in order; what lies between them are zeros."""
        end = offset + length
        for entry in self._files_in(offset // PAGE_BYTES, -(-end // PAGE_BYTES)):
            first, last = max(entry.offset, offset), min(entry.offset + entry.size_bytes, end)
            if first < last:
                yield Piece(entry, first - offset, first - entry.offset, last - first)

    def relation_pages(self, first_page: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
        """Which of those pages are relations' (from 0, counted from ``first_page``), and their block numbers."""
        places = [np.empty(0, dtype=np.intp)]
        blocks = [np.empty(0, dtype=np.uint32)]
        for entry in self._files_in(first_page, first_page + count):
            if entry.kind == Kind.RELATION:
                first = max(entry.first_page, first_page)
                last = min(entry.first_page + entry.page_count, first_page + count)
                block = entry.first_block + first - entry.first_page
                places.append(np.arange(first - first_page, last - first_page, dtype=np.intp))
                blocks.append(np.arange(block, block + last - first, dtype=np.uint32))
        return np.concatenate(places), np.concatenate(blocks)

    def file_at(self, page: int) -> Entry | None:
        """The file that has that page."""
        return next(self._files_in(page, page + 1), None)

    def words(self, pages: Sequence[int]) -> str:
        """Those pages for a person: ``blocks 7 and 9 of base/5/16384``; the first few are named, the others counted."""
        by_file: dict[str, list[int]] = {}
        for page in pages[:_PAGES_NAMED_MAX]:
            entry = self.file_at(page)
            name = _file_words(entry) if entry else "the volume"
            by_file.setdefault(name, []).append(page - entry.first_page if entry else page)
        named = "; ".join(f"{_numbers(blocks)} of {name}" for name, blocks in by_file.items())
        more = len(pages) - _PAGES_NAMED_MAX
        return f"{named}; and {more} more" if more > 0 else named

    def _files_in(self, first_page: int, end_page: int) -> Iterator[Entry]:
        index = max(0, bisect_right(self._starts, first_page) - 1)
        while index < len(self.files) and self._starts[index] < end_page:
            entry = self.files[index]
            if entry.first_page + entry.page_count > first_page:
                yield entry
            index += 1


def _numbers(blocks: list[int]) -> str:
    if len(blocks) == 1:
        return f"block {blocks[0]}"
    return f"blocks {', '.join(map(str, blocks[:-1]))} and {blocks[-1]}"


def _file_words(entry: Entry) -> str:
    """The file with what a person would not see at once: the fork, and how its blocks count in the relation."""
    if entry.kind != Kind.RELATION:
        return entry.path
    fork = entry.path.rpartition("/")[2].partition("_")[2].partition(".")[0]
    facts = [_FORKS[fork]] if fork in _FORKS else []
    if entry.first_block:
        segment = entry.first_block // SEGMENT_BLOCKS
        facts.append(f"segment {segment}: block 0 of it is block {entry.first_block} of the relation")
    return f"{entry.path} ({', '.join(facts)})" if facts else entry.path
