"""Skims a policy file for what two policies must not share, without judging it: its database's name and its files."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backupd.policy.schema import Policy

_DATABASE = re.compile(r"""^database\s*=\s*["']([^"'\n]*)["']""", re.MULTILINE)
_INCLUDE = re.compile(r"""^include\s*=\s*\[((?:\s*["'][^"'\\\n]*["']\s*,?)*)\s*\][ \t]*$""", re.MULTILINE)
_QUOTED = re.compile(r"""["']([^"']*)["']""")
_PATH = re.compile(r"""["'](/[^"'\n]*)["']""")


@dataclass(frozen=True, slots=True)
class Skimmed:
    """What the file seems to be about; nothing where it cannot be read or is no TOML."""

    database: str = ""
    places: tuple[str, ...] = ()
    archive: str = ""
    second: str = ""


def skim(path: Path, dull: dict[str, bool] | None = None) -> Skimmed:
    """Read the file's database, the places of its copies, and its archives; a file that cannot be read says nothing.

    ``dull`` remembers between calls which included files say nothing of that.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if plain := _plain(text, path, {} if dull is None else dull):
            return plain
        content = _with_includes(path, text)
    except (OSError, ValueError, RecursionError):
        return Skimmed()  # whoever works on that database is told what is wrong with it
    copies = content.get("copies")
    tables = [copy for copy in copies.values() if isinstance(copy, dict)] if isinstance(copies, dict) else []
    places = [table.get(key) for table in tables for key in ("path", "data_directory")]
    second = content.get("second_archive")
    return Skimmed(
        _text(content.get("database")),
        tuple(place for place in places if isinstance(place, str)),
        _text(content.get("archive")),
        _text(second.get("url")) if isinstance(second, dict) else "",
    )


def _includes_only_dull(text: str, path: Path, dull: dict[str, bool]) -> bool:
    """Whether what the file includes, in one plain line, names no database, no copies, and no more files."""
    lines = _INCLUDE.findall(text)
    if len(lines) != 1 or text.count("include") != lines[0].count("include") + 1:
        return False
    for name in _QUOTED.findall(lines[0]):
        place = os.path.join(path.parent, name)
        if place not in dull:
            content = tomllib.loads(Path(place).read_text(encoding="utf-8"))
            dull[place] = not content.keys() & {"database", "copies", "second_archive", "include"}
        if not dull[place]:
            return False
    return True


def _with_includes(path: Path, text: str) -> dict[str, Any]:
    if "include" not in text:
        return tomllib.loads(text)
    from backupd.policy.written import parse_written

    written, _ = parse_written(text, path)
    return {} if written is None else written.content()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _plain(text: str, path: Path, dull: dict[str, bool]) -> Skimmed | None:
    """The same without reading the TOML, which takes most of the time: every quoted path counts as a place.

    None where the words may hide: escapes, long strings, a database that is not named at the start of a line, an
    included file that has some; or where there is a second archive.
    """
    if "include" in text and not _includes_only_dull(text, path, dull):
        return None
    named = _DATABASE.findall(text)
    if len(named) != 1 or any(word in text for word in ("\\", "'''", '"""', "second_archive")):
        return None
    return Skimmed(named[0], tuple(_PATH.findall(text)))


def stands_alone(own: Path, policy: Policy) -> bool:
    """Whether no policy beside ``own`` names its database or one of its places.

    Where second archives are named, what two policies may share is judged with all of them read whole.
    """
    ours = set(map(os.path.realpath, (copy.place for copy in policy.copies.values())))
    second = policy.second_archive.url if policy.second_archive is not None else ""
    dull: dict[str, bool] = {}
    for path in own.parent.iterdir():
        if path.suffix == ".toml" and not path.name.startswith(".") and path != own:
            found = skim(path, dull)
            if found.database == policy.database or ours.intersection(map(os.path.realpath, found.places)):
                return False
            if second or found.second:
                return False
    return True
