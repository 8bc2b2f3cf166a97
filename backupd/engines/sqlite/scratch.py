"""A restored SQLite file that is opened for reading only, asked, and thrown away."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from backupd.engines.sqlite.check import uri_of
from backupd.errors import ConfigInvalid, NotHealthy
from backupd.ports import EngineLook
from backupd.steps import step

_OPERATIONS_BETWEEN_LOOKS = 20_000
_FINDINGS_MAX = 20
_OPEN_SECONDS_MAX = 10.0
# What reads: https://www.sqlite.org/c3ref/c_alter_table.html
_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_READING_PRAGMAS = frozenset(
    {
        *("integrity_check", "quick_check", "foreign_key_check", "foreign_key_list", "table_info", "table_xinfo"),
        *("table_list", "index_list", "index_info", "index_xinfo"),
        *("user_version", "application_id", "schema_version", "page_count", "page_size"),
    }
)
_ARGUMENT_READS = frozenset(name for name in _READING_PRAGMAS if name.endswith(("_check", "_info", "_xinfo", "_list")))


class OpenedFile:
    """See ``ports.OpenedScratch``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def look(self) -> EngineLook:
        """See ``ports.OpenedScratch``: every page, every index against its table, and every foreign key."""
        step("sqlite.drill.look")
        findings: list[str] = []
        try:
            with self._connected() as connection:
                rows = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({_FINDINGS_MAX})")]
                findings += [] if rows == ["ok"] else rows
                keys = connection.execute("PRAGMA foreign_key_check").fetchmany(_FINDINGS_MAX)
        except sqlite3.Error as error:
            return EngineLook(("PRAGMA integrity_check",), (*findings, str(error)))
        # An application that does not enforce its keys may live with these for years: they are no damage.
        notes = (f"PRAGMA foreign_key_check names rows of {keys[0][0]} whose parent is not there",) if keys else ()
        return EngineLook(("PRAGMA integrity_check", "PRAGMA foreign_key_check"), tuple(findings), notes)

    def ask(self, sql: str, *, dbname: str | None, seconds_max: float) -> Sequence[Sequence[object]]:  # noqa: ARG002
        """See ``ports.OpenedScratch``."""
        step("sqlite.drill.ask")
        deadline = time.monotonic() + seconds_max
        try:
            with self._connected() as connection:
                connection.set_authorizer(_only_reads)
                connection.set_progress_handler(lambda: time.monotonic() > deadline, _OPERATIONS_BETWEEN_LOOKS)
                return connection.execute(sql).fetchmany(2)
        except (sqlite3.Error, sqlite3.Warning) as error:
            if time.monotonic() > deadline:
                raise NotHealthy(
                    "SQLite did not answer in time",
                    because=f"the question was ended after {seconds_max:g} s",
                    next_step="ask something that an index answers, or raise drill.check_seconds_max",
                ) from None
            raise ConfigInvalid(
                "SQLite does not answer that", because=str(error), next_step="correct the sql of that check"
            ) from None

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(f"{uri_of(self._path)}?mode=ro", uri=True, timeout=_OPEN_SECONDS_MAX)
        try:
            connection.execute("PRAGMA query_only = 1")
            yield connection
        finally:
            connection.close()


def _only_reads(action: int, first: str | None, second: str | None, schema: str | None, trigger: str | None) -> int:
    """Whether a part of a statement may run: nothing that writes, attaches another file or changes the connection."""
    del schema, trigger
    if action in _READING:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and first in _READING_PRAGMAS and (second is None or first in _ARGUMENT_READS):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


@contextmanager
def opened_file(path: Path) -> Iterator[OpenedFile]:
    """The file that an application would open now.

    Raises:
        NotHealthy: it does not open.
    """
    step("sqlite.drill.open")
    opened = OpenedFile(path)
    try:
        opened.ask("SELECT count(*) FROM sqlite_schema", dbname=None, seconds_max=_OPEN_SECONDS_MAX)
    except ConfigInvalid as error:
        raise NotHealthy(
            f"the restored file {path} does not open",
            because=error.because,
            next_step="backupctl verify --level data, then drill again",
        ) from None
    yield opened
