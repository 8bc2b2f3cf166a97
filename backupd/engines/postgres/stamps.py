"""Stamps: a table in the stamp database that says which backups were taken; it travels in the log to the passive.

The table is ``backupd.stamps``.  Whoever backs up needs CREATE on the stamp database
once, or the schema made for him::

    CREATE SCHEMA backupd AUTHORIZATION the_role_of_backupd;

and on the passive the same role reads it.  It survives a failover like any other table.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from backupd.engines.postgres.wal_names import lsn_text, parse_lsn
from backupd.errors import ConfigInvalid, NotHealthy
from backupd.model.kinds import BackupType
from backupd.model.position import Position
from backupd.model.records import Stamp, Stamps
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.engines.postgres.connect import Row, Server

ROWS_KEPT = 50
_POLL_SECONDS = 0.1

_TABLE = "backupd.stamps"
_MAKE_SCHEMA = "CREATE SCHEMA backupd"
_MAKE_TABLE = """
CREATE TABLE IF NOT EXISTS backupd.stamps (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    backup_id text NOT NULL UNIQUE,
    type text NOT NULL,
    end_timeline bigint NOT NULL,
    end_lsn pg_lsn NOT NULL,
    at timestamptz NOT NULL
);
COMMENT ON TABLE backupd.stamps IS 'Which backups backupd has taken; the next incremental builds on the last'
"""


def write_stamp(active: Server, stamp: Stamp) -> None:
    """Write ``stamp`` on the active, durably there; may be repeated. The newest ``ROWS_KEPT`` stay.

    Args:
        active: a connection to the stamp database of the active.
        stamp: what to write; its end's history is a timeline.

    Raises:
        ConfigInvalid: our role may make neither schema nor table, or not write into it.
        NotHealthy: the server says no, for instance because it is read-only.
    """
    # Whether a standby has it too is waited for elsewhere, with a limit; a paused one must not hold this commit.
    active.run("SET synchronous_commit = local")
    try:
        if not _exists(active):
            _make(active)
        step("pg.stamp.write")
        active.run(
            "INSERT INTO backupd.stamps (backup_id, type, end_timeline, end_lsn, at) "
            "VALUES (%s, %s, %s, %s::pg_lsn, %s) ON CONFLICT (backup_id) DO NOTHING",
            stamp.backup_id,
            stamp.type.value,
            int(stamp.end.history),
            lsn_text(stamp.end.offset),
            stamp.at,
        )
        # The last full stays however many incrementals came after it.
        active.run(
            "DELETE FROM backupd.stamps WHERE number <= (SELECT max(number) FROM backupd.stamps) - %s AND number <> "
            "(SELECT max(number) FROM backupd.stamps WHERE type = 'full')",
            ROWS_KEPT,
        )
    finally:
        if active.alive:
            active.run("RESET synchronous_commit")


def _exists(server: Server) -> bool:
    # Asked for by name in the catalog, which everybody may read, whatever may be done with the table itself.
    return bool(
        server.value(
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'backupd' AND c.relname = 'stamps')"
        )
    )


def _make(active: Server) -> None:
    step("pg.stamp.make_table")
    # Not IF NOT EXISTS: that asks for the right to make a schema also where it is there already.
    has_schema = active.value("SELECT to_regnamespace('backupd') IS NOT NULL")
    try:
        active.run(_MAKE_TABLE if has_schema else f"{_MAKE_SCHEMA};{_MAKE_TABLE}")
    except ConfigInvalid as error:
        raise ConfigInvalid(
            f"the table {_TABLE} cannot be made on {active.words}",
            because=error.because,
            next_step="as a superuser, in the stamp database: CREATE SCHEMA backupd AUTHORIZATION <backupd's role>",
        ) from error


def read_stamps(server: Server) -> Stamps:
    """The last full, and the last incremental after it, that this copy knows of; none where there is no table yet.

    Raises:
        ConfigInvalid: our role may not read the table.
        NotHealthy: the server says no.
    """
    if not _exists(server):
        return Stamps()
    rows = server.rows(
        "SELECT type, backup_id, end_timeline, end_lsn::text AS end_lsn, at FROM backupd.stamps "
        "WHERE type IN ('full', 'incremental') AND number >= coalesce("
        "(SELECT max(number) FROM backupd.stamps WHERE type = 'full'), 0) ORDER BY number"
    )
    last: dict[BackupType, Stamp] = {}
    for row in rows:
        stamp = _stamp(row)
        last[stamp.type] = stamp
    return Stamps(last.get(BackupType.FULL), last.get(BackupType.INCREMENTAL))


def _stamp(row: Row) -> Stamp:
    end = Position(str(row["end_timeline"]), parse_lsn(row["end_lsn"]))
    return Stamp(BackupType(row["type"]), str(row["backup_id"]), end, row["at"])


def wait_stamp_seen(passive: Server, backup_id: str, seconds_max: float) -> bool:
    """Whether the passive sees the stamp of ``backup_id`` within so long; asked at least once."""
    ends = time.monotonic() + seconds_max
    while True:
        if _sees(passive, backup_id):
            return True
        left = ends - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(_POLL_SECONDS, left))


def _sees(passive: Server, backup_id: str) -> bool:
    try:
        return _exists(passive) and bool(
            passive.value("SELECT EXISTS (SELECT FROM backupd.stamps WHERE backup_id = %s)", backup_id)
        )
    except NotHealthy:
        # Replay may cancel a query, and the table may be made between the two questions.
        if not passive.alive:
            raise
        return False
