"""Skims a policy file for what two policies must not share, without judging it: its database's name and its files."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_DATABASE = re.compile(r"""^database\s*=\s*["']([^"'\n]*)["']""", re.MULTILINE)
_PATH = re.compile(r"""["'](/[^"'\n]*)["']""")


@dataclass(frozen=True, slots=True)
class Skimmed:
    """What the file seems to be about; nothing where it cannot be read or is no TOML."""

    database: str = ""
    places: tuple[str, ...] = ()


def skim(path: Path) -> Skimmed:
    """Read the file's database and the places of its copies; a file that cannot be read says nothing."""
    try:
        text = path.read_text(encoding="utf-8")
        if plain := _plain(text):
            return plain
        content = tomllib.loads(text)
    except (OSError, ValueError, RecursionError):
        return Skimmed()  # whoever works on that database is told what is wrong with it
    copies = content.get("copies")
    tables = [copy for copy in copies.values() if isinstance(copy, dict)] if isinstance(copies, dict) else []
    places = [table.get(key) for table in tables for key in ("path", "data_directory")]
    database = content.get("database")
    return Skimmed(
        database if isinstance(database, str) else "", tuple(place for place in places if isinstance(place, str))
    )


def _plain(text: str) -> Skimmed | None:
    """The same without reading the TOML, which takes most of the time: every quoted path counts as a place.

    None where the words may hide: escapes, long strings, a database that is not named at the start of a line.
    """
    named = _DATABASE.findall(text)
    if len(named) != 1 or "\\" in text or "'''" in text or '"""' in text:
        return None
    return Skimmed(named[0], tuple(_PATH.findall(text)))


def another_names(own: Path, database: str, places: Iterable[str]) -> bool:
    """Whether another policy beside ``own`` names the database, or one of its files or directories."""
    real = set(map(os.path.realpath, places))
    for path in own.parent.iterdir():
        if path.suffix == ".toml" and not path.name.startswith(".") and path != own:
            found = skim(path)
            if found.database == database or real.intersection(map(os.path.realpath, found.places)):
                return True
    return False
