"""What a backup is made of, as values: log files, segments, stamps, holds and the record itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from backupd.model.kinds import BackupType, LogKind
from backupd.model.position import Position

__all__ = [  # with the kinds, so that a user of records needs one address
    "ArchivedBackup", "BackupRecord", "BackupType", "Encryption", "ExpressFacts", "Hold", "LogFile", "LogKind",
    "Progress", "RestorePoint", "Stamp", "Stamps", "StoredFile", "StoredLog", "StoredMap", "StoredSegment", "own_logs",
    "own_point_name", "own_point_time",
]  # fmt: skip

RESTORE_POINTS_MAX = 32  # a log file with more of them is read for their names
_NAME_BYTES_MAX = 255
_OWN_POINT = re.compile(r"backupd_\d{8}T\d{6}\.\d{6}")


def own_point_name(at: datetime) -> str:
    """What a backup of that moment calls its restore point."""
    return f"backupd_{at.astimezone(UTC):%Y%m%dT%H%M%S.%f}"


def own_point_time(name: str) -> datetime | None:
    """When a backup made the restore point of that name; None for a name that people gave."""
    if _OWN_POINT.fullmatch(name) is None:
        return None
    try:
        return datetime.strptime(name, "backupd_%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class RestorePoint:
    """A moment that a person gave a name in the log: its record begins at ``position``; up to ``after`` it is reached.

    ``at`` is the time of the last commit before it, None where no commit before it was read.
    """

    name: str
    position: Position
    after: Position
    at: datetime | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What tells one from another: the first file of a history may repeat the end of the one before it."""
        return self.name, self.position.offset

    @property
    def is_own(self) -> bool:
        """Whether a backup made it, so that an idle server closes its log; nobody else needs it."""
        return own_point_time(self.name) is not None

    @property
    def has_plain_name(self) -> bool:
        """Whether the name can be shown to people as it is."""
        return self.name.isprintable() and 0 < len(self.name.encode()) <= _NAME_BYTES_MAX


@dataclass(frozen=True, slots=True)
class LogFile:
    """A closed log file: it covers the changes after ``start`` up to and including ``end``.

    ``number`` is dense inside a history and starts at 1.  ``digest`` is the
    engine's own digest of the whole file, hex; ``previous_digest`` that of the
    file before it, or empty where the engine's log is linked by its positions alone
    (WAL segments).  Times are of the first and last commit inside, or None.
    The first file of a history that began on a passive that was promoted starts
    in the history before it; ``ancestry`` is then the engine's text of how it began.
    ``restore_points`` are those inside, or None where they are not known from here and the log must be read for them.
    """

    history: str
    number: int
    kind: LogKind
    start: Position
    end: Position
    size_bytes: int
    digest: str
    previous_digest: str
    first_commit_at: datetime | None = None
    last_commit_at: datetime | None = None
    ancestry: str = ""
    restore_points: tuple[RestorePoint, ...] | None = None

    def is_same_file(self, other: LogFile) -> bool:
        """Whether both are one file, whatever was read inside it: times and points may not be known at first."""
        mine, theirs = (
            replace(one, first_commit_at=None, last_commit_at=None, restore_points=None) for one in (self, other)
        )
        return mine == theirs


@dataclass(frozen=True, slots=True)
class StoredLog:
    """A log file as an object of the archive: the log, the object's name, its stored size and SHA-256 (hex)."""

    log: LogFile
    name: str
    stored_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """One segment: super-blocks of consecutive pages of one file.

    ``first_page`` counts from 0; ``plain_bytes`` is what the segment expands to.
    """

    name: str
    first_page: int
    page_count: int
    plain_bytes: int
    stored_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredMap:
    """The page map of one file as an object: ``page_count`` hashes of 8 bytes, compressed."""

    name: str
    page_count: int
    stored_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ExpressFacts:
    """Of a file that is stored as its difference from the same file of the parent backup.

    The segments hold the ``stored_pages`` pages that the parent's file does not have, packed one after the
    other; ``spans`` are, for each segment, the first and the last page (from 0, of this file) in it.
    The map holds their hashes, and then ``runs`` runs of pages that are taken from the parent's file, which
    has ``base_pages`` pages.
    """

    stored_pages: int
    runs: int
    base_pages: int
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One data file of a backup: its path below the copy, its size, and BLAKE3 (hex) of its plain bytes.

    ``block_pages`` are the pages of each super-block but the last: a reader takes it from here, so that
    a later version may choose another size.  With ``express`` the segments' ``first_page`` counts the
    stored pages only, and ``map.page_count`` is their number.
    """

    path: str
    size_bytes: int
    page_bytes: int
    page_count: int
    blake3: str
    segments: tuple[StoredSegment, ...]
    map: StoredMap
    block_pages: int = 256
    express: ExpressFacts | None = None


@dataclass(frozen=True, slots=True)
class Encryption:
    """How a backup's objects are encrypted: the data key in an age file (base64), and the ids of its recipients.

    ``mac`` is the HMAC-SHA256 (hex) of the record without it, by that data key: the archive alone cannot make it.
    """

    cipher: str
    key: str
    recipients: tuple[str, ...]
    mac: str = ""


@dataclass(frozen=True, slots=True)
class BackupRecord:
    """The commit record of one backup: everything that a restore needs to know.

    ``log_start`` and ``log_end``: an increment holds the log after ``log_start`` up to
    ``log_end``; so does a full or copy, whose pages need that log to be whole. Where
    a snapshot stands still for itself (SQLite) ``log_start == log_end``.
    ``parent`` is the id of the backup that it builds on (an increment's log follows it, and
    an express full takes from it the pages that have not changed), and
    ``parent_sha256`` the SHA-256 of that backup's record object.
    ``covers_until`` is the moment at which no newer commit existed, and after which
    none that is in it was seen: any point in time up to it can be restored, and a
    full is a base for the points from it on.
    """

    id: str
    database: str
    engine: str
    type: BackupType
    source_copy: str
    source_role: str
    source_host: str
    started_at: datetime
    finished_at: datetime
    covers_until: datetime
    log_start: Position
    log_end: Position
    parent: str | None
    parent_sha256: str | None
    nonce: str
    files: tuple[StoredFile, ...] = ()
    logs: tuple[StoredLog, ...] = ()
    frozen_seconds: float | None = None
    provider: str | None = None
    read_bytes: int = 0
    stored_bytes: int = 0
    checked_pages: int = 0
    policy_commit: str | None = None
    tool_version: str = ""
    notes: tuple[str, ...] = ()
    encryption: Encryption | None = None


def own_logs(record: BackupRecord) -> tuple[StoredLog, ...]:
    """The log files that the pages of a full or copy need to be whole; its other ones lie before it."""
    if not record.log_start.same_history(record.log_end):
        return tuple(stored for stored in record.logs if stored.log.end.offset > record.log_start.offset)
    return tuple(
        stored
        for stored in record.logs
        if stored.log.end.same_history(record.log_start) and stored.log.end > record.log_start
    )


@dataclass(frozen=True, slots=True)
class ArchivedBackup:
    """A committed backup as the archive lists it: the record, and the SHA-256 (hex) of the record object."""

    record: BackupRecord
    sha256: str


@dataclass(frozen=True, slots=True)
class Stamp:
    """Says that backup ``backup_id`` of ``type`` ended at ``end``; it travels in the log."""

    type: BackupType
    backup_id: str
    end: Position
    at: datetime


@dataclass(frozen=True, slots=True)
class Stamps:
    """The last full and the last incremental that a copy knows of, with the positions that they ended at."""

    full: Stamp | None = None
    incremental: Stamp | None = None

    @property
    def last(self) -> Stamp | None:
        """The stamp that the next incremental builds on."""
        return self.incremental or self.full


@dataclass(frozen=True, slots=True)
class Hold:
    """A named reason why log from ``needs_from`` on must stay on the copies."""

    holder: str
    database: str
    needs_from: Position
    reason: str
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """How far long work has come: ``done_bytes`` of ``total_bytes`` (0 when not known)."""

    what: str
    done_bytes: int
    total_bytes: int
    facts: dict[str, str] = field(default_factory=dict)
