"""SQLite's own check of a file that nobody else has open."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from backupd.steps import step

_PRAGMAS = {"quick": "PRAGMA quick_check(20)", "full": "PRAGMA integrity_check(20)"}


def check_file(path: Path, level: str) -> Sequence[str]:
    """Findings of ``quick_check`` or ``integrity_check``, empty when sound; the file is opened ``immutable``.

    ``immutable=1`` (sqlite uri): no lock, no ``-wal`` and no ``-shm`` is made beside it.
    """
    step("check.open")
    try:
        connection = sqlite3.connect(f"{uri_of(path)}?immutable=1", uri=True)
        try:
            rows = [str(row[0]) for row in connection.execute(_PRAGMAS[level])]
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [str(error)]
    return [] if rows == ["ok"] else rows


def uri_of(path: Path) -> str:
    """The URI of a file, whatever its name holds."""
    name = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{name}"
