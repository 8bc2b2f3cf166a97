"""From a record of logging to one line, step by step; each step has the form of structlog's processors.

Nothing but the standard library is needed here: the processes that replicate a
SQLite pair live as long as the service and are kept small.  The service and its
runs take the same steps inside of structlog (chain.py).
"""

from __future__ import annotations

import json
import logging
import math
import re
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

from backupd.known_secrets import is_secret_name, masked
from backupd.lines.bound import bound
from backupd.lines.settings import LineForm
from backupd.model.masking import MASK

Entry = MutableMapping[str, Any]
Step = Callable[[Any, str, Entry], Entry]

RECORD = "_record"
# A line over 48 KiB is cut in two by systemd's journal, and JSON that is cut is none.
_VALUE_LETTERS_MAX = 6_000
_LINE_LETTERS_MAX = 40_000
_FIRST = ("time", "level", "from", "event")
_BARE = re.compile(r"[A-Za-z0-9._\-+:/@%,]+")
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_.-]")
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def described(_: Any, __: str, entry: Entry) -> Entry:
    """Time, level, logger and event of the record, then what is bound, then the event's own facts and its traceback."""
    record: logging.LogRecord = entry[RECORD]
    own = getattr(record, "facts", None)
    facts: dict[str, Any] = {
        **bound(),
        **{name: value for name, value in entry.items() if name not in _OWN_NAMES},
        **(own if isinstance(own, Mapping) else {}),
    }
    if exc_info := entry.get("exc_info") or record.exc_info:
        facts["traceback"] = "".join(traceback.format_exception(*exc_info)).rstrip("\n")
    if record.stack_info:
        facts["stack"] = record.stack_info
    found: dict[str, Any] = {
        "time": time_of(record),
        "level": record.levelname.lower(),
        "from": record.name,
        "event": entry["event"],
    }
    for name, value in facts.items():
        name = str(name)
        found[f"{name}_" if name in _FIRST else name] = value
    return found


def time_of(record: logging.LogRecord) -> str:
    """When it happened, in UTC, as RFC 3339 writes it."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


_OWN_NAMES = frozenset({RECORD, "_from_structlog", "event", "exc_info", "stack_info"})


def without_secrets(_: Any, __: str, entry: Entry) -> Entry:
    """Every name and every value, however deep, as plain JSON without a secret, cut where it is too long.

    It is done before the line is put together: afterwards escapes would hide what is looked for.
    """
    return {_NOT_A_NAME.sub("_", _text(name)) or "_": _called(name, value) for name, value in entry.items()}


def _called(name: Any, value: Any) -> Any:
    return MASK if isinstance(value, str | bytes | int) and is_secret_name(str(name)) else _plain(value)


def _plain(value: Any) -> Any:
    match value:
        case None | bool():
            return value
        case int() | float():
            shown = _text(value)
            # A secret may be a number; and infinity is no JSON.
            return shown if shown != str(value) or not math.isfinite(value) else value
        case Mapping():
            return {_text(name): _called(name, each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(each) for each in value]
        case datetime():
            return value.isoformat()
    return _text(value)


def _text(value: Any) -> str:
    """As text that UTF-8 can carry; masked before it is cut, for half a secret would not be known."""
    raw = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes | bytearray) else str(value)
    text = masked(raw.encode("utf-8", "backslashreplace").decode())
    if len(text) <= _VALUE_LETTERS_MAX:
        return text
    half = _VALUE_LETTERS_MAX // 2
    return f"{text[:half]} ... {len(text) - 2 * half} letters ... {text[-half:]}"


def as_json(_: Any, __: str, entry: Entry) -> str:
    """One object on one line, in ASCII, so that nothing in it ends a line."""
    line = json.dumps(entry, ensure_ascii=True)
    return line if len(line) <= _LINE_LETTERS_MAX else json.dumps(_shortened(entry), ensure_ascii=True)


def as_human(_: Any, __: str, entry: Entry) -> str:
    """``time=... level=info from=service event="..." database=orders``."""
    line = _pairs(entry)
    return line if len(line) <= _LINE_LETTERS_MAX else _pairs(_shortened(entry))


def _shortened(entry: Entry) -> Entry:
    """Of a line that is still too long: what it is about, and which facts are left out."""
    kept = {
        name: str(value)[:500] for name, value in entry.items() if name in {*_FIRST, "run", "database", "traceback"}
    }
    return kept | {"left_out": len(entry) - len(kept)}


def _pairs(entry: Entry) -> str:
    return " ".join(f"{name}={quoted(value)}" for name, value in entry.items())


def quoted(value: object) -> str:
    """The value bare when it may be, else in double quotes with escapes; what is no letter is escaped, too."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if _BARE.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not escaped.isprintable():
        escaped = "".join(one if one.isprintable() else _escape(one) for one in escaped)
    return f'"{escaped}"'


def _escape(letter: str) -> str:
    return _ESCAPES.get(letter) or letter.encode("unicode_escape").decode("ascii")


STEPS: tuple[Step, ...] = (described, without_secrets)
RENDERERS: dict[LineForm, Callable[[Any, str, Entry], str]] = {LineForm.HUMAN: as_human, LineForm.JSON: as_json}
