"""Whether a log file is what was written, and can be replayed: digest, sums, salts, commits, growth, marks.

The file is read once, in pieces; what is kept is 12 bytes for each commit and
each page by which the database grew.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backupd.digests import blake3_hasher
from backupd.engines.sqlite import wal
from backupd.engines.sqlite.logfile import entries, read_header
from backupd.engines.sqlite.logheader import (
    HEADER_BYTES,
    MARK_BYTES,
    TRAILER_BYTES,
    LogHeader,
    LogKindCode,
    damaged,
    file_digest,
    unpack_marks,
)
from backupd.pages import lock_page_number

_FAR_US = 200 * 366 * 86400 * 10**6  # 2170
_RECORD_BYTES_MAX = 1 << 24  # of a control log, which is a stamp; it is read whole


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """A log file whose every byte was checked."""

    header: LogHeader
    digest: bytes
    size_bytes: int


@dataclass(slots=True)
class _Seen:
    """What the entries so far have shown; ``pages`` is the size after the last commit."""

    pages: int
    sums: wal.Sums
    count: int = 0
    transaction: int = 0
    commit_ends: list[NDArray[np.int64]] = field(default_factory=list)
    commit_sizes: list[NDArray[np.uint32]] = field(default_factory=list)
    growing: list[NDArray[np.uint64]] = field(default_factory=list)


def _check_piece(piece: memoryview, header: LogHeader, seen: _Seen) -> str:
    """Check the next entries; answers with what is wrong, or an empty string."""
    headers = wal.frame_headers(piece, header.page_bytes)
    numbers = headers["page"].astype(np.uint32)
    sizes = headers["commit"].astype(np.uint32)
    if not numbers.all():
        return f"entry {seen.count + int(np.argmin(numbers != 0)) + 1} has no page number"
    if header.kind is LogKindCode.FRAMES:
        if wal.salts_count(piece, header.page_bytes, header.salt1, header.salt2) < len(numbers):
            return f"an entry after entry {seen.count} belongs to another WAL (its salts differ)"
        good, seen.sums = wal.verify_frames(piece, header.page_bytes, seen.sums, header.wal_magic == wal.MAGIC_BIG)
        if good < len(numbers):
            return f"the WAL sums of entry {seen.count + good + 1} do not match"
    _note_commits(numbers, sizes, seen)
    return ""


def _note_commits(numbers: NDArray[np.uint32], sizes: NDArray[np.uint32], seen: _Seen) -> None:
    """Remember commits, and pages that lie beyond the size before their transaction."""
    ends = np.flatnonzero(sizes)
    committed = sizes[ends]
    before = np.concatenate((np.array([seen.pages], np.uint32), committed))
    in_transaction = np.zeros(len(numbers), np.int64)
    in_transaction[ends[ends + 1 < len(numbers)] + 1] = 1
    in_transaction = np.cumsum(in_transaction)
    beyond = numbers > before[in_transaction]
    keys = (in_transaction[beyond] + seen.transaction).astype(np.uint64) << np.uint64(32)
    seen.growing.append(keys | numbers[beyond].astype(np.uint64))
    seen.commit_ends.append(ends + seen.count + 1)
    seen.commit_sizes.append(committed)
    seen.transaction += len(ends)
    seen.count += len(numbers)
    if len(committed):
        seen.pages = int(committed[-1])


def _check_growth(header: LogHeader, seen: _Seen, sizes: NDArray[np.uint32]) -> str:
    """Whether each page by which a commit makes the file longer is among the commit's entries."""
    after = sizes.astype(np.int64)
    before = np.concatenate((np.array([header.pages_before], np.int64), after[:-1]))
    lock_page = lock_page_number(header.page_bytes)
    needed = np.maximum(after - before, 0) - ((before < lock_page) & (lock_page <= after))
    growing = np.unique(np.concatenate(seen.growing))
    transactions, numbers = (growing >> np.uint64(32)).astype(np.int64), growing & np.uint64(0xFFFFFFFF)
    inside = (numbers <= sizes[transactions]) & (numbers != lock_page)
    found = np.bincount(transactions[inside], minlength=len(sizes))
    if (found < needed).any():
        bad = int(np.argmax(found < needed))
        return f"commit {bad + 1} grows the database from {before[bad]} to {after[bad]} pages and lacks some of them"
    return ""


def _check_commits(header: LogHeader, seen: _Seen) -> tuple[str, dict[int, int]]:
    """Check how the log ends and grows; answers also with the size after each commit by its last entry."""
    ends, sizes = np.concatenate(seen.commit_ends), np.concatenate(seen.commit_sizes)
    if not len(ends) or ends[-1] != header.entries:
        return "it does not end with a commit", {}
    if sizes[-1] != header.pages_after:
        return f"its last commit leaves {sizes[-1]} pages and its header says {header.pages_after}", {}
    if header.kind is LogKindCode.FRAMES and seen.sums != header.sums_out:
        return "its last WAL sums are not those that its header says", {}
    return _check_growth(header, seen, sizes), dict(zip(ends.tolist(), sizes.tolist(), strict=True))


def _check_shape(header: LogHeader) -> str:
    """Whether the numbers of the header fit together."""
    if header.kind.has_pages:
        if header.body_bytes != header.entries * wal.frame_bytes(header.page_bytes):
            return f"its body has {header.body_bytes} bytes, which are not {header.entries} entries"
    elif header.body_bytes > _RECORD_BYTES_MAX:
        return f"its record has {header.body_bytes} bytes, more than {_RECORD_BYTES_MAX}"
    elif header.entries != 1:
        return f"a {header.kind.name.lower()} record counts as one entry and not as {header.entries}"
    if header.marks_count > header.entries:
        return f"it has {header.marks_count} marks and {header.entries} entries"
    if any(abs(at_us) > _FAR_US for at_us in (header.first_commit_us, header.last_commit_us)):
        return "it was committed at a time that is none"
    if header.kind is LogKindCode.FRAMES and header.frame_last - header.frame_first + 1 != header.entries:
        return f"it says frames {header.frame_first} to {header.frame_last} and has {header.entries} entries"
    if header.kind is LogKindCode.CONTROL and header.checksum_after != header.checksum_before:
        return "a control record changes no page, and its checksums differ"
    return ""


def _check_marks(header: LogHeader, data: bytes, commits: dict[int, int]) -> str:
    """Whether each mark is a commit, in order, and the last one the end."""
    last = 0
    for mark in unpack_marks(data):
        if mark.entries <= last or (commits and commits.get(mark.entries) != mark.pages):
            return f"its mark after entry {mark.entries} is not at a commit"
        last = mark.entries
    return "" if last == header.entries else "its last mark is not its end"


def verify_log(path: Path) -> VerifiedLog:
    """Check a log file whole, by itself (how it fits to its neighbours is for ``inspect``).

    Raises:
        NotFound: there is no such file.
        DamageFound: it is not what was written, or not complete; the sentence says what.
    """
    header = read_header(path)
    fault = _check_shape(header)
    if fault:
        raise damaged(path, fault)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise damaged(path, f"it cannot be read: {error.strerror}") from None
    try:
        return _verify_open(fd, header, path)
    except OSError as error:
        raise damaged(path, f"it cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)


def _verify_open(fd: int, header: LogHeader, path: Path) -> VerifiedLog:
    body, fault = blake3_hasher(), ""
    commits: dict[int, int] = {}
    if header.kind.has_pages:
        seen = _Seen(header.pages_before, header.sums_in)
        for piece in entries(fd, header):
            body.update(piece)
            fault = fault or _check_piece(piece, header, seen)
        if not fault:
            fault, commits = _check_commits(header, seen)
    else:
        body.update(os.pread(fd, header.body_bytes, HEADER_BYTES))
    marks = os.pread(fd, header.marks_count * MARK_BYTES, HEADER_BYTES + header.body_bytes)
    body.update(marks)
    digest = os.pread(fd, TRAILER_BYTES, header.size_bytes - TRAILER_BYTES)
    if file_digest(os.pread(fd, HEADER_BYTES, 0), body.digest()) != digest:
        # The digest speaks first: when it is wrong, what the entries say means little.
        raise damaged(path, f"its digest does not match{' (' + fault + ')' if fault else ''}")
    fault = fault or _check_marks(header, marks, commits)
    if fault:
        raise damaged(path, fault)
    return VerifiedLog(header, digest, header.size_bytes)
