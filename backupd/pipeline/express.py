"""An express file: which pages are stored, and where the others are in the same file of the backup before.

The map object of such a file holds, as little-endian words of 8 bytes, the
hash of each stored page, and then three words a run: its first page, the page of
the parent's file that it equals, and how many pages go on so.  What no run covers is
stored, in order.  Pages are called equal when their xxh3-64 is; a restore
checks BLAKE3 over the whole file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backupd.errors import Refused
from backupd.model.records import StoredFile
from backupd.pages import Hashes
from backupd.pipeline.container import damage
from backupd.ports import Extent

Pages = NDArray[np.int64]
STORED = -1  # in a list of the parent's pages: this one is stored here

# Above this share a full is as good, and stands on nothing.
DIFFERENT_SHARE_MAX = 0.6


class MostPagesDiffer(Refused):
    """So many pages differ from the last full that a plain full is the better backup."""


@dataclass(frozen=True, slots=True)
class PageBase:
    """The file that an express file is compared with: the hash of each of its pages, and its extents."""

    page_map: Hashes
    extents: Sequence[Extent]

    def pages_for(self, extents: Sequence[Extent], page_count: int) -> Pages:
        """For each page of a new file the page of this one that has its place; ``STORED`` where there is none."""
        before: Mapping[str, Extent] = {extent.name: extent for extent in self.extents}
        found = np.full(page_count, STORED, dtype=np.int64)
        for extent in extents:
            old = before.get(extent.name)
            if old is not None:
                count = min(extent.page_count, old.page_count)
                found[extent.first_page : extent.first_page + count] = np.arange(old.first_page, old.first_page + count)
        found[found >= len(self.page_map)] = STORED
        return found


class Selection:
    """Finds, super-block by super-block, which pages of a new file must be stored."""

    def __init__(self, base: PageBase, extents: Sequence[Extent], page_count: int) -> None:
        self.base_page_count = len(base.page_map)
        self._map = base.page_map
        self._base_pages = base.pages_for(extents, page_count)
        self.stored_pages = 0

    def changed(self, first_page: int, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of these pages are not in the base; each page of the file is asked about once."""
        places = self._base_pages[first_page : first_page + len(hashes)]
        same = places != STORED
        same[same] = self._map[places[same]] == hashes[same]
        places[~same] = STORED
        self.stored_pages += len(hashes) - int(same.sum())
        changed: NDArray[np.bool_] = ~same
        return changed

    def numbers(self) -> Pages:
        """The pages that are stored, once all were asked about."""
        return np.flatnonzero(self._base_pages == STORED)

    def runs(self) -> NDArray[np.uint64]:
        """The runs, once all were asked about: three words each."""
        return runs_of(self._base_pages)


def runs_of(base_pages: Pages) -> NDArray[np.uint64]:
    """The runs of a list of base pages: an array of (first page, base page, count)."""
    here = np.flatnonzero(base_pages != STORED)
    if not len(here):
        return np.empty((0, 3), dtype=np.uint64)
    there = base_pages[here]
    breaks = np.flatnonzero((np.diff(here) != 1) | (np.diff(there) != 1)) + 1
    starts = np.concatenate(([0], breaks))
    counts = np.diff(np.concatenate((starts, [len(here)])))
    return np.stack((here[starts], there[starts], counts), axis=1).astype(np.uint64)


@dataclass(frozen=True, slots=True)
class ExpressMap:
    """What the map object of an express file says: hashes of the stored pages, and each page's page in the base."""

    hashes: Hashes
    base_pages: Pages

    @property
    def numbers(self) -> Pages:
        """Which page of the file each stored one is."""
        return np.flatnonzero(self.base_pages == STORED)


def parse_express_map(stored: StoredFile, words: Hashes) -> ExpressMap:
    """Read the words of the map object.

    Raises:
        DamageFound: they are not those of such a file.
    """
    express = stored.express
    if express is None:
        raise ValueError(f"{stored.path} is no express file")
    hashes, flat = words[: express.stored_pages], words[express.stored_pages :]
    runs = flat.reshape(express.runs, 3).astype(np.int64)
    firsts, bases, counts = runs[:, 0], runs[:, 1], runs[:, 2]
    limit = max(stored.page_count, express.base_pages)
    sound = bool(((runs >= 0) & (runs <= limit)).all()) and bool((counts > 0).all())
    if sound and len(runs):
        ends = firsts + counts
        sound = bool((firsts[1:] >= ends[:-1]).all()) and int(ends[-1]) <= stored.page_count
        sound = sound and int((bases + counts).max()) <= express.base_pages
    if not sound or int(counts.sum()) + express.stored_pages != stored.page_count:
        raise damage(stored.map.name, "its runs are not those of such a file", file=stored.path)
    base_pages = np.full(stored.page_count, STORED, dtype=np.int64)
    if len(runs):
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        base_pages[np.repeat(firsts, counts) + within] = np.repeat(bases, counts) + within
    return ExpressMap(hashes, base_pages)


@dataclass(frozen=True, slots=True)
class Homes:
    """Where each page of an express file is stored.

    ``page_map`` are the hashes of all its pages; page ``p`` is stored page ``indexes[p]``
    of the ``holders[p]``-th of the files that it is made of, the full's first.  ``full_map`` and
    ``maps`` are what those files' own map objects say.
    """

    full_map: Hashes
    maps: Sequence[ExpressMap]
    page_map: Hashes
    holders: NDArray[np.uint16]
    indexes: NDArray[np.uint32]

    def stored_in(self, holder: int) -> tuple[Hashes, Pages | None]:
        """Of one of the files: the hash of each stored page, and of an express file which page each one is."""
        if not holder:
            return self.full_map, None
        found = self.maps[holder - 1]
        return found.hashes, found.numbers


def find_homes(files: Sequence[StoredFile], full_map: Hashes, maps: Sequence[ExpressMap]) -> Homes:
    """Walk from the full to the last express.

    Args:
        files: the full's file, and those of each express after it, in order.
        full_map: the page map of the first.
        maps: those of the others.

    Raises:
        DamageFound: they do not build on each other.
    """
    page_map = full_map
    holders = np.zeros(len(full_map), dtype=np.uint16)
    indexes = np.arange(len(full_map), dtype=np.uint32)
    for number, (file, found) in enumerate(zip(files[1:], maps, strict=True), 1):
        if file.express is None or file.express.base_pages != len(page_map) or file.page_bytes != files[0].page_bytes:
            raise damage(file.map.name, "it does not fit the backup that it builds on", file=file.path)
        old = found.base_pages != STORED
        places = found.base_pages[old]
        next_map, next_holders = np.empty(file.page_count, np.uint64), np.full(file.page_count, number, np.uint16)
        next_indexes = np.empty(file.page_count, np.uint32)
        next_map[old], next_map[~old] = page_map[places], found.hashes
        next_holders[old] = holders[places]
        next_indexes[old], next_indexes[~old] = indexes[places], np.arange(len(found.hashes), dtype=np.uint32)
        page_map, holders, indexes = next_map, next_holders, next_indexes
    return Homes(full_map, maps, page_map, holders, indexes)
