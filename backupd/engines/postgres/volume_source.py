"""A cluster's files as one file of pages, with the judgement whether each page of a relation is what it must be.

From a *frozen* cluster a page with a wrong checksum is a fact: nobody writes.
From a *moving* one (replay runs on) it may have been read while it was written:
see ``settling``.  What vanished or shrank there was removed by log that the
restore replays: those pages are stored as zeros, and the table knows the smaller
size.  What grew, grew by log too: the size is that of the beginning.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from backupd.engines.postgres.cluster import PAGE_BYTES, VOLUME
from backupd.engines.postgres.data_files import ClusterFiles, real_path, unreadable
from backupd.engines.postgres.descriptors import Descriptors
from backupd.engines.postgres.measure import Measured, hold_small_files, measure, whole_pages
from backupd.engines.postgres.page_checksum import as_pages, bad_pages
from backupd.engines.postgres.settling import Moving, Settling
from backupd.engines.postgres.volume_layout import Piece, VolumeLayout
from backupd.engines.postgres.volume_table import ClusterFacts, Entry, Kind, VolumeTable, lay_out
from backupd.engines.uncached_reads import UncachedReads
from backupd.errors import FreezeBroken, NotHealthy
from backupd.pages import Hashes
from backupd.ports import Extent
from backupd.steps import step

BLOCK_BYTES = 4 << 20  # the page check is numpy, which costs a call's price for each step: see the figures in the log
_BIG_FILE_BYTES = 1 << 20  # a smaller one leaves the page cache when it was read, and not when its range was


@dataclass(frozen=True, slots=True)
class PagesChecked:
    """How the relations' pages were.

    ``accepted_pages`` were written while they were read and come from the log,
    ``reread_pages`` became right; without data checksums all are
    ``unchecked_pages``: only their headers were looked at.
    """

    relation_pages: int
    unchecked_pages: int
    accepted_pages: int
    reread_pages: int
    notes: tuple[str, ...]


class VolumeSource:
    """See ``ports.PageSource``.

    Args:
        files: what was found on the live copy, while it was frozen if it was.
        roots: where the files are read: ``files.roots(directories of the snapshots)``.
        data_checksums: whether the cluster has them.
        moving: None for a frozen cluster.

    Raises (constructor):
        DamageFound: a relation's file does not end with a page, in a frozen cluster.
        FreezeBroken: a file has not the size that it was found with, in a frozen cluster.
        NotHealthy: a file cannot be read.
    """

    name = VOLUME
    page_bytes = PAGE_BYTES
    block_bytes = BLOCK_BYTES

    def __init__(
        self, files: ClusterFiles, roots: Mapping[str, Path], *, data_checksums: bool, moving: Moving | None = None
    ) -> None:
        step("pg.pages.measure")
        self._roots = dict(roots)
        self._checksums = data_checksums
        self._settling = Settling(moving, self._read_page, self._wrong) if moving else None
        self._held: dict[str, bytes] = {}
        self._measured: Measured | None = None
        entries = files.entries
        if moving:
            self._held = hold_small_files(entries, self._roots)
            entries = whole_pages(entries, self._held)
        else:
            self._measured = measure(entries, self._roots)
            entries = self._measured.entries
        self._layout = VolumeLayout(*lay_out(entries))
        self.page_count = self._layout.page_count
        self.size_bytes = self._layout.size_bytes
        self._relations = [entry for entry in self._layout.files if entry.kind == Kind.RELATION]
        self.expected_relation_pages = sum(entry.page_count for entry in self._relations)
        self._descriptors = Descriptors(self._open)
        self._reads = UncachedReads()
        self._lock = threading.Lock()
        self._ends: dict[str, int] = {}  # how far each file of a moving cluster could be read
        self._seen = np.zeros(self.page_count, dtype=np.bool_)

    def read_into(self, view: memoryview, offset: int) -> None:
        """See ``ports.PageSource``; pages of a moving cluster have settled when this returns."""
        self._fill(view, offset)
        if self._settling:
            self._settling.settle(offset // PAGE_BYTES, view)

    def bad_pages(self, first_page: int, pages: memoryview, hashes: Hashes) -> Sequence[int]:  # noqa: ARG002
        """See ``ports.PageSource``; a page of PostgreSQL carries its own checksum, and needs no hash."""
        count = len(pages) // PAGE_BYTES
        bad = self._settling.bad(first_page, count) if self._settling else self._wrong(first_page, pages)
        self._seen[first_page : first_page + count] = True
        return bad

    def extents(self) -> Sequence[Extent]:
        """See ``ports.PageSource``: each file by its path, for its place in the volume may be another one next time."""
        return tuple(Extent(it.path, it.first_page, it.page_count) for it in self._layout.files)

    def words(self, pages: Sequence[int]) -> str:
        """See ``ports.PageSource``: ``block 7 of base/5/16384``."""
        return self._layout.words(pages)

    def forget(self, offset: int, length: int) -> None:
        """See ``ports.PageSource``."""
        for piece in self._layout.pieces(offset, length):
            if piece.entry.size_bytes >= _BIG_FILE_BYTES:
                with suppress(OSError), self._descriptors.use(piece.entry.path) as descriptor:
                    self._reads.forget(descriptor, piece.offset, piece.length)

    def close(self) -> None:
        """See ``ports.PageSource``."""
        self._descriptors.close()

    def checked_relation_pages(self) -> int:
        """How many pages of relations ``bad_pages`` was asked about."""
        return sum(int(self._seen[it.first_page : it.first_page + it.page_count].sum()) for it in self._relations)

    def finish(self) -> PagesChecked:
        """Whether every page that there is was judged; call it when all were read.

        Raises:
            NotHealthy: pages were left out.
            FreezeBroken: a file of a frozen cluster was written meanwhile.
        """
        checked = self.checked_relation_pages()
        if checked != self.expected_relation_pages:
            raise NotHealthy(
                "not every page of the cluster was checked",
                because=f"{checked} pages of relations were, and there are {self.expected_relation_pages}",
                next_step="run the backup again; if it stays so, it is a bug of backupd",
            )
        # Without checksums a standby's readers may set hint bits, and the server writes them; they do no harm.
        if self._measured and self._checksums:
            self._measured.check_unchanged(self._roots)
        accepted, reread = (self._settling.accepted_pages, self._settling.reread_pages) if self._settling else (0, 0)
        unchecked = 0 if self._checksums else checked
        return PagesChecked(checked, unchecked, accepted, reread, tuple(self._notes(accepted)))

    def table(self, facts: ClusterFacts) -> VolumeTable:
        """The table of what was read; complete when all was."""
        kept = []
        for entry in self._layout.entries:
            end = self._end(entry)
            if end == entry.size_bytes:
                kept.append(entry)
            elif end:
                kept.append(replace(entry, size_bytes=end))
        return VolumeTable(facts, tuple(kept), self.page_count)

    def _end(self, entry: Entry) -> int:
        """How much of the file there was; 0 for one that had vanished."""
        if not self._settling or entry.path in self._held:
            return entry.size_bytes
        return self._ends.get(entry.path, 0)

    def _notes(self, accepted: int) -> Iterator[str]:
        shrunk = [entry.path for entry in self._layout.files if self._end(entry) < entry.size_bytes]
        if shrunk:
            yield f"files that shrank or vanished while they were read: {len(shrunk)}, first {shrunk[0]}"
        if accepted:
            yield f"pages that were written while they were read, and come from the log: {accepted}"
        if self._measured:
            yield from self._measured.notes
        if not self._checksums:
            yield "the pages are unchecked: the cluster has no data checksums"

    def _open(self, path: str) -> int:
        return os.open(real_path(path, self._roots), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def _read_page(self, page: int, place: memoryview) -> None:
        self._fill(place, page * PAGE_BYTES)

    def _fill(self, view: memoryview, offset: int) -> None:
        at = 0
        for piece in self._layout.pieces(offset, len(view)):
            if piece.start > at:
                view[at : piece.start] = bytes(piece.start - at)
            at = piece.start + piece.length
            self._fill_piece(piece, view[piece.start : at])
        if at < len(view):
            view[at:] = bytes(len(view) - at)

    def _fill_piece(self, piece: Piece, view: memoryview) -> None:
        """Bytes of one file; in a moving cluster zeros stand for those that are not there any more."""
        entry = piece.entry
        held = self._held.get(entry.path)
        if held is not None:
            view[:] = held[piece.offset : piece.offset + piece.length]
            return
        filled = self._read(piece, view)
        if self._settling:
            if entry.kind != Kind.PLAIN:
                filled -= filled % PAGE_BYTES
            if filled < piece.length:
                view[filled:] = bytes(piece.length - filled)
            if filled:
                with self._lock:
                    self._ends[entry.path] = max(self._ends.get(entry.path, 0), piece.offset + filled)
        elif filled < piece.length:
            raise FreezeBroken(
                f"{real_path(entry.path, self._roots)} is shorter than it was",
                because=f"it ends at byte {piece.offset + filled}, and had {entry.size_bytes} when the freeze began",
                next_step="run the backup again; if it stays so, see who lets replay go on: backupctl status",
            )

    def _read(self, piece: Piece, view: memoryview) -> int:
        entry, filled = piece.entry, 0
        try:
            with self._descriptors.use(entry.path) as descriptor:
                while filled < piece.length:
                    count = self._reads.read_into(descriptor, view[filled:], piece.offset + filled)
                    if count == 0:
                        break
                    filled += count
                if entry.size_bytes < _BIG_FILE_BYTES:
                    self._reads.forget(descriptor, piece.offset, piece.length)
        except OSError as error:
            if not (self._settling and isinstance(error, FileNotFoundError)):
                raise unreadable(real_path(entry.path, self._roots), error.strerror or str(error)) from error
        return filled

    def _wrong(self, first_page: int, pages: memoryview) -> list[int]:
        """The pages of relations among these that the server would refuse."""
        rows = as_pages(pages)
        places, blocks = self._layout.relation_pages(first_page, len(rows))
        if not len(places):
            return []
        some = rows if len(places) == len(rows) else rows[places]
        bad = np.flatnonzero(bad_pages(some, blocks, checksums=self._checksums))
        found: list[int] = (places[bad] + first_page).tolist()
        return found
