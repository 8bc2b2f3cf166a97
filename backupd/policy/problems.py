"""Turns what is wrong in a TOML file into sentences with the line, the place and the nearest right name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from backupd.errors import ConfigInvalid

_TABLE = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: in which file and line (0: not known), at which dotted place, and what.

    ``database`` is the one that the file is about, where that could be read.
    """

    file: Path
    line: int
    place: str
    sentence: str
    database: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{where}: {self.place}: {self.sentence}" if self.place else f"{where}: {self.sentence}"

    def as_json(self) -> dict[str, str | int]:
        """The form that ``policy check --json`` uses."""
        return {"file": str(self.file), "line": self.line, "place": self.place, "problem": self.sentence}


class ProblemsAt(ValueError):
    """What a rule of a table found at places below it: their dotted parts, and a sentence for each."""

    def __init__(self, found: Sequence[tuple[Sequence[str], str]]) -> None:
        super().__init__("; ".join(sentence for _, sentence in found))
        self.found = found


def config_invalid(problems: Sequence[Problem], what: str, next_step: str) -> ConfigInvalid:
    """The error that lists every problem."""
    return ConfigInvalid(
        what,
        because="; ".join(str(problem) for problem in problems),
        next_step=next_step,
        problems=[problem.as_json() for problem in problems],
    )


def problems_of(
    error: ValidationError, model: type[BaseModel], *, file: Path, text: str, content: dict[str, Any]
) -> list[Problem]:
    """Every finding of pydantic, in our words; ``content`` is what ``text`` says."""
    named = content.get("database")
    database = named if isinstance(named, str) else ""
    findings = [
        problem
        for found in error.errors(include_url=False)
        for problem in _problems_of_one(dict(found), model, file, text)
    ]
    return [replace(problem, database=database) for problem in findings]


def _problems_of_one(found: dict[str, Any], model: type[BaseModel], file: Path, text: str) -> list[Problem]:
    reason = found.get("ctx", {}).get("error")
    if not isinstance(reason, ProblemsAt):
        return [_problem_of(found, model, file, text)]
    above = [str(part) for part in found["loc"]]
    places = [([*above, *below], sentence) for below, sentence in reason.found]
    return [Problem(file, line_of(text, parts), ".".join(parts), sentence) for parts, sentence in places]


def _problem_of(found: dict[str, Any], model: type[BaseModel], file: Path, text: str) -> Problem:
    parts = [str(part) for part in found["loc"] if part != "[key]"]
    place = ".".join(parts)
    kind, given = found["type"], found.get("input")
    if kind == "extra_forbidden":
        sentence = _unknown_key(parts, model)
    elif kind == "missing":
        sentence = "it is missing, and has no default"
    elif kind == "value_error":
        sentence = str(found["ctx"]["error"])
    elif kind == "literal_error":
        sentence = f"{given!r} is none of {found['ctx']['expected']}"
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        sentence = f"{given!r} is not a table; write [{place}]"
    else:
        message = str(found["msg"]).removeprefix("Input ")
        sentence = f"{given!r} {message[:1].lower()}{message[1:]}"
    return Problem(file, line_of(text, parts), place, sentence)


def _unknown_key(parts: list[str], model: type[BaseModel]) -> str:
    key, known = parts[-1], _names_at(parts[:-1], model)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        return f"there is no such key; did you mean {'.'.join([*parts[:-1], near[0]])}?"
    # The right key in the wrong table is as common as a slip of the pen.
    elsewhere = [place for place in _all_places(model) if place.rpartition(".")[2] == key]
    if elsewhere:
        return f"there is no such key here; did you mean {elsewhere[0]}?"
    return f"there is no such key; known here are {', '.join(known)}"


def _names_at(parts: list[str], model: type[BaseModel]) -> list[str]:
    """The keys that the table at this place may have."""
    current = model
    walk = iter(parts)
    for part in walk:
        field = current.model_fields.get(part)
        if field is None:
            return []
        inner = _section_in(field.annotation)
        if inner is None:
            return []
        if not _is_model(field.annotation):
            next(walk, None)  # a table of named tables: the name itself is free
        current = inner
    return sorted(current.model_fields)


def _all_places(model: type[BaseModel], above: str = "") -> list[str]:
    places: list[str] = []
    for name, field in model.model_fields.items():
        inner = _section_in(field.annotation)
        if inner is not None and _is_model(field.annotation):
            places.extend(_all_places(inner, f"{above}{name}."))
        places.append(f"{above}{name}")
    return places


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The table that a field holds, directly or as values of a dict."""
    candidates = [annotation, *get_args(annotation)]
    return next((found for found in candidates if _is_model(found)), None)


def line_of(text: str, parts: Sequence[str]) -> int:
    """The line (from 1) where this key or table is written, or the nearest table above it; 0 when there is none."""
    best_depth, best_line = 0, 0
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = _TABLE.fullmatch(line), _KEY.match(line)
        if header is not None:
            table = _split(header[1])
            here = table
        elif key is not None:
            here = [*table, *_split(key[1])]
        else:
            continue
        depth = min(len(here), len(parts))
        if depth > best_depth and here[:depth] == list(parts[:depth]):
            best_depth, best_line = depth, number
    return best_line


def _split(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]
