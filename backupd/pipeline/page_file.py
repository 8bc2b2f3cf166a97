"""One file as a place for pages: what a fetch writes to and reads from where a database is one file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from backupd.direct_write import DirectWriter, start_writing_out
from backupd.disk_room import allocated_bytes
from backupd.durable import sync_directory
from backupd.pages import filled_runs
from backupd.ports import PageFile

_HOLE_BYTES = 4096  # what filesystems allocate by


class SingleFile:
    """See ``ports.PageFile``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._writer = DirectWriter()
        self._direct: int | None = None
        self._size_bytes = 0
        self._was_empty = True

    @property
    def size_bytes(self) -> int:
        """See ``ports.PageFile``."""
        return self._size_bytes

    @property
    def allocated_bytes(self) -> int:
        """See ``ports.PageFile``."""
        return allocated_bytes(self._path)

    @property
    def was_empty(self) -> bool:
        """See ``ports.PageFile``."""
        return self._was_empty

    def open(self, size_bytes: int | None) -> None:
        """See ``ports.PageFile``; what is there already stays, up to that length."""
        if size_bytes is None:
            # Not there, or not readable: then everything is fetched, which is slower and as good.
            with suppress(OSError):
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                self._size_bytes = os.fstat(self._descriptor).st_size
            self._was_empty = self._size_bytes == 0
            return
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._was_empty = os.fstat(self._descriptor).st_size == 0
            os.ftruncate(self._descriptor, size_bytes)
            self._size_bytes = size_bytes
            self._direct = self._writer.open(self._path)
        except OSError:
            self.close()
            raise

    def read(self, offset: int, length: int) -> bytes:
        """See ``ports.PageFile``."""
        if self._descriptor is None or offset >= self._size_bytes:
            return b""
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError:
            # A page that cannot be read here is fetched.
            return b""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """See ``ports.PageFile``; in a file that was empty zeros are there already, and stay holes."""
        view = memoryview(data)
        for first, last in filled_runs(view, _HOLE_BYTES) if self._was_empty else ((0, len(view)),):
            part = view[first:last]
            if self._direct is not None and self._writer.fits(len(part), offset + first):
                part = part[self._writer.write(self._direct, part, offset + first) :]
            while part and self._descriptor is not None:
                part = part[os.pwrite(self._descriptor, part, offset + last - len(part)) :]

    def start_writing_out(self, offset: int, length: int) -> None:
        """See ``ports.PageFile``."""
        if self._descriptor is not None:
            start_writing_out(self._descriptor, offset, length)

    def make_durable(self) -> None:
        """See ``ports.PageFile``."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)
        sync_directory(self._path.parent)

    def close(self) -> None:
        """See ``ports.PageFile``."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._direct is not None:
            os.close(self._direct)
            self._direct = None

    def describe(self) -> Path:
        """See ``ports.PageFile``."""
        return self._path


def as_page_file(place: Path | PageFile) -> PageFile:
    """The file at a path, or what is a place for pages already."""
    return SingleFile(place) if isinstance(place, Path) else place
