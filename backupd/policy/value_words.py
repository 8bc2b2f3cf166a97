"""Says why a value cannot stand where it does, with the right form; long or secret values are never repeated."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from backupd.policy.units import read_duration, read_size, said_duration, said_size

_SHOWN_MAX = 60
_LOOKS_SECRET = re.compile(
    r"://[^/@\s]*@|AGE-SECRET-KEY-|PRIVATE KEY|pass(word|phrase)|secret|AKIA[0-9A-Z]{12}", re.IGNORECASE
)
_TOO_SMALL = {"greater_than": ("gt", "more than"), "greater_than_equal": ("ge", "at least")}
_TOO_LARGE = {"less_than": ("lt", "less than"), "less_than_equal": ("le", "at most")}


def shown(value: Any) -> str:
    """The value as a file has it, cut where it is long; only its kind where it may be a secret."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    text = repr(value)
    if _LOOKS_SECRET.search(text):
        return "this text"
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 4]}...{text[:1]}"


def value_sentence(found: Mapping[str, Any], given: Any, place: str, field: FieldInfo | None) -> str:
    """What is wrong with one value.

    Args:
        found: pydantic's finding.
        given: the value as it was written.
        place: its dotted place.
        field: what stands there, where that is known.
    """
    kind, limits = str(found["type"]), found.get("ctx", {})
    said = shown(given)
    if kind == "literal_error":
        return _choice(given, said, str(limits["expected"]), field)
    if kind in _TOO_SMALL:
        name, word = _TOO_SMALL[kind]
        return f"{said} is too little; {word} {_limit(limits[name], field)}"
    if kind in _TOO_LARGE:
        name, word = _TOO_LARGE[kind]
        return f"{said} is too much; {word} {_limit(limits[name], field)}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        many = field is not None and holds_many(field.annotation)
        return f"{said} is not a table; write [{place}{'.NAME' if many else ''}]"
    if kind == "string_too_short":
        return "it is empty; write something, or leave the key out"
    if kind == "string_too_long":
        return f"it is too long; at most {limits['max_length']} letters"
    form = _right_form(kind, given, field)
    if form:
        return f"{said} is {form}"
    message = str(found["msg"]).removeprefix("Input ")
    return f"{said} {message[:1].lower()}{message[1:]}"


def _right_form(kind: str, given: Any, field: FieldInfo | None) -> str:
    unit = _unit(field)
    if kind == "finite_number":
        return "no number to reckon with; write a finite one"
    if unit == "size" and kind.startswith(("int_", "float_")):
        return "not a size; write it like 4MiB, 1GiB or as a number of bytes"
    if unit == "duration" and kind.startswith(("int_", "float_")):
        return "not a duration; write it like 20s, 10min, 2h or as a number of seconds"
    if kind.startswith(("int_", "float_")):
        if isinstance(given, str) and (match := re.fullmatch(r"\s*(\d+)\s*[a-z]*\s*", given)):
            return f"not a whole number; write the number alone, without quotes: {match[1]}"
        return "not a whole number; write it like 4"
    if kind == "bool_type":
        return "not a switch; write true or false, without quotes"
    if kind == "string_type":
        plain = isinstance(given, int | float) and not isinstance(given, bool)
        return (
            f'not text; write it in quotes: "{shown(given)}"' if plain else 'not text; write it in quotes, like "..."'
        )
    if kind == "list_type":
        one = said_value(given) if isinstance(given, str) and not _LOOKS_SECRET.search(given) else '"...", "..."'
        return f"not a list; write it like [{one}]"
    return ""


def missing(field: FieldInfo | None) -> str:
    """The sentence for a key that must be there, with its choices or what it is for."""
    sentence = "it is missing, and has no default"
    if field is not None and (choices := _choices(field.annotation)):
        return f"{sentence}; it is one of {', '.join(map(repr, choices))}"
    about = (field.description or "") if field is not None else ""
    return f"{sentence}: {about[:1].lower()}{about[1:].rstrip('.')}" if about else sentence


def _choice(given: Any, said: str, expected: str, field: FieldInfo | None) -> str:
    sentence = f"{said} is none of {expected}"
    known = [str(word) for word in _choices(field.annotation)] if field is not None else []
    near = difflib.get_close_matches(str(given).lower(), known, n=1, cutoff=0.6)
    return f"{sentence}; did you mean {near[0]!r}?" if near else sentence


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for one in get_args(annotation) if (found := _choices(one))), ())


def _limit(value: float, field: FieldInfo | None) -> str:
    unit = _unit(field)
    if unit == "size":
        return said_size(int(value))
    if unit == "duration":
        return said_duration(float(value))
    return f"{value:g}"


def _unit(field: FieldInfo | None) -> str:
    """``size`` or ``duration`` for fields that have one."""
    if field is None:
        return ""
    readers = {getattr(one, "func", None) for one in [*field.metadata, *_metadata(field.annotation)]}
    return "size" if read_size in readers else "duration" if read_duration in readers else ""


def _metadata(annotation: Any) -> list[Any]:
    own = list(getattr(annotation, "__metadata__", ()))
    return own + [one for inner in get_args(annotation) for one in getattr(inner, "__metadata__", ())]


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The table that a field holds: directly, or as None's other choice, or as the values of a table of tables."""
    if is_section(annotation):
        return annotation  # type: ignore[no-any-return]
    return next((found for inner in get_args(annotation) if (found := section_in(inner)) is not None), None)


def is_section(annotation: Any) -> bool:
    """Whether a field holds a table directly."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def holds_many(annotation: Any) -> bool:
    """Whether it is a table or list of tables, so that a name or a number stands between."""
    if get_origin(annotation) in (dict, list, tuple, Mapping):
        return True
    return any(holds_many(inner) for inner in get_args(annotation) if not is_section(inner))


def said_value(value: Any) -> str:
    """A value whole, as a file has it, for one line."""
    if isinstance(value, list):
        return f"[{', '.join(said_value(one) for one in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {said_value(one)}' for key, one in value.items())}}}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:g}" if isinstance(value, float) else shown(value)
