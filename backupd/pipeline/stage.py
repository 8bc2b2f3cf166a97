"""The files on this side of a fetch: the stage that is being built, and the live file that is only read."""

from __future__ import annotations

import errno
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from backupd.errors import NotHealthy
from backupd.model.records import StoredFile
from backupd.pages import Hashes, page_hashes
from backupd.pipeline.layout import SuperBlock
from backupd.pipeline.page_file import as_page_file
from backupd.ports import PageFile

Matches = NDArray[np.bool_]

# So much at a time is written out while a restore goes on.
_WRITE_OUT_BYTES = 32 << 20


class Local:
    """A file whose pages may be the archived ones; a file that is not there matches nowhere."""

    def __init__(self, place: Path | PageFile | None, stored: StoredFile) -> None:
        self._file = None if place is None else as_page_file(place)
        self._stored = stored

    def __enter__(self) -> Self:
        if self._file is not None:
            self._file.open(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def exists(self) -> bool:
        """Whether there is anything to reuse."""
        return self._file is not None and self._file.size_bytes > 0

    def look(self, block: SuperBlock, page_map: Hashes) -> tuple[bytes, Matches]:
        """What is here of the block, and for each of its pages whether that has the archived hash."""
        page_bytes = self._stored.page_bytes
        matches = np.zeros(block.page_count, dtype=np.bool_)
        data = self._bytes(block)
        pages = len(data) // page_bytes
        if pages:
            hashes = page_hashes(data[: pages * page_bytes], page_bytes)
            matches[:pages] = hashes == page_map[block.first_page : block.first_page + pages]
        return data, matches

    def matching(self, block: SuperBlock, page_map: Hashes) -> Matches:
        """For each page of the block, whether it is here with the archived hash."""
        return self.look(block, page_map)[1]

    def _bytes(self, block: SuperBlock) -> bytes:
        return b"" if self._file is None else self._file.read(block.offset, block.size_bytes)


class Stage(Local):
    """The file that is being built; its owner's only, as long as the archived file from the start."""

    def __init__(self, place: Path | PageFile, stored: StoredFile) -> None:
        super().__init__(place, stored)
        self._made = as_page_file(place)
        self._file = self._made
        self._zeros = page_hashes(bytes(stored.page_bytes), stored.page_bytes)

    def __enter__(self) -> Self:
        try:
            self._made.open(self._stored.size_bytes)
        except OSError as problem:
            raise self._not_writable(problem) from problem
        return self

    @property
    def was_empty(self) -> bool:
        """Whether nothing of an earlier try was there."""
        return self._made.was_empty

    def read(self, block: SuperBlock) -> bytes:
        """The block as it is in the stage now. Raises NotHealthy."""
        data = self._bytes(block)
        if len(data) != block.size_bytes:
            raise self._not_writable(OSError(errno.EIO, "it cannot be read back"))
        return data

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write there. Raises NotHealthy: disk full, permission."""
        try:
            self._made.write(offset, data)
        except OSError as problem:
            raise self._not_writable(problem) from problem

    def distrust(self) -> None:
        """What was written may be wrong: from now on zeros are written too, and not left to be what is there."""
        try:
            self._made.close()
            self._made.open(self._stored.size_bytes)
        except OSError as problem:
            raise self._not_writable(problem) from problem

    def look(self, block: SuperBlock, page_map: Hashes) -> tuple[bytes, Matches]:
        """As for any file; where nothing was, zeros are known to be there: they are not read, and not given."""
        if not self.was_empty:
            return super().look(block, page_map)
        return b"", page_map[block.range] == self._zeros

    def write_pages(self, block: SuperBlock, data: bytes, wanted: Matches) -> None:
        """Write the marked pages of a block, as many as are side by side at once. Raises NotHealthy."""
        page_bytes = self._stored.page_bytes
        edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False)).tolist()
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            self.write(block.offset + first * page_bytes, memoryview(data)[first * page_bytes : end * page_bytes])

    def write_out_behind(self, before_bytes: int, done_bytes: int) -> None:
        """Done up to ``done_bytes`` and not only to ``before_bytes``: what is whole is being written to the disk now.

        So that ``make_durable`` need not wait for all of it.
        """
        whole = before_bytes // _WRITE_OUT_BYTES
        if whole != done_bytes // _WRITE_OUT_BYTES:
            self._made.start_writing_out(whole * _WRITE_OUT_BYTES, _WRITE_OUT_BYTES)

    def make_durable(self) -> None:
        """After this the stage survives a power cut, its name included. Raises NotHealthy."""
        try:
            self._made.make_durable()
        except OSError as problem:
            raise self._not_writable(problem) from problem

    def _not_writable(self, problem: OSError) -> NotHealthy:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        place = self._made.describe()
        return NotHealthy(
            f"cannot write {place}",
            because="the disk is full" if full else (problem.strerror or str(problem)),
            next_step=f"free space there and run it again, it goes on where it was: df -h {place.parent}"
            if full
            else f"look at the directory and its disk: ls -ld {place.parent}; dmesg | tail",
        )
