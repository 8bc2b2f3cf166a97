"""Which rights a role needs that is no superuser, which of them it lacks, and the statements that grant them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.engines.postgres.connect import Server

_FROM_15 = (
    *("pg_backup_start(text, boolean)", "pg_backup_stop(boolean)"),
    *("pg_create_restore_point(text)", "pg_switch_wal()"),
    *("pg_wal_replay_pause()", "pg_wal_replay_resume()"),
    "pg_read_file(text, bigint, bigint, boolean)",  # history files, where the files are on another host
)
_IN_14 = ("pg_start_backup(text, boolean, boolean)", "pg_stop_backup(boolean, boolean)", *_FROM_15[2:])


@dataclass(frozen=True, slots=True)
class Right:
    """One right: the question whether the current role has it, with its arguments, and the statement that grants it."""

    question: str
    arguments: tuple[str, ...]
    grant: str


def rights_for(role: str, major: int, stamp_database: str) -> tuple[Right, ...]:
    """All that a run needs; the grants are to be run once, by a superuser, on the active (the passive replays them).

    In version 14 a CHECKPOINT is the superuser's alone, so there a role of its own does not do.
    """
    who, database = _name(role), _name(stamp_database)
    member = "SELECT pg_has_role(current_user, %s, 'USAGE')"
    execute = "SELECT has_function_privilege(%s, 'EXECUTE')"
    create = "SELECT has_database_privilege(%s, 'CREATE')"
    replication = "SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user"
    checkpoint = Right(member, ("pg_checkpoint",), f"GRANT pg_checkpoint TO {who}")
    if major < 15:
        superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        checkpoint = Right(superuser, (), f"ALTER ROLE {who} SUPERUSER")
    functions = _FROM_15 if major >= 15 else _IN_14
    return (
        Right(member, ("pg_monitor",), f"GRANT pg_monitor TO {who}"),
        checkpoint,
        Right(replication, (), f"ALTER ROLE {who} REPLICATION"),
        Right(create, (stamp_database,), f"GRANT CREATE ON DATABASE {database} TO {who}"),
        *(Right(execute, (each,), f"GRANT EXECUTE ON FUNCTION pg_catalog.{each} TO {who}") for each in functions),
    )


def missing_grants(server: Server, stamp_database: str) -> Sequence[str]:
    """The statements that would give our role on this server what it lacks; empty when it may do all.

    Functions are granted in each database: ask on a connection to the database that backupd uses.

    Raises:
        NotHealthy: the server does not answer.
    """
    role = str(server.value("SELECT current_user"))
    needed = rights_for(role, server.major, stamp_database)
    return [right.grant for right in needed if not server.value(right.question, *right.arguments)]


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
