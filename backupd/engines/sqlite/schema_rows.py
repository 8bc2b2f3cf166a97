"""Reads the rows of sqlite_schema off a page of it: which b-tree begins where, and which table it is of.

Only what a page itself holds is read: the SQL of a long row lies elsewhere, and comes after what is wanted here.
Format: https://www.sqlite.org/fileformat2.html#record_format
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_TABLE_LEAF = 13
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0, 0: 0, 7: 8}


class SchemaRow(NamedTuple):
    """One b-tree: its name, the table that it is of (itself, or an index's), and its root page."""

    name: str
    table: str
    root: int


def schema_rows(page: bytes, *, is_first: bool) -> Iterator[SchemaRow]:
    """Every row with a root page on a leaf of sqlite_schema; nothing for a page that is none.

    Args:
        page: its bytes.
        is_first: it is page 1, and begins after the file's header.
    """
    start = 100 if is_first else 0
    if page[start] != _TABLE_LEAF:
        return
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    for number in range(count):
        at = start + 8 + 2 * number
        try:
            row = _row(page, int.from_bytes(page[at : at + 2], "big"))
        except (IndexError, UnicodeDecodeError):
            continue  # what cannot be read names no table; the pages below it stay unknown
        if row is not None and row.root > 0:
            yield row


def _row(page: bytes, at: int) -> SchemaRow | None:
    _, at = _varint(page, at)  # bytes of the row
    _, at = _varint(page, at)  # its rowid
    header = at
    size, at = _varint(page, at)
    types: list[int] = []
    while at < header + size and len(types) < 5:
        one, at = _varint(page, at)
        types.append(one)
    at = header + size
    values: list[bytes] = []
    for one in types[:4]:
        length = (one - 12) // 2 if one >= 12 else _INTEGER_BYTES[one]
        if at + length > len(page):
            return None
        values.append(page[at : at + length])
        at += length
    if len(values) < 4:
        return None
    root = {8: 0, 9: 1}.get(types[3], int.from_bytes(values[3], "big", signed=True))
    return SchemaRow(values[1].decode(), values[2].decode(), root)


def _varint(page: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(9):
        byte = page[at]
        at += 1
        if count == 8:
            return value << 8 | byte, at
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            break
    return value, at
