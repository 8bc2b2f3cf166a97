"""A TOML file as it was written, with what it includes: which value counts, and in which file and line it stands."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.policy.problems import Problem
from backupd.policy.toml_words import syntax_sentence

INCLUDE = "include"
_INCLUDE_DEPTH_MAX = 4
_INCLUDED_FILES_MAX = 32
_FILE_BYTES_MAX = 2**20
_TABLE = re.compile(r"\s*(\[{1,2})\s*([^\[\]]+?)\s*\]{1,2}\s*(?:#.*)?")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_PART = re.compile(r"[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'")
_LONG_TEXT = re.compile(r"'''|\"\"\"")


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """One file: its text, and what the text says."""

    path: Path
    text: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """A file and all that it includes; ``files`` begins with itself, and an earlier one wins over a later one."""

    files: tuple[WrittenFile, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that has a say."""
        return tuple(file.path for file in self.files)

    def content(self) -> dict[str, Any]:
        """What all the files say together: tables are merged key by key."""
        merged: dict[str, Any] = {}
        for file in reversed(self.files):
            merged = _merged(merged, {key: value for key, value in file.content.items() if key != INCLUDE})
        own = self.files[0].content
        return {**merged, INCLUDE: own[INCLUDE]} if INCLUDE in own else merged

    def where(self, parts: Sequence[str]) -> tuple[Path, int]:
        """The file and the line (from 1) that a sentence about this place is about.

        It is where the key is written that counts, or else the nearest table above it.
        """
        depths = [_depth(file.content, parts) for file in self.files]
        file = self.files[depths.index(max(depths))]
        return file.path, line_of(file.text, parts)

    def given(self, parts: Sequence[str]) -> Any:
        """The value at this place as it was written; None when there is none."""
        value: Any = self.content()
        for part in parts:
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                return None
        return value


def read_written(path: Path) -> tuple[Written | None, list[Problem]]:
    """The file with what it includes, or None and why not. Never raises."""
    text, problems = _read_text(path)
    return (None, problems) if text is None else parse_written(text, path)


def parse_written(text: str, path: Path) -> tuple[Written | None, list[Problem]]:
    """The same of a text that is, or would be, the file at ``path``."""
    own, problems = _parse(text, path)
    if own is None:
        return None, problems
    files = [own]
    problems = _include(own, files, (os.path.realpath(path),))
    return (None, problems) if problems else (Written(tuple(files)), [])


def include_root(path: Path) -> Path:
    """What a policy's includes must lie in: the git repository (or the followed commit) around its folder, or that."""
    from backupd.policy.checkout import followed_commit

    folder = Path(os.path.realpath(path.absolute().parent))
    if (followed := followed_commit(folder)) is not None:
        return followed.root
    for above in (folder, *folder.parents):
        if os.path.lexists(above / ".git"):
            return above
    return folder


def _include(file: WrittenFile, files: list[WrittenFile], chain: tuple[str, ...]) -> list[Problem]:
    """Append what ``file`` includes, and what that includes, to ``files``; later ones of a list win over earlier."""
    wanted = file.content.get(INCLUDE, [])
    if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
        return [_at(file, f'it is not a list of files; write {INCLUDE} = ["../defaults/common.toml"]')]
    problems: list[Problem] = []
    for name in reversed(wanted):
        place = os.path.realpath(file.path.absolute().parent / name) if "\0" not in name else ""
        if refusal := _refusal(name, place, files, chain):
            problems.append(_at(file, refusal))
            continue
        if Path(place) in (one.path for one in files):
            continue  # two ways to one file: it has its say once, where it weighs more
        text, found = _read_text(Path(place))
        if text is None:
            problems.append(_at(file, f"{name!r}: {found[0].sentence}"))
            continue
        included, found = _parse(text, Path(place))
        if included is None:
            problems += found
            continue
        if "database" in included.content:
            sentence = "an included file is of several databases and names none; put it into each policy"
            problems.append(Problem(included.path, line_of(text, ["database"]), "database", sentence))
        files.append(included)
        problems += _include(included, files, (*chain, place))
    return problems


def _refusal(name: str, place: str, files: list[WrittenFile], chain: tuple[str, ...]) -> str:
    """Why this file may not be included; empty when it may."""
    if not place or name.startswith("/"):
        return f"{name!r} is not relative to this file; write it like ../defaults/common.toml"
    own = files[0].path
    if not Path(place).is_relative_to(include_root(own)):
        return f"{name!r} lies outside; an included file lies in the policy's folder or in the git repository around it"
    if place in chain:
        return f"{name!r} includes itself: {' includes '.join(Path(one).name for one in (*chain, place))}"
    if len(chain) > _INCLUDE_DEPTH_MAX:
        return f"{name!r} is included {len(chain)} deep; at most {_INCLUDE_DEPTH_MAX}"
    if len(files) > _INCLUDED_FILES_MAX:
        return f"there are more than {_INCLUDED_FILES_MAX} included files"
    if os.path.dirname(place) == os.path.realpath(own.absolute().parent) and place.endswith(".toml"):
        return f"{name!r} lies among the policies and would be taken for one; put it into a folder, like defaults/"
    return ""


def _at(file: WrittenFile, sentence: str) -> Problem:
    return Problem(file.path, line_of(file.text, [INCLUDE]), INCLUDE, sentence)


def _read_text(path: Path) -> tuple[str | None, list[Problem]]:
    try:
        with path.open("rb") as file:
            raw = file.read(_FILE_BYTES_MAX + 1)
        if len(raw) > _FILE_BYTES_MAX:
            return None, [Problem(path, 0, "", "it is over 1 MiB; this is no policy")]
        return raw.decode("utf-8"), []
    except OSError as error:
        return None, [Problem(path, 0, "", f"it cannot be read: {(error.strerror or str(error)).lower()}")]
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return None, [Problem(path, line, "", "it is not UTF-8 text; save it as UTF-8")]


def _parse(text: str, path: Path) -> tuple[WrittenFile | None, list[Problem]]:
    try:
        return WrittenFile(path, text, tomllib.loads(text)), []
    except tomllib.TOMLDecodeError as error:
        line, sentence = syntax_sentence(str(error), text)
        return None, [Problem(path, line, "", sentence)]
    except RecursionError:
        return None, [Problem(path, 0, "", "it is not TOML: nested too deep")]


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = _merged(under, value) if both and under is not None else value
    return merged


def _depth(content: Any, parts: Sequence[str]) -> int:
    """How many of the parts, from the left, the content has."""
    for depth, part in enumerate(parts):
        if not isinstance(content, Mapping) or part not in content:
            return depth
        content = content[part]
    return len(parts)


def line_of(text: str, parts: Sequence[str]) -> int:
    """The line (from 1) where this key or table is written, or the nearest table above it, or the first; 0: no text.

    A part that is a number counts the tables of a list, ``[[pages]]``.
    """
    if not text.strip() or not parts:
        return 0
    best_depth, best_line = 0, 1
    table: list[str] = []
    counted: dict[str, int] = {}
    for number, line in _lines(text):
        header, key = _TABLE.fullmatch(line), _KEY.match(line)
        if header is not None:
            table = _split(header[2])
            if header[1] == "[[":
                counted[header[2]] = counted.get(header[2], -1) + 1
                table.append(str(counted[header[2]]))
            here = table
        elif key is not None:
            here = [*table, *_split(key[1])]
        else:
            continue
        depth = min(len(here), len(parts))
        if depth > best_depth and here[:depth] == list(parts[:depth]):
            best_depth, best_line = depth, number
    return best_line


def _lines(text: str) -> list[tuple[int, str]]:
    """The numbered lines; those inside a text of several lines are left out."""
    lines: list[tuple[int, str]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not inside:
            lines.append((number, line))
        inside ^= len(_LONG_TEXT.findall(line)) % 2 == 1
    return lines


def _split(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]
