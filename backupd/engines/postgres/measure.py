"""How long a cluster's files are: for certain when it is frozen, as they were a moment ago when it moves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from backupd.engines.postgres.cluster import PAGE_BYTES
from backupd.engines.postgres.data_files import real_path, unreadable
from backupd.engines.postgres.volume_table import Entry, Kind
from backupd.errors import DamageFound, FreezeBroken

_HELD_BYTES_MAX = 65536
_WITH_PAGES = frozenset({Kind.RELATION, Kind.PAGED})


@dataclass(frozen=True, slots=True)
class Measured:
    """The files of a frozen cluster as they lie in its snapshot: entries with sizes, and when each was written."""

    entries: tuple[Entry, ...]
    written_ns: Mapping[str, int]
    notes: tuple[str, ...]

    def check_unchanged(self, roots: Mapping[str, Path]) -> None:
        """Look at all files with pages again. Raises FreezeBroken: one was written."""
        for entry in self.entries:
            if entry.kind in _WITH_PAGES:
                facts = _facts(entry, roots)
                if facts is None or (facts.st_size, facts.st_mtime_ns) != (
                    entry.size_bytes,
                    self.written_ns[entry.path],
                ):
                    raise _broken(entry, "it was written after the freeze began")


def measure(entries: Iterable[Entry], roots: Mapping[str, Path]) -> Measured:
    """Look at each file where it lies in the snapshot.

    Raises:
        DamageFound: a file of pages does not end with a page.
        FreezeBroken: such a file is not there, or has not the size that it was found with.
        NotHealthy: a file cannot be looked at.
    """
    measured: list[Entry] = []
    written: dict[str, int] = {}
    notes: list[str] = []
    for entry in entries:
        if entry.kind == Kind.DIRECTORY:
            measured.append(entry)
            continue
        facts = _facts(entry, roots)
        if entry.kind in _WITH_PAGES:
            if facts is None:
                raise _broken(entry, "it was there when the freeze began, and is not in the snapshot")
            if facts.st_size != entry.size_bytes:
                raise _broken(entry, f"it has {facts.st_size} bytes, and had {entry.size_bytes} when the freeze began")
            if facts.st_size % PAGE_BYTES:
                raise DamageFound(
                    f"{real_path(entry.path, roots)} does not end with a page",
                    because=f"it has {facts.st_size} bytes, and pages have {PAGE_BYTES}",
                    next_step="seed the passive again: backupctl copy seed DATABASE",
                )
        if facts is None:
            notes.append(f"{entry.path} was removed before the snapshot was taken")
            continue
        measured.append(replace(entry, size_bytes=facts.st_size))
        written[entry.path] = facts.st_mtime_ns
    return Measured(tuple(measured), written, tuple(notes))


def hold_small_files(entries: Iterable[Entry], roots: Mapping[str, Path]) -> dict[str, bytes]:
    """The contents of the small plain files of a moving cluster, each read at once: settings may be replaced any time.

    Raises:
        NotHealthy: a file cannot be read; one that is not there any more is left out.
    """
    held: dict[str, bytes] = {}
    for entry in entries:
        if entry.kind == Kind.PLAIN and entry.size_bytes <= _HELD_BYTES_MAX:
            path = real_path(entry.path, roots)
            try:
                held[entry.path] = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise unreadable(path, error.strerror or str(error)) from error
    return held


def whole_pages(entries: Iterable[Entry], held: Mapping[str, bytes]) -> tuple[Entry, ...]:
    """The entries of a moving cluster with the sizes that are read: whole pages, and what is held as it is held."""
    sized = []
    for entry in entries:
        if entry.kind in _WITH_PAGES:
            sized.append(replace(entry, size_bytes=entry.size_bytes - entry.size_bytes % PAGE_BYTES))
        elif entry.path in held:
            sized.append(replace(entry, size_bytes=len(held[entry.path])))
        elif entry.kind == Kind.DIRECTORY or entry.size_bytes > _HELD_BYTES_MAX:
            sized.append(entry)
    return tuple(sized)


def _facts(entry: Entry, roots: Mapping[str, Path]) -> os.stat_result | None:
    path = real_path(entry.path, roots)
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error


def _broken(entry: Entry, because: str) -> FreezeBroken:
    return FreezeBroken(
        "the cluster's files did not stand still",
        because=f"{entry.path}: {because}",
        next_step="run the backup again; if it stays so, see who lets replay go on: backupctl status",
    )
