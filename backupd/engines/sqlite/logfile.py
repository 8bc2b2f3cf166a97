"""Log files on a disk: written piece by piece, read piece by piece, never held whole.

The format is on top of ``logheader.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backupd.digests import blake3_hasher
from backupd.durable import sync_directory
from backupd.engines.sqlite.layout import make_directory
from backupd.engines.sqlite.logheader import (
    HEADER_BYTES,
    MARK_BYTES,
    TRAILER_BYTES,
    LogHeader,
    LogKindCode,
    Mark,
    damaged,
    file_digest,
    file_name,
    pack_marks,
    to_log_file,
    unpack_marks,
    unwritable,
)
from backupd.engines.sqlite.wal import FRAME_HEADER, frame_bytes, frame_headers
from backupd.errors import NotFound
from backupd.pages import Block
from backupd.steps import step

__all__ = [  # with the format's own names, so that a user of log files needs one address
    "ClosedFile", "LogHeader", "LogKindCode", "LogWriter", "Mark", "commit_ends", "control_body", "delta_frames",
    "entries", "file_name", "read_control", "read_digest", "read_header", "read_marks", "read_pieces", "sync_directory",
    "to_log_file",
]  # fmt: skip

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ClosedFile:
    """A log file that is complete and durable under its final name."""

    header: LogHeader
    digest: bytes
    path: Path
    size_bytes: int


class LogWriter:
    """Builds one log file in ``directory``; until ``finish`` it lies under a temporary name.

    Raises (every method):
        NotHealthy: the disk is full or refuses; the temporary file is left for ``abandon`` or a sweep.
    """

    def __init__(self, directory: Path, number: int) -> None:
        self._directory = directory
        self._number = number
        self._tmp = directory / f".{number:016x}.{secrets.token_hex(4)}.tmp"
        self._hasher = blake3_hasher()
        self._marks: list[Mark] = []
        self.entries_bytes = 0
        step("logfile.create")
        try:
            make_directory(directory)
            self._fd = os.open(self._tmp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unwritable(directory, error) from None
        self._open = True
        self._write(bytes(HEADER_BYTES), 0)

    def _write(self, data: Block, offset: int) -> None:
        view = memoryview(data).cast("B")
        try:
            while view:
                written = os.pwrite(self._fd, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise unwritable(self._directory, error) from None

    def append(self, body: Block) -> None:
        """Add whole entries (FRAMES, DELTA), or the JSON of a CONTROL."""
        step("logfile.append")
        self._write(body, HEADER_BYTES + self.entries_bytes)
        self._hasher.update(body)
        self.entries_bytes += memoryview(body).nbytes

    def mark(self, entries: int, pages: int, unix_us: int) -> None:
        """Note that after ``entries`` entries a commit ended; the last call must be for the end of the log."""
        self._marks.append(Mark(entries, pages, unix_us))

    def finish(self, header: LogHeader) -> ClosedFile:
        """Complete the file, make it durable and give it its name; a file of that name is replaced.

        ``body_bytes``, ``marks_count``, ``number`` and, when 0, the commit times are filled in here.
        """
        marks = pack_marks(self._marks)
        header = replace(
            header,
            number=self._number,
            body_bytes=self.entries_bytes,
            marks_count=len(self._marks),
            first_commit_us=header.first_commit_us or (self._marks[0].unix_us if self._marks else 0),
            last_commit_us=header.last_commit_us or (self._marks[-1].unix_us if self._marks else 0),
        )
        packed = header.pack()
        self._hasher.update(marks)
        digest = file_digest(packed, self._hasher.digest())
        self._write(marks + digest, HEADER_BYTES + self.entries_bytes)
        self._write(packed, 0)
        final = self._directory / file_name(self._number)
        try:
            step("logfile.fsync")
            os.fsync(self._fd)
            os.close(self._fd)
            self._open = False
            step("logfile.rename")
            os.rename(self._tmp, final)
            step("logfile.fsync_directory")
            sync_directory(self._directory)
        except OSError as error:
            raise unwritable(final, error) from None
        return ClosedFile(header, digest, final, header.size_bytes)

    def abandon(self) -> None:
        """Throw the unfinished file away; may be called at any time."""
        with contextlib.suppress(OSError):
            if self._open:
                self._open = False
                os.close(self._fd)
            self._tmp.unlink()


def delta_frames(numbers: Sequence[int], pages: Block, commit_pages: int = 0) -> bytes:
    """Entries of a DELTA: page ``numbers`` (from 1) with their bytes one after the other.

    ``commit_pages`` is the database's size; give it with the last entries only.
    """
    count = len(numbers)
    page_bytes = memoryview(pages).nbytes // count
    entries = np.zeros((count, frame_bytes(page_bytes)), np.uint8)
    entries[:, FRAME_HEADER.itemsize :] = np.frombuffer(memoryview(pages), np.uint8).reshape(count, page_bytes)
    headers = np.ndarray((count,), FRAME_HEADER, entries.data, 0, (frame_bytes(page_bytes),))
    headers["page"] = numbers
    headers["commit"][-1] = commit_pages
    return entries.tobytes()


def read_header(path: Path) -> LogHeader:
    """The header alone, not verified against the digest.

    Raises:
        NotFound: there is no such file.
        DamageFound: it does not begin like a log file, or its size is not what it says.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            header = LogHeader.unpack(file.read(HEADER_BYTES), path)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise NotFound(
            f"no log file {path}",
            because="it was truncated or never written",
            next_step="backupctl status DATABASE shows which log is held",
        ) from None
    except OSError as error:
        raise damaged(path, f"it cannot be read: {error.strerror}") from None
    if size != header.size_bytes:
        raise damaged(path, f"it has {size} bytes and must have {header.size_bytes}")
    return header


def read_digest(path: Path) -> bytes:
    """The digest that the file ends with. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        file.seek(-TRAILER_BYTES, os.SEEK_END)
        return file.read(TRAILER_BYTES)


def read_pieces(fd: int, offset: int, length: int, piece_bytes: int) -> Iterator[memoryview]:
    """``length`` bytes of ``fd`` from ``offset``, in one reused buffer: do not keep a piece past the next.

    Raises:
        DamageFound: the file ends before that.
    """
    buffer = memoryview(bytearray(min(piece_bytes, length)))
    end = offset + length
    while offset < end:
        want = min(piece_bytes, end - offset)
        got = 0
        while got < want:
            more = os.preadv(fd, [buffer[got:want]], offset + got)
            if more == 0:
                raise damaged(f"of descriptor {fd}", f"it ends at byte {offset + got} and should go on to {end}")
            got += more
        yield buffer[:want]
        offset += want


def entries(fd: int, header: LogHeader, count: int | None = None) -> Iterator[memoryview]:
    """The first ``count`` entries (all when None) in pieces of whole entries of about 1 MiB; see ``read_pieces``."""
    size = frame_bytes(header.page_bytes)
    total = header.entries if count is None else count
    return read_pieces(fd, HEADER_BYTES, total * size, max(1, PIECE_BYTES // size) * size)


def commit_ends(fd: int, header: LogHeader) -> Iterator[NDArray[np.int64]]:
    """After how many entries each commit ends, in order and piece by piece."""
    done = 0
    for piece in entries(fd, header):
        commits = frame_headers(piece, header.page_bytes)["commit"]
        yield np.flatnonzero(commits) + (done + 1)
        done += len(commits)


def read_marks(fd: int, header: LogHeader) -> list[Mark]:
    """All marks of the file. Raises OSError."""
    data = os.pread(fd, header.marks_count * MARK_BYTES, HEADER_BYTES + header.body_bytes)
    return unpack_marks(data)


def control_body(content: dict[str, Any]) -> bytes:
    """The body of a CONTROL log."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def read_control(path: Path) -> dict[str, Any]:
    """The content of a CONTROL log. Raises DamageFound."""
    header = read_header(path)
    with open(path, "rb", buffering=0) as file:
        body = os.pread(file.fileno(), header.body_bytes, HEADER_BYTES)
    try:
        content = json.loads(body)
    except ValueError:
        raise damaged(path, "its control record is not JSON") from None
    if header.kind is not LogKindCode.CONTROL or not isinstance(content, dict):
        raise damaged(path, "it is not a control record")
    return content
