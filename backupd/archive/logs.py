"""Log files in the archive: stored once under history and number, named by every backup that needs them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from backupd.archive import names
from backupd.archive.envelope import malformed
from backupd.archive.objects import twice
from backupd.archive.record import log_from_json, log_to_json
from backupd.digests import blake3_hasher, sha256_hasher
from backupd.errors import DamageFound, NotHealthy, ObjectExists, Refused
from backupd.model.records import LogFile, LogKind, StoredLog
from backupd.pipeline import container
from backupd.pipeline.cipher import DataKey, KeyFinder
from backupd.pipeline.container import damage, unpack
from backupd.pipeline.segment_reader import hashed_pieces
from backupd.pipeline.store import new_object
from backupd.pipeline.stream import expand_stream, file_pieces, pack_stream, unpack_stream
from backupd.ports import ObjectStore, StoredObject
from backupd.steps import step


def put_log(
    store: ObjectStore,
    log: LogFile,
    path: Path,
    *,
    repository: str,
    dbid: str,
    label: str,
    key: DataKey | None = None,
    condemned: Collection[str] = (),
    retain_until: datetime | None = None,
) -> StoredLog:
    """Store a log file, or find it there already with the same digest and read it through.

    A name that is ``condemned`` is not used: a deletion that slept may still delete what is there.

    Raises:
        Refused: another log file has that history and number.
        DamageFound: the one that is there is damaged.
    """
    if key is not None:
        log = replace(log, restore_points=None)  # people give these names; heads and records are not encrypted
    name = names.log_name(dbid, log.history, log.number)
    if name in condemned:
        name = names.log_name(dbid, log.history, log.number, names.parse_label(label).suffix)
    new = new_object(name, "log", repository, key, log=log_to_json(log), by=label)
    step("archive.log")
    try:
        pieces = pack_stream(new.head, _as_checked(log, path), cipher=new.cipher)
        stored = store.create(name, pieces, retain_until=retain_until)
    except ObjectExists:
        found, its_log, _ = read_through(store, name)
        if its_log.digest != log.digest or its_log.end != log.end:
            raise Refused(
                f"the archive has another log file {log.number} of the history {log.history}",
                because=f"its digest is {its_log.digest[:16]}…, this one's is {log.digest[:16]}…",
                next_step="two databases claim one history: seed the passive again, then take a full backup",
                object=name,
            ) from None
        stored = found
    return StoredLog(log, stored.name, stored.size_bytes, stored.sha256)


def _as_checked(log: LogFile, path: Path) -> Iterator[bytes]:
    """The file's pieces; a segment's digest is that of the whole file, so it is seen to be the one that was checked.

    Raises:
        DamageFound: it is not, before the object exists.
    """
    if log.kind is not LogKind.SEGMENT:
        yield from file_pieces(path)
        return
    hasher = blake3_hasher()
    for piece in file_pieces(path):
        hasher.update(piece)
        yield piece
    if hasher.hexdigest() != log.digest:
        raise DamageFound(
            f"{path.name} is not what was checked",
            because="its bytes changed between the check and the archive",
            next_step=f"look who writes to {path}, then run the backup again",
        )


def read_through(store: ObjectStore, name: str) -> tuple[StoredObject, LogFile, str]:
    """Read a log object whole: its size and SHA-256, the log file that it is, and the label that stored it.

    What is encrypted is read without a key: its seal proves the bytes, its heads and block headers say what they are.

    Raises:
        DamageFound: it is damaged, also when read again.
    """
    return twice(store, name, lambda: _read_through(store, name))


def _read_through(store: ObjectStore, name: str) -> tuple[StoredObject, LogFile, str]:
    hasher = sha256_hasher()
    size = 0

    def pieces() -> Iterator[bytes]:
        nonlocal size
        for piece in store.read(name):
            hasher.update(piece)
            size += len(piece)
            yield piece

    head, blocks = unpack(name, pieces(), "log")
    if "encryption" in head:
        plain_bytes = sum(block.header.plain_bytes for block in blocks)
    else:
        plain_bytes = sum(len(piece) for piece in expand_stream(name, blocks))
    log, label = _log_in(name, head)
    if plain_bytes != log.size_bytes:
        raise damage(name, f"it expands to {plain_bytes} bytes, the log file has {log.size_bytes}")
    return StoredObject(name, size, hasher.hexdigest()), log, label


def _log_in(name: str, head: dict[str, Any]) -> tuple[LogFile, str]:
    try:
        return log_from_json(head["log"]), str(head["by"])
    except (KeyError, ValueError, TypeError) as problem:
        raise malformed(name, problem) from problem


def read_head(store: ObjectStore, name: str) -> tuple[LogFile, str]:
    """The log file of an object and the label that stored it, from its head. Raises DamageFound, ObjectMissing."""
    return _log_in(name, container.read_head(name, store.read_range(name, 0, container.HEAD_BYTES_MAX), "log"))


def check_log(store: ObjectStore, stored: StoredLog, keys: KeyFinder | None = None) -> int:
    """Read a log object and compare it with the record; answers with its bytes.

    Raises:
        DamageFound, ObjectMissing: as they say.
        KeyMissing: it is encrypted, and none of ``keys`` opens it.
    """

    def look() -> int:
        _take(store, stored, keys, lambda _: None)
        return stored.stored_bytes

    return twice(store, stored.name, look)


def fetch_log(store: ObjectStore, stored: StoredLog, to: Path, keys: KeyFinder | None = None) -> None:
    """Write the log file ``to`` (0600), whole and checked, or leave nothing there.

    Raises:
        DamageFound: the object is not what the record says.
        ObjectMissing: it is not there.
        NotHealthy: the file cannot be written.
        KeyMissing: it is encrypted, and none of ``keys`` opens it.
    """

    def look() -> None:
        with open(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            _take(store, stored, keys, file.write)

    step("archive.fetch_log")
    done = False
    try:
        twice(store, stored.name, look)
        done = True
    except OSError as problem:
        raise NotHealthy(
            f"cannot write {to}",
            because=problem.strerror or str(problem),
            next_step=f"look at the directory and its disk: df -h {to.parent}; ls -ld {to.parent}",
        ) from problem
    finally:
        if not done:
            with suppress(OSError):
                to.unlink(missing_ok=True)


def _take(store: ObjectStore, stored: StoredLog, keys: KeyFinder | None, write: Any) -> None:
    head, plain = unpack_stream(stored.name, hashed_pieces(store, stored.name, stored.sha256), "log", keys)
    log, _ = _log_in(stored.name, head)
    if not log.is_same_file(stored.log):
        raise damage(stored.name, "it is not the log file that the record names")
    size = 0
    for piece in plain:
        size += len(piece)
        if size > log.size_bytes:  # at once: what was not said to be there may be without end
            raise damage(stored.name, f"it expands to more than the {log.size_bytes} bytes of the log file")
        write(piece)
    if size != log.size_bytes:
        raise damage(stored.name, f"it expands to {size} bytes, the log file has {log.size_bytes}")
