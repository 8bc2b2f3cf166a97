"""Which table each page of a database file belongs to, as SQLite itself says by its table ``dbstat``."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backupd.engines.sqlite.check import uri_of

Owners = NDArray[np.uint32]

_AT_ONCE = 4096
SCHEMA = "sqlite_schema"


@dataclass(slots=True)
class TreeNames:
    """Numbers for b-trees, from 1; the same name has the same number in every state of the database.

    ``table_of`` is the name of the table that each belongs to, ``is_table`` whether it is that table's own.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    table_of: list[str] = field(default_factory=lambda: [""])
    is_table: list[bool] = field(default_factory=lambda: [False])

    def number(self, tree: str, tables: Mapping[str, str]) -> int:
        """The number of ``tree``; ``tables`` says which table each index is of."""
        known = self.numbers.get(tree)
        if known is None:
            known = self.numbers[tree] = len(self.table_of)
            table = tables.get(tree, tree)
            self.table_of.append(table)
            self.is_table.append(table == tree)
        return known


def read_owners(path: Path, names: TreeNames, pages: int) -> Owners | None:
    """The number of the b-tree of each page (by page number; 0: free, or of no tree).

    Args:
        path: a file that nobody writes to; a log beside it is not looked at.
        names: is given the names that it does not have yet.
        pages: how long the answer shall be at least.

    Returns:
        None where this SQLite has no ``dbstat``, or finds no sound database there.
    """
    uri = f"{uri_of(path)}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            tables = {
                str(tree): str(table) for tree, table in database.execute("SELECT name, tbl_name FROM sqlite_schema")
            }
            return _owners(database, names, tables, pages)
    except sqlite3.Error:
        return None


def _owners(database: sqlite3.Connection, names: TreeNames, tables: Mapping[str, str], pages: int) -> Owners:
    owners = np.zeros(max(pages, int(database.execute("PRAGMA page_count").fetchone()[0])) + 1, np.uint32)
    found = database.execute("SELECT name, pageno FROM dbstat")
    while rows := found.fetchmany(_AT_ONCE):
        trees, numbers = zip(*rows, strict=True)
        owners[np.asarray(numbers, np.int64)] = [
            names.number(SCHEMA if tree == "sqlite_master" else tree, tables) for tree in trees
        ]
    return owners
