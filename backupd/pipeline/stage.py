"""The files on this side of a fetch: the stage that is being built, and the live file that is only read."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from backupd.errors import NotHealthy
from backupd.model.records import StoredFile
from backupd.pages import Hashes, page_hashes
from backupd.pipeline.layout import SuperBlock

Matches = NDArray[np.bool_]


class Local:
    """A file whose pages may be the archived ones; a file that is not there matches nowhere."""

    def __init__(self, path: Path | None, stored: StoredFile) -> None:
        self._path = path
        self._page_bytes = stored.page_bytes
        self._descriptor: int | None = None
        self._size = 0

    def __enter__(self) -> Self:
        if self._path is not None:
            # Not there, or not readable: then everything is fetched, which is slower and as good.
            with suppress(OSError):
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                self._size = os.fstat(self._descriptor).st_size
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def exists(self) -> bool:
        """Whether there is anything to reuse."""
        return self._size > 0

    def matching(self, block: SuperBlock, page_map: Hashes) -> Matches:
        """For each page of the block, whether it is here with the archived hash."""
        matches = np.zeros(block.page_count, dtype=np.bool_)
        data = self._bytes(block)
        pages = len(data) // self._page_bytes
        if pages:
            hashes = page_hashes(data[: pages * self._page_bytes], self._page_bytes)
            matches[:pages] = hashes == page_map[block.first_page : block.first_page + pages]
        return matches

    def merged(self, block: SuperBlock, from_here: Matches, stage: Local) -> bytes:
        """The block with the marked pages from here and the others from the stage."""
        here = self._bytes(block).ljust(block.size_bytes, b"\0")
        if from_here.all():
            return here
        there = stage._bytes(block).ljust(block.size_bytes, b"\0")
        shape = (block.page_count, self._page_bytes)
        rows_here = np.frombuffer(here, dtype=np.uint8).reshape(shape)
        rows_there = np.frombuffer(there, dtype=np.uint8).reshape(shape)
        return np.where(from_here[:, None], rows_here, rows_there).tobytes()

    def _bytes(self, block: SuperBlock) -> bytes:
        if self._descriptor is None or block.offset >= self._size:
            return b""
        try:
            return os.pread(self._descriptor, block.size_bytes, block.offset)
        except OSError:
            # A page that cannot be read here is fetched.
            return b""


class Stage(Local):
    """The file that is being built; 0600, as long as the archived file from the start."""

    def __init__(self, path: Path, stored: StoredFile) -> None:
        super().__init__(path, stored)
        self._stage_path = path
        self._size_bytes = stored.size_bytes
        self.was_empty = True

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self._stage_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.was_empty = os.fstat(self._descriptor).st_size == 0
            os.ftruncate(self._descriptor, self._size_bytes)
            self._size = self._size_bytes
        except OSError as problem:
            super().__exit__(None, None, None)
            raise self._not_writable(problem) from problem
        return self

    def read(self, block: SuperBlock) -> bytes:
        """The block as it is in the stage now. Raises NotHealthy."""
        data = self._bytes(block)
        if len(data) != block.size_bytes:
            raise self._not_writable(OSError(errno.EIO, "it cannot be read back"))
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Write there. Raises NotHealthy: disk full, permission."""
        view = memoryview(data)
        try:
            while view and self._descriptor is not None:
                written = os.pwrite(self._descriptor, view, offset)
                offset += written
                view = view[written:]
        except OSError as problem:
            raise self._not_writable(problem) from problem

    def start_writing_out(self, offset: int, length: int) -> None:
        """Ask the kernel to begin writing this range to the disk, so that ``make_durable`` need not wait for it all.

        ``POSIX_FADV_DONTNEED`` starts the write of dirty pages, and only drops clean ones (mm/fadvise.c).
        """
        if self._descriptor is not None:
            with suppress(OSError):
                os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_DONTNEED)

    def make_durable(self) -> None:
        """After this the stage survives a power cut, its name included. Raises NotHealthy."""
        try:
            if self._descriptor is not None:
                os.fsync(self._descriptor)
            directory = os.open(self._stage_path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as problem:
            raise self._not_writable(problem) from problem

    def _not_writable(self, problem: OSError) -> NotHealthy:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        parent = self._stage_path.parent
        return NotHealthy(
            f"cannot write {self._stage_path}",
            because="the disk is full" if full else (problem.strerror or str(problem)),
            next_step=f"free space there and run it again, it goes on where it was: df -h {parent}"
            if full
            else f"look at the directory and its disk: ls -ld {parent}; dmesg | tail",
        )
