"""Which stored files the pages of one file come from."""

from __future__ import annotations

from collections.abc import Sequence

from backupd.model.records import ArchivedBackup, StoredFile


def bases_of_file(pages_from: Sequence[ArchivedBackup], wanted: StoredFile) -> tuple[StoredFile, ...]:
    """The files that an express file builds on, the one with all its pages first; none for any other file.

    Args:
        pages_from: the plain full, and each express that builds on it; the last one has ``wanted``.
        wanted: the file, which is found in the others by its path.
    """
    found: list[StoredFile] = []
    at = wanted
    for backup in reversed(pages_from[:-1]):
        below = next((file for file in backup.record.files if file.path == wanted.path), None)
        if at.express is None or below is None:
            break
        found.append(below)
        at = below
    return tuple(reversed(found))
