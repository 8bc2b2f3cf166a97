"""The format of a log file: its 256-byte header, entries, marks and digest.

Layout, little endian; the name is ``<number:016x>.wlog``::

    header   256 bytes, fields in the order of ``LogHeader``
    body     FRAMES, DELTA: entries of a 24-byte WAL frame header and a page
             CONTROL: JSON (UTF-8)        SEED: nothing, the pages travel as a file
    marks    16 bytes each: u32 entries so far, u32 pages, i64 unix microseconds;
             each is a commit boundary seen at that time, the last is the end
    trailer  32 bytes: blake3(header, blake3(body, marks))

The headers of a FRAMES log's entries are SQLite's own (big-endian); those of a
DELTA have only the page number, and in the last entry the database's size.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from backupd.digests import blake3_hasher
from backupd.engines.sqlite.wal import Sums, is_page_size
from backupd.errors import DamageFound, NotHealthy
from backupd.model.position import Position
from backupd.model.records import LogFile, LogKind

MAGIC = b"BKDSQLG1"
VERSION = 1
HEADER_BYTES = 256
TRAILER_BYTES = 32
SUFFIX = ".wlog"
NO_DIGEST = bytes(32)

_LAYOUT = struct.Struct("<8s4I8s4Q5I4I2I2Q32s2qQ2I8sQ")
_MARK = struct.Struct("<IIq")
MARK_BYTES = _MARK.size


class LogKindCode(IntEnum):
    """What a log file carries, as it is stored."""

    SEED = 1
    FRAMES = 2
    DELTA = 3
    CONTROL = 4

    @property
    def has_pages(self) -> bool:
        """Whether the body is entries of pages."""
        return self in (LogKindCode.FRAMES, LogKindCode.DELTA)


class Mark(NamedTuple):
    """After ``entries`` entries a commit ended that made the database ``pages`` long; seen at ``unix_us``."""

    entries: int
    pages: int
    unix_us: int


def damaged(path: Path | str, because: str) -> DamageFound:
    """A log file that is not what was written."""
    return DamageFound(
        f"the log file {path} is damaged",
        because=because,
        next_step="backupctl copy seed DATABASE (the log before this file stays usable)",
    )


def unwritable(path: Path | str, error: OSError) -> NotHealthy:
    """The disk said no; a full disk says so."""
    return NotHealthy(
        f"cannot write {path}",
        because=f"{error.strerror or error} (errno {error.errno})",
        next_step="free space on that filesystem or correct its permissions; backupd tries again by itself",
    )


@dataclass(frozen=True, slots=True)
class LogHeader:
    """What a log file says of itself.

    Offsets count entries since the history began.  ``sums_in`` and ``sums_out``
    are the WAL's running sums before the first and after the last frame, as
    stored.  ``checksum_*`` are rolling checksums of all pages (backupd/pages.py),
    ``pages_*`` the database's size in pages.  ``parent_*`` is set only in the
    first log of a history that goes on from another.
    """

    kind: LogKindCode
    page_bytes: int
    history: str
    number: int
    epoch: int
    start_offset: int
    end_offset: int
    pages_after: int
    checksum_after: int
    pages_before: int = 0
    checksum_before: int = 0
    salt1: int = 0
    salt2: int = 0
    wal_magic: int = 0
    frame_first: int = 0
    frame_last: int = 0
    sums_in: Sums = (0, 0)
    sums_out: Sums = (0, 0)
    previous_digest: bytes = NO_DIGEST
    first_commit_us: int = 0
    last_commit_us: int = 0
    body_bytes: int = 0
    marks_count: int = 0
    parent_history: str = ""
    parent_offset: int = 0

    @property
    def entries(self) -> int:
        """How many entries the log covers."""
        return self.end_offset - self.start_offset

    @property
    def start(self) -> Position:
        """Where the log begins (the changes after this are inside)."""
        return Position(self.history, self.start_offset)

    @property
    def end(self) -> Position:
        """Where the log ends."""
        return Position(self.history, self.end_offset)

    @property
    def size_bytes(self) -> int:
        """The size of the whole file."""
        return HEADER_BYTES + self.body_bytes + self.marks_count * MARK_BYTES + TRAILER_BYTES

    def pack(self) -> bytes:
        """The 256 bytes."""
        fields = _LAYOUT.pack(
            MAGIC, VERSION, HEADER_BYTES, self.kind, self.page_bytes,
            bytes.fromhex(self.history), self.number, self.epoch, self.start_offset, self.end_offset,
            self.salt1, self.salt2, self.wal_magic, self.frame_first, self.frame_last,
            *self.sums_in, *self.sums_out, self.pages_before, self.pages_after,
            self.checksum_before, self.checksum_after, self.previous_digest,
            self.first_commit_us, self.last_commit_us, self.body_bytes, self.marks_count, 0,
            bytes.fromhex(self.parent_history), self.parent_offset,
        )  # fmt: skip
        return fields.ljust(HEADER_BYTES, b"\0")

    @classmethod
    def unpack(cls, data: bytes, path: Path | str = "") -> LogHeader:
        """Read the 256 bytes.

        Raises:
            DamageFound: they are not a header of this version.
        """
        if len(data) < HEADER_BYTES:
            raise damaged(path, f"it ends within its header, at {len(data)} bytes")
        (
            magic, version, header_bytes, kind, page_bytes, history, number, epoch, start, end,
            salt1, salt2, wal_magic, first, last, in0, in1, out0, out1, pages_before, pages_after,
            checksum_before, checksum_after, previous, first_us, last_us, body, marks, _, parent, parent_offset,
        ) = _LAYOUT.unpack_from(data)  # fmt: skip
        if magic != MAGIC or version != VERSION or header_bytes != HEADER_BYTES:
            raise damaged(path, "its first bytes are not those of a version 1 log file")
        known = LogKindCode.SEED <= kind <= LogKindCode.CONTROL and is_page_size(page_bytes)
        if not known or end <= start or number == 0:
            raise damaged(path, "its header holds impossible values")
        return cls(
            LogKindCode(kind), page_bytes, history.hex(), number, epoch, start, end, pages_after, checksum_after,
            pages_before, checksum_before, salt1, salt2, wal_magic, first, last, (in0, in1), (out0, out1),
            previous, first_us, last_us, body, marks, parent.hex() if parent_offset else "", parent_offset,
        )  # fmt: skip


def file_name(number: int) -> str:
    """The name of log file ``number`` of a history."""
    return f"{number:016x}{SUFFIX}"


def file_digest(header: bytes, body_digest: bytes) -> bytes:
    """The trailer: it binds the header to the digest of body and marks."""
    hasher = blake3_hasher()
    hasher.update(header)
    hasher.update(body_digest)
    return hasher.digest()


def pack_marks(marks: Sequence[Mark]) -> bytes:
    """The marks as they are stored."""
    return b"".join(_MARK.pack(*mark) for mark in marks)


def unpack_marks(data: bytes) -> list[Mark]:
    """Read marks that were stored."""
    return [Mark(*fields) for fields in _MARK.iter_unpack(data)]


_KINDS = {
    LogKindCode.SEED: LogKind.SEED,
    LogKindCode.FRAMES: LogKind.FRAMES,
    LogKindCode.DELTA: LogKind.DELTA,
    LogKindCode.CONTROL: LogKind.CONTROL,
}


def _when(unix_us: int) -> datetime | None:
    return datetime.fromtimestamp(unix_us / 1e6, UTC) if unix_us else None


def _kind(header: LogHeader) -> LogKind:
    """What the file means to a restore: a seed in the middle of a history that changed no page is only a record."""
    before, after = (header.checksum_before, header.pages_before), (header.checksum_after, header.pages_after)
    if header.kind is LogKindCode.SEED and header.pages_before and before == after:
        return LogKind.CONTROL
    return _KINDS[header.kind]


def to_log_file(header: LogHeader, digest: bytes, size_bytes: int) -> LogFile:
    """The file as the model knows it."""
    return LogFile(
        history=header.history,
        number=header.number,
        kind=_kind(header),
        start=header.start,
        end=header.end,
        size_bytes=size_bytes,
        digest=digest.hex(),
        previous_digest=header.previous_digest.hex(),
        first_commit_at=_when(header.first_commit_us),
        last_commit_at=_when(header.last_commit_us),
    )
