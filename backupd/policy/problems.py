"""Turns what is wrong in a TOML file into sentences with the file, the line, the place and the right form."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backupd.errors import ConfigInvalid

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic.fields import FieldInfo

    from backupd.policy.written import Written

# A key of such a name would hold a secret, whatever table it was meant for.
_SECRET_NAME = re.compile(r"pass(word|phrase|wd)|secret|token|(api|access|private)_?key|credential", re.IGNORECASE)


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


def problems_of(error: ValidationError, model: type[BaseModel], written: Written) -> list[Problem]:
    """Every finding of pydantic, in our words, where the file was written."""
    named = written.given(["database"])
    database = named if isinstance(named, str) else ""
    problems: list[Problem] = []
    for found in error.errors(include_url=False):
        for parts, sentence in _sentences(dict(found), model, written):
            file, line = written.where(parts)
            problems.append(Problem(file, line, ".".join(parts), sentence, database))
    return problems


def _sentences(found: dict[str, Any], model: type[BaseModel], written: Written) -> list[tuple[list[str], str]]:
    parts = [str(part) for part in found["loc"] if part != "[key]"]
    reason = found.get("ctx", {}).get("error")
    if isinstance(reason, ProblemsAt):
        return [([*parts, *below], sentence) for below, sentence in reason.found]
    return [(parts, _sentence(found, parts, model, written))]


def _sentence(found: dict[str, Any], parts: list[str], model: type[BaseModel], written: Written) -> str:
    from backupd.policy.value_words import missing, value_sentence

    kind = found["type"]
    if kind == "extra_forbidden":
        return _unknown_key(parts, model)
    if kind == "missing":
        return missing(_field_at(parts, model))
    if kind == "value_error":
        return str(found["ctx"]["error"])
    return value_sentence(found, written.given(parts), ".".join(parts), _field_at(parts, model))


def _unknown_key(parts: list[str], model: type[BaseModel]) -> str:
    key, known = parts[-1], _names_at(parts[:-1], model)
    if _SECRET_NAME.search(key):
        return f"there is no such key, and a secret never stands in a file that is kept in git; {_safe_place(parts)}"
    near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.5)
    if near:
        return f"there is no such key; did you mean {'.'.join([*parts[:-1], near[0]])}?"
    # The right key in the wrong table is as common as a slip of the pen.
    elsewhere = [place for place in _all_places(model) if place.rpartition(".")[2] == key]
    if elsewhere:
        return f"there is no such key here; did you mean {elsewhere[0]}?"
    return f"there is no such key; known here are {', '.join(known)}"


def _safe_place(parts: list[str]) -> str:
    if "s3" in parts:
        return "boto3 finds credentials by itself: ~/.aws/credentials, AWS_PROFILE, or the role of the host"
    if "copies" in parts or "postgres" in parts:
        return "put it into ~/.pgpass, a PGPASSFILE or a service file of the user that runs backupd"
    if "encryption" in parts:
        return (
            "name recipients (age1...); a private key or a passphrase is given to a restore: --key, --passphrase-file"
        )
    return "no policy needs one: databases have ~/.pgpass, buckets boto3's own places, restores --key FILE"


def _field_at(parts: list[str], model: type[BaseModel]) -> FieldInfo | None:
    """What may stand at this place; None where nothing is known of it."""
    above = _table_at(parts[:-1], model)
    if above is not None and parts[-1:]:
        return above.model_fields.get(parts[-1]) or None
    return None


def _names_at(parts: list[str], model: type[BaseModel]) -> list[str]:
    """The keys that the table at this place may have."""
    table = _table_at(parts, model)
    return sorted(table.model_fields) if table is not None else []


def _table_at(parts: list[str], model: type[BaseModel]) -> type[BaseModel] | None:
    from backupd.policy.value_words import holds_many, section_in

    current = model
    walk = iter(parts)
    for part in walk:
        field = current.model_fields.get(part)
        inner = section_in(field.annotation) if field is not None else None
        if field is None or inner is None:
            return None
        if holds_many(field.annotation):
            next(walk, None)  # the name or number of one of them
        current = inner
    return current


def _all_places(model: type[BaseModel], above: str = "") -> list[str]:
    from backupd.policy.value_words import is_section

    places: list[str] = []
    for name, field in model.model_fields.items():
        if is_section(field.annotation):
            places.extend(_all_places(field.annotation, f"{above}{name}."))  # type: ignore[arg-type]
        places.append(f"{above}{name}")
    return places
