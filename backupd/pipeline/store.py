"""One data file into the archive: read, check each page, compress, store; every byte is read once.

Worker threads read a super-block, hash its pages, ask the source whether they are
what they must be, and compress it; all of it lets other threads run.  The calling
thread takes the results in order, feeds BLAKE3 (whose stream has an order) and
hands the frames to the store, which writes them as they come.  At
most ``2 * workers + 1`` super-blocks are in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from backupd.errors import NotHealthy
from backupd.model.records import StoredFile
from backupd.pages import Hashes
from backupd.pipeline.cipher import DataKey, ObjectCipher
from backupd.pipeline.compress import DEFAULT_LEVEL
from backupd.pipeline.container import head_of
from backupd.pipeline.express import PageBase
from backupd.pipeline.express_store import ExpressStoring
from backupd.pipeline.layout import Layout
from backupd.pipeline.storing import BadPageSeen, ReadAhead, Storing
from backupd.ports import Extent, PageSource, ReportProgress, StoredObject


@dataclass(frozen=True, slots=True)
class NewObject:
    """The name that the next object will get, the head that its bytes begin with, and what encrypts its blocks."""

    name: str
    head: bytes
    cipher: ObjectCipher | None = None


def new_object(name: str, kind: str, repository: str, key: DataKey | None, **facts: object) -> NewObject:
    """An object to write: its head names it, and with a key says how it is encrypted."""
    if key is None:
        return NewObject(name, head_of(name, kind, repository, **facts))
    head = head_of(name, kind, repository, encryption=key.new_encryption(), **facts)
    return NewObject(name, head, ObjectCipher(key, json.loads(head)))


class SegmentSink(Protocol):
    """Where segments and maps go: the backup that is being made (archive/repository.py has it)."""

    def next_segment(self) -> NewObject:
        """Name the next segment; names are dense and in order."""
        ...

    def next_map(self, file_number: int) -> NewObject:
        """Name the page map of a file."""
        ...

    def put(self, new: NewObject, pieces: Iterable[bytes]) -> StoredObject:
        """Store the object. Raises ArchiveUnreachable, ObjectExists."""
        ...


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What became of a file; ``file`` is None when a page is bad, and ``bad_pages`` (from 0) says which.

    ``checked_pages`` counts the pages whose hash the source was asked about: all of them, in either case.
    At most 10 000 bad pages are listed; ``bad_page_count`` counts them all.  ``page_map`` has the hash of every
    page, and ``extents`` are the file's: what a later express full is compared with.
    """

    file: StoredFile | None
    bad_pages: tuple[int, ...]
    bad_page_count: int
    checked_pages: int
    read_bytes: int
    stored_bytes: int
    page_map: Hashes
    extents: Sequence[Extent]


def store_file(
    source: PageSource,
    sink: SegmentSink,
    *,
    level: int = DEFAULT_LEVEL,
    workers: int = 2,
    file_number: int = 0,
    base: PageBase | None = None,
    report: ReportProgress | None = None,
) -> StoreResult:
    """Check and store one data file.

    The first bad page ends the storing (the segment that was being written does
    not come to exist); the check goes on to the file's end, so that every bad
    page is known.

    Args:
        source: the file.
        sink: the backup that is being made.
        level: of the compression.
        workers: threads that read, check and compress.
        file_number: its place among the backup's files.
        base: the same file in the parent backup; only pages that differ from it are stored then.
        report: told how far it has come.

    Raises:
        NotHealthy: the file cannot be read, or is shorter than its pages say.
        ArchiveUnreachable: the archive cannot be written.
        MostPagesDiffer: a plain full is the better backup; what was stored is to be given up.
    """
    if source.size_bytes != source.page_count * source.page_bytes:
        raise NotHealthy(
            f"{source.name} is not made of whole pages",
            because=f"it has {source.size_bytes} bytes, {source.page_count} pages of {source.page_bytes} were expected",
            next_step="seed the passive again: backupctl copy seed DATABASE",
        )
    reader = ReadAhead(source, level, workers)
    try:
        storing = ExpressStoring(base, source, sink, reader, report) if base else Storing(source, sink, reader, report)
        file: StoredFile | None = None
        try:
            file = _stored(storing, reader.layout, file_number, level)
        except BadPageSeen:
            storing.check_rest()
    finally:
        reader.close()
    read = storing.checked * source.page_bytes
    bad = tuple(storing.bad)
    return StoreResult(
        file, bad, storing.bad_count, storing.checked, read, storing.stored_bytes, storing.page_map, source.extents()
    )


def _stored(storing: Storing, layout: Layout, file_number: int, level: int) -> StoredFile:
    source = storing.source
    segments = storing.segments(file_number)
    page_map = storing.store_map(file_number, level)
    return StoredFile(
        path=source.name,
        size_bytes=source.size_bytes,
        page_bytes=source.page_bytes,
        page_count=source.page_count,
        blake3=storing.blake3(),
        segments=tuple(segments),
        map=page_map,
        block_pages=layout.pages_per_block,
        express=storing.express(),
    )
