"""What each commit of a log did to the pages: rows that came and went, pages that were let go, a new schema.

A leaf of a table says in its first bytes how many rows it holds; the rows of a commit are what the
leaves that it wrote hold more than before, less those of the pages that it put on the free list
(they are not written again: the list's own pages name them).  Format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backupd.engines.sqlite.logfile import entries
from backupd.engines.sqlite.logheader import HEADER_BYTES, LogHeader
from backupd.engines.sqlite.page_owners import Owners, TreeNames
from backupd.engines.sqlite.pagemap import last_version_indexes
from backupd.engines.sqlite.schema_rows import schema_rows
from backupd.engines.sqlite.wal import FRAME_HEADER_BYTES, frame_bytes, frame_headers, pages_view

# A table WITHOUT ROWID is kept as an index is.
_TABLE_LEAF, _TABLE_INTERIOR, _INDEX_LEAF, _INDEX_INTERIOR = 13, 5, 10, 2
_FIRST_PAGE = struct.Struct(">III")  # first trunk page of the free list, its length, the schema's cookie
_FIRST_PAGE_AT = 32
_DEPTH_MAX = 20  # SQLite's own limit of a cursor

Numbers = NDArray[np.uint32]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PageChanges:
    """One commit: the pages that it wrote or let go, with their b-tree and their rows before and after it.

    It ends after ``entries`` entries of its log.  A tree is 0 where it is not known; then ``times_freed`` says how
    often the page had been let go before.  Pages that are the free list's own and were before are left out.
    """

    entries: int
    pages: Numbers
    tree_before: Numbers
    tree_after: Numbers
    rows_before: Counts
    rows_after: Counts
    times_freed: NDArray[np.int32]
    freed_pages: int
    schema_rows: int
    new_schema: bool


class PageWatch:
    """Follows the pages of one database from the state in ``path`` on, commit by commit.

    Args:
        path: the data file where the first log begins; it must stay as it is until the first ``commits`` was begun.
        owners: the tree of each page there.
        names: of the trees; it is given those that are made on the way.
        page_bytes: the size of a page.
        pages: the greatest number of pages that any log leads to.
    """

    def __init__(self, path: Path, owners: Owners, names: TreeNames, page_bytes: int, pages: int) -> None:
        self._page_bytes, self._names = page_bytes, names
        size = max(pages + 1, len(owners))
        self._rows = np.zeros(size, np.int64)
        self._trees = np.zeros(size, np.uint32)
        self._trees[: len(owners)] = owners
        self.times_freed = np.zeros(size, np.int32)
        self._free = np.zeros(size, np.bool_)
        self._trunk = self._cookie = 0
        if path.stat().st_size:
            self._look_at_base(np.memmap(path, np.uint8, "r").reshape(-1, page_bytes), owners)

    def _look_at_base(self, base: NDArray[np.uint8], owners: Owners) -> None:
        """The rows of every page that is in use; only its first bytes are read, and pages are never held."""
        owned = owners[1 : len(base) + 1] != 0
        used = np.flatnonzero(owned)
        self._free[1 : len(owned) + 1] = ~owned
        for some in np.array_split(used, max(1, len(used) >> 16)):
            heads = base[some, :5]
            heads[some == 0] = base[0, 100:105]
            self._rows[some + 1] = _rows_of(heads)
        self._trunk, _, self._cookie = _FIRST_PAGE.unpack(bytes(base[0, _FIRST_PAGE_AT : _FIRST_PAGE_AT + 12]))

    def commits(self, fd: int, header: LogHeader) -> Iterator[PageChanges]:
        """The commits of one log that carries pages, in order."""
        numbers, commits, heads = self._heads(fd, header)
        begin = 0
        for end in (np.flatnonzero(commits) + 1).tolist():
            yield self._commit(fd, begin, numbers[begin:end], heads[begin:end])
            begin = end

    def _heads(self, fd: int, header: LogHeader) -> tuple[Numbers, Numbers, NDArray[np.uint8]]:
        """Of each entry its page, its commit word and the five bytes that say what the page holds."""
        numbers, commits, heads = [], [], []
        for piece in entries(fd, header):
            frames, pages = frame_headers(piece, header.page_bytes), pages_view(piece, header.page_bytes)
            numbers.append(frames["page"].astype(np.uint32))
            commits.append(frames["commit"].astype(np.uint32))
            head = pages[:, :5].copy()
            first = np.flatnonzero(numbers[-1] == 1)
            head[first] = pages[first, 100:105]
            heads.append(head)
        return np.concatenate(numbers), np.concatenate(commits), np.concatenate(heads)

    def _commit(self, fd: int, begin: int, numbers: Numbers, heads: NDArray[np.uint8]) -> PageChanges:
        last = last_version_indexes(numbers)
        pages, heads = numbers[last], heads[last]
        place = dict(zip(pages.tolist(), (begin + last).tolist(), strict=True))
        new_schema = False
        listed: Numbers = np.empty(0, np.uint32)
        if 1 in place:
            data = self._page(fd, place[1])
            self._trunk, _, cookie = _FIRST_PAGE.unpack_from(data, _FIRST_PAGE_AT)
            new_schema, self._cookie = cookie != self._cookie, cookie
            listed = self._free_list(fd, place)
        let_go = listed[~self._free[listed]]
        own = np.isin(pages, listed) & self._free[pages]  # the free list's own business
        changed = np.concatenate([pages[~own], np.setdiff1d(let_go, pages)])
        tree_before, rows_before = self._trees[changed], self._rows[changed]
        self._rows[pages] = _rows_of(heads)
        self._rows[listed] = 0
        # The trees below the schema's own are known before those of a table that was made just now.
        for _ in range(2 if new_schema else 1):
            self._follow_children(fd, place, pages, heads)
            if new_schema:
                self._learn_roots(fd, place, pages)
        self._trees[listed] = 0
        still = np.isin(changed, listed)
        of_schema = changed[(tree_before == self._trees[1]) | (self._trees[changed] == self._trees[1])]
        schema_rows = int(self._rows[of_schema].sum() - rows_before[np.isin(changed, of_schema)].sum())
        times_freed = self.times_freed[changed]
        self.times_freed[let_go] += 1
        self._free[pages] = False
        self._free[listed] = True
        return PageChanges(
            entries=begin + len(numbers),
            pages=changed,
            tree_before=tree_before,
            tree_after=np.where(still, tree_before, self._trees[changed]),
            rows_before=rows_before,
            rows_after=self._rows[changed],
            times_freed=times_freed,
            freed_pages=len(let_go),
            schema_rows=schema_rows,
            new_schema=new_schema,
        )

    def _learn_roots(self, fd: int, place: dict[int, int], pages: Numbers) -> None:
        """A b-tree that was made: the schema's pages say where it begins. One that had a name keeps it."""
        schema = self._trees[1]
        for page in pages[self._trees[pages] == schema].tolist():
            for row in schema_rows(self._page(fd, place[page]), is_first=page == 1):
                if row.root < len(self._trees) and self._trees[row.root] == 0:
                    self._trees[row.root] = self._names.number(row.name, {row.name: row.table})

    def _follow_children(self, fd: int, place: dict[int, int], pages: Numbers, heads: NDArray[np.uint8]) -> None:
        """A page that an inner page of a tree points to belongs to that tree; from the roots down."""
        inner = pages[(heads[:, 0] == _TABLE_INTERIOR) | (heads[:, 0] == _INDEX_INTERIOR)]
        children = {page: self._children(self._page(fd, place[page]), page) for page in inner.tolist()}
        below: set[int] = set()
        for of_one in children.values():
            below.update(of_one.tolist())
        turn = [page for page in children if page not in below]  # the topmost that were written
        for _ in range(_DEPTH_MAX):
            following: list[int] = []
            for page in turn:
                if self._trees[page]:
                    self._trees[children[page]] = self._trees[page]
                following += [child for child in children[page].tolist() if child in children]
            turn = following

    def _children(self, data: bytes, page: int) -> Numbers:
        """The pages that an inner page points to."""
        start = 100 if page == 1 else 0
        raw = np.frombuffer(data, np.uint8)
        count = min(int.from_bytes(data[start + 3 : start + 5], "big"), (len(data) - start - 12) // 2)
        cells = np.frombuffer(data, ">u2", count, start + 12).astype(np.int64)
        at = np.concatenate([cells[cells <= len(data) - 4], [start + 8]])
        found = raw[at[:, None] + np.arange(4)].astype(np.uint32) @ np.array([1 << 24, 1 << 16, 1 << 8, 1], np.uint32)
        chosen: Numbers = found[(found > 1) & (found < len(self._trees))]
        return chosen

    def _free_list(self, fd: int, place: dict[int, int]) -> Numbers:
        """The pages of the free list that the trunk pages which the commit wrote name, and these themselves."""
        found: set[int] = set()
        trunk = self._trunk
        while trunk in place and trunk not in found:
            data = self._page(fd, place[trunk])
            found.add(trunk)
            following, count = struct.unpack_from(">II", data)
            count = min(count, self._page_bytes // 4 - 2)
            found.update(np.frombuffer(data, ">u4", count, 8).tolist())
            trunk = following
        return np.array(sorted(page for page in found if 0 < page < len(self._free)), np.uint32)

    def _page(self, fd: int, entry: int) -> bytes:
        offset = HEADER_BYTES + entry * frame_bytes(self._page_bytes) + FRAME_HEADER_BYTES
        return os.pread(fd, self._page_bytes, offset)


def _rows_of(heads: NDArray[np.uint8]) -> Counts:
    """How many rows pages hold, by their first five bytes; 0 for what is no page of rows."""
    kind = heads[:, 0]
    holds = (kind == _TABLE_LEAF) | (kind == _INDEX_LEAF) | (kind == _INDEX_INTERIOR)
    counts: Counts = np.where(holds, heads[:, 3].astype(np.int64) << 8 | heads[:, 4], 0)
    return counts
