"""What a record may say at all: whoever could write to the archive could write one, with the right sum on it.

A record's sum proves that it is what was written, and not who wrote it.  So nothing in it
is believed that would lead a restore out of its target or out of bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from backupd.archive.names import is_object_name
from backupd.model.position import Position
from backupd.model.records import (
    RESTORE_POINTS_MAX,
    BackupRecord,
    LogFile,
    StoredFile,
    StoredLog,
    StoredMap,
    StoredSegment,
)
from backupd.pipeline.compress import PLAIN_BYTES_MAX

_NUMBER_MAX = 2**63 - 1
_AMOUNT_MAX = 1e12
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
    odd = _check_of(BackupRecord)(record)
    if odd is not None:
        at, value, problem = odd
        raise ValueError(f"{at.removeprefix('.')} is {_shown(value)}, {problem}")
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
    for stored in record.logs:
        _check_names(stored.log)
        if record.engine == "postgres":
            _check_points(stored.log)


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


def _check_points(log: LogFile) -> None:
    """A restore point is in its log file, or begins at the end of the one before."""
    for point in log.restore_points or ():
        place, after = point.position, point.after
        inside = log.start.offset - _PAGE_BYTES.start <= place.offset < log.end.offset
        if (place.history, after) != (log.history, Position(log.history, place.offset + 1)) or not inside:
            raise ValueError(f"a restore point at {_shown(str(place))} is not in log file {log.number}")


def _check_names(log: LogFile) -> None:
    """Names of restore points are shown to people: they are few, short, and plain text."""
    for count, point in enumerate(log.restore_points or (), 1):
        if count > RESTORE_POINTS_MAX or not point.has_plain_name:
            raise ValueError(f"{_shown(point.name)} is no name of a restore point, or one of too many")


# Where in a value something is odd (nothing, or like ``.offset`` or ``[3].name``), what is there, and what is wrong.
Odd = tuple[str, object, str]
Check = Callable[[Any], Odd | None]


@cache
def _check_of(hint: Any) -> Check:
    """What looks whether a value is of the kind that a field has, all the way down; made once for each kind."""
    if get_origin(hint) is UnionType:
        inner = _check_of(next(choice for choice in get_args(hint) if choice is not type(None)))
        return lambda value: None if value is None else inner(value)
    if get_origin(hint) is tuple:
        return _check_of_items(*get_args(hint))
    if hint is Position:
        return _check_of_fields(hint, {"offset": int})
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint)
        return _check_of_fields(hint, {field.name: hints[field.name] for field in fields(hint)})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _check_of_plain(lambda value: isinstance(value, hint), f"not a {hint.__name__}")
    return _check_of_plain(*_PLAIN.get(hint, (lambda _: True, "")))


def _check_of_fields(kind: type[Any], hints: Mapping[str, Any]) -> Check:
    checks = [(name, _check_of(hint)) for name, hint in hints.items()]

    def check(value: Any) -> Odd | None:
        if not isinstance(value, kind):
            return "", value, f"not a {kind.__name__}"
        for name, look in checks:
            odd = look(getattr(value, name))
            if odd is not None:
                return f".{name}{odd[0]}", odd[1], odd[2]
        return None

    return check


def _check_of_items(item: Any, *more: Any) -> Check:
    look, is_list = _check_of(item), more == (...,)

    def check(value: Any) -> Odd | None:
        if not isinstance(value, tuple):
            return "", value, "not a list"
        for number, each in enumerate(value):
            odd = look(each)
            if odd is not None:
                return f"[{number}]{odd[0]}" if is_list else odd[0], odd[1], odd[2]
        return None

    return check


def _check_of_plain(is_fine: Callable[[Any], bool], problem: str) -> Check:
    return lambda value: None if is_fine(value) else ("", value, problem)


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _NUMBER_MAX


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= _AMOUNT_MAX


def _is_text(value: Any) -> bool:
    if type(value) is not str or len(value) > _TEXT_MAX:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _is_moment(value: Any) -> bool:
    return isinstance(value, datetime) and value.tzinfo is not None


_PLAIN: dict[Any, tuple[Callable[[Any], bool], str]] = {
    int: (_is_number, "not a number from 0 to 2**63"),
    float: (_is_amount, "not a number of seconds"),
    str: (_is_text, "not a text"),
    datetime: (_is_moment, "not a time with its offset"),
}


def _shown(value: object) -> str:
    return repr(value)[:60]
