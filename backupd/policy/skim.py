"""Skims a policy file for what two policies must not share, without judging it: its database's name and its files."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Skimmed:
    """What the file seems to be about; nothing where it cannot be read or is no TOML."""

    database: str = ""
    places: tuple[str, ...] = ()


def skim(path: Path) -> Skimmed:
    """Read the file's database and the places of its copies; a file that cannot be read says nothing."""
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except (OSError, ValueError, RecursionError):
        return Skimmed()  # whoever works on that database is told what is wrong with it
    copies = content.get("copies")
    tables = [copy for copy in copies.values() if isinstance(copy, dict)] if isinstance(copies, dict) else []
    places = [table.get(key) for table in tables for key in ("path", "data_directory")]
    database = content.get("database")
    return Skimmed(
        database if isinstance(database, str) else "", tuple(place for place in places if isinstance(place, str))
    )


def another_names(own: Path, database: str, places: Iterable[str]) -> bool:
    """Whether another policy beside ``own`` names the database, or one of its files or directories."""
    real = set(map(os.path.realpath, places))
    for path in own.parent.iterdir():
        if path.suffix == ".toml" and not path.name.startswith(".") and path != own:
            found = skim(path)
            if found.database == database or real.intersection(map(os.path.realpath, found.places)):
                return True
    return False
