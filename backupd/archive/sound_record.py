"""What a record may say at all: whoever could write to the archive could write one, with the right sum on it.

A record's sum proves that it is what was written, and not who wrote it.  So nothing in it
is believed that would lead a restore out of its target or out of bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from backupd.archive.names import is_object_name
from backupd.model.position import Position
from backupd.model.records import BackupRecord, StoredFile, StoredLog, StoredMap, StoredSegment
from backupd.pipeline.compress import PLAIN_BYTES_MAX

_NUMBER_MAX = 2**63 - 1
_TEXT_MAX = 1 << 20
_PAGE_BYTES = range(512, 65536 + 1)
# Fewer bytes a super-block than this are for small files: each block costs memory.
_BLOCK_BYTES_MIN, _SMALL_BLOCKS_MAX = 1 << 19, 1 << 20
_NAME_BYTES_MAX = 255
_TIMELINE_MAX = 2**32 - 1


def check_record(record: BackupRecord, object_name: str) -> None:
    """Refuse what no backup can have said.

    Args:
        record: as it was read.
        object_name: of the record itself; what it names lies under the same database's prefix.

    Raises:
        ValueError: with a sentence; also for values of another kind than the field's.
    """
    for field, value, problem in _odd_values(record):
        raise ValueError(f"{field} is {_shown(value)}, {problem}")
    prefix = "/".join(object_name.split("/")[:2]) + "/"
    for stored in _objects(record):
        if not is_object_name(stored.name) or not stored.name.startswith(prefix):
            raise ValueError(f"it names {_shown(stored.name)}, which is no object of this database")
    paths: set[str] = set()
    for file in record.files:
        _check_path(file.path, paths)
        _check_sizes(file)
    if record.engine == "postgres":
        _check_timelines(record)


def _objects(record: BackupRecord) -> Iterator[StoredSegment | StoredMap | StoredLog]:
    for file in record.files:
        yield from file.segments
        yield file.map
    yield from record.logs


def _check_path(path: str, taken: set[str]) -> None:
    """A file's name is one plain name, whatever filesystem it goes to."""
    plain = path not in ("", ".", "..") and "/" not in path and "\0" not in path
    if not plain or len(path.encode()) > _NAME_BYTES_MAX:
        raise ValueError(f"{_shown(path)} is no name of a file")
    if path.casefold() in taken:
        raise ValueError(f"{_shown(path)} is in it twice")
    taken.add(path.casefold())


def _check_sizes(file: StoredFile) -> None:
    page_bytes = file.page_bytes
    if page_bytes not in _PAGE_BYTES or page_bytes & (page_bytes - 1):
        raise ValueError(f"{page_bytes} is no size of a page")
    if file.page_count * page_bytes != file.size_bytes:
        raise ValueError(f"{file.path} has {file.size_bytes} bytes, which are not {file.page_count} pages")
    stored_pages = file.express.stored_pages if file.express else file.page_count
    if stored_pages > file.page_count or file.map.page_count != stored_pages:
        raise ValueError(f"the page map of {file.path} is not one of {stored_pages} pages")
    block_bytes = file.block_pages * page_bytes
    if not 0 < block_bytes <= PLAIN_BYTES_MAX:
        raise ValueError(f"{file.block_pages} is no number of pages that are compressed together")
    if block_bytes < _BLOCK_BYTES_MIN and stored_pages > _SMALL_BLOCKS_MAX * file.block_pages:
        raise ValueError(f"{file.path} is cut into too many pieces of {block_bytes} bytes")
    if file.express is not None:
        express = file.express
        if express.runs > file.page_count or express.stored_pages + express.runs > 2 * file.page_count:
            raise ValueError(f"{file.path} has more runs than pages")
        if any(not 0 <= first <= last < file.page_count for first, last in express.spans):
            raise ValueError(f"a span of {file.path} is not in it")
    if any(not segment.page_count for segment in file.segments):
        raise ValueError(f"a segment of {file.path} holds no page")


def _check_timelines(record: BackupRecord) -> None:
    histories = {record.log_start.history, record.log_end.history, *(each.log.history for each in record.logs)}
    for history in histories:
        if not (history.isascii() and history.isdigit() and 0 < int(history[:11]) <= _TIMELINE_MAX):
            raise ValueError(f"{_shown(history)} is no timeline")


def _odd_values(value: Any, at: str = "") -> Iterator[tuple[str, object, str]]:
    """Fields whose value is not of the kind that the field has, all the way down."""
    for name, hint in _hints(value.__class__).items():
        yield from _odd(getattr(value, name), hint, f"{at}{name}")


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _odd(value: object, hint: Any, at: str) -> Iterator[tuple[str, object, str]]:
    if get_origin(hint) is UnionType:
        choices = get_args(hint)
        if value is None and type(None) in choices:
            return
        hint = next(choice for choice in choices if choice is not type(None))
    if get_origin(hint) is tuple:
        inner, *more = get_args(hint)
        if not isinstance(value, tuple):
            yield at, value, "not a list"
        elif more == [...]:
            for number, item in enumerate(value):
                yield from _odd(item, inner, f"{at}[{number}]")
        else:
            for item in value:
                yield from _odd(item, inner, at)
        return
    if isinstance(hint, type) and is_dataclass(hint):
        if not isinstance(value, hint):
            yield at, value, f"not a {hint.__name__}"
        elif hint is Position:
            yield from _odd(value.offset, int, f"{at}.offset")  # type: ignore[attr-defined]
        else:
            yield from _odd_values(value, f"{at}.")
        return
    yield from _odd_plain(value, hint, at)


def _odd_plain(value: object, hint: Any, at: str) -> Iterator[tuple[str, object, str]]:
    if hint is int:
        if type(value) is not int or not 0 <= value <= _NUMBER_MAX:
            yield at, value, "not a number from 0 to 2**63"
    elif hint is float:
        if type(value) not in (int, float) or not 0 <= float(str(value)) <= 1e12:
            yield at, value, "not a number of seconds"
    elif hint is str:
        if type(value) is not str or len(value) > _TEXT_MAX or any("\ud800" <= letter <= "\udfff" for letter in value):
            yield at, value, "not a text"
    elif hint is datetime:
        if not isinstance(value, datetime) or value.tzinfo is None:
            yield at, value, "not a time with its offset"
    elif isinstance(hint, type) and issubclass(hint, Enum) and not isinstance(value, hint):
        yield at, value, f"not a {hint.__name__}"


def _shown(value: object) -> str:
    return repr(value)[:60]
