"""Looks at a recovered cluster while its private server still runs: is it the right one, and is it sound?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backupd.engines.postgres.private_sockets import connect_private
from backupd.engines.postgres.server_control import PgControl
from backupd.errors import BackupdError

_AMCHECK_SECONDS_MAX = 24 * 3600.0
_SAID_MAX = 5


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found wrong, and what could not be looked at."""

    findings: tuple[str, ...]
    notes: tuple[str, ...]


def check_cluster(
    control: PgControl, socket_directory: Path, *, system_identifier: str, integrity: str, roles: tuple[str, ...]
) -> Looked:
    """Ask the server on the private socket.

    Args:
        control: of the staged cluster.
        socket_directory: where it listens, on port 5432, and trusts everybody who gets there.
        system_identifier: whose cluster it must be.
        integrity: ``none`` and ``quick``: the server answers and every database opens; ``full``: pg_amcheck too.
        roles: names to try until one is let in.

    Raises:
        NotHealthy, ConfigInvalid: the server does not answer.
    """
    role = superuser(socket_directory, roles)
    findings: list[str] = []
    notes: list[str] = []
    with connect_private(socket_directory, role) as server:
        if server.value("SELECT pg_is_in_recovery()"):
            findings.append("the restored server is still in recovery")
        found = str(server.value("SELECT system_identifier::text FROM pg_control_system()"))
        if found != system_identifier:
            findings.append(f"the restored cluster is {found}, and the backup is of {system_identifier}")
        databases = [str(row["datname"]) for row in server.rows(
            "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname"
        )]  # fmt: skip
    for database in databases:
        try:
            with connect_private(socket_directory, role, database) as server:
                server.value("SELECT count(*) FROM pg_class")
        except BackupdError as error:
            findings.append(f"the database {database} does not open: {error.because}")
    if integrity == "full" and not findings:
        _amcheck(control, socket_directory, role, databases, findings.append, notes.append)
    return Looked(tuple(findings), tuple(notes))


def hold_log(socket_directory: Path, slot: str, roles: tuple[str, ...]) -> None:
    """Make a physical slot that holds the log from the last checkpoint on; it stays with the files.

    Raises:
        NotHealthy, ConfigInvalid: the server does not answer.
    """
    with connect_private(socket_directory, superuser(socket_directory, roles)) as server:
        server.run("SELECT pg_create_physical_replication_slot(%s, true)", slot)


def superuser(socket_directory: Path, roles: tuple[str, ...]) -> str:
    """The name of the role that made the cluster; any role that may log in can ask for it.

    Raises:
        NotHealthy, ConfigInvalid: none of these roles is let in.
    """
    for number, role in enumerate(roles, start=1):
        try:
            with connect_private(socket_directory, role) as server:
                return str(server.value("SELECT rolname FROM pg_roles WHERE oid = 10"))
        except BackupdError:
            if number == len(roles):
                raise
    raise ValueError("no roles to try")


def _amcheck(
    control: PgControl,
    socket_directory: Path,
    role: str,
    databases: list[str],
    found: Callable[[str], None],
    note: Callable[[str], None],
) -> None:
    """Every heap and B-tree of every database; the extension is taken away again where it was not before."""
    if control.program("pg_amcheck") is None:
        note("pg_amcheck is not installed, so tables and indexes were not compared")
        return
    for database in databases:
        with connect_private(socket_directory, role, database) as server, server.patient(300.0):
            had = server.value("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'")
            available = server.value("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'")
            if not had and not available:
                note("the extension amcheck is not installed, so tables and indexes were not compared")
                return
            if not had:
                server.run("CREATE EXTENSION amcheck")
            try:
                done = control.run(
                    "pg_amcheck", "--heapallindexed", "-h", str(socket_directory), "-p", "5432", "-U", role, "-d",
                    database, seconds_max=_AMCHECK_SECONDS_MAX,
                )  # fmt: skip
            finally:
                if not had:
                    server.run("DROP EXTENSION amcheck")
        if done.returncode:
            said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            found(f"{database}: {'; '.join(said[:_SAID_MAX]) or f'pg_amcheck ended with status {done.returncode}'}")
