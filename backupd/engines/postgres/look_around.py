"""A restored cluster that is started to be looked at: on a private socket, and on nothing else."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from backupd.engines.postgres.cluster_check import superuser
from backupd.engines.postgres.private_sockets import PORT, socket_directory, stop_private
from backupd.engines.postgres.server_control import PgControl
from backupd.steps import step


def start(control: PgControl, roles: Sequence[str]) -> tuple[str, ...]:
    """Start it, and answer with commands that look around; what they read cannot be changed by mistake.

    Raises:
        NotHealthy: it does not start.
    """
    step("pg.look.start")
    sockets = socket_directory(control.data_directory, control.owner)
    settings = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "default_transaction_read_only": "on",
    }
    try:
        control.start([f"--{name}={value}" for name, value in settings.items()])
        role = superuser(sockets, tuple(roles))
    except BaseException:
        stop(control)
        raise
    return _words(control, sockets, role)


def _words(control: PgControl, sockets: Path, role: str) -> tuple[str, ...]:
    def command(name: str, *words: str) -> str:
        return shlex.join([str(control.bin_directory() / name), "-h", str(sockets), "-U", role, *words])

    owner = control.owner
    as_owner = f"sudo -u {owner.name} " if owner.uid != os.geteuid() else ""
    return (
        f"look around: {as_owner}{command('psql', '-l')}",
        f"one database: {as_owner}{command('psql', '-d', 'DATABASE')}",
        f"a table: {as_owner}{command('pg_dump', '-d', 'DATABASE', '-t', 'TABLE')} | psql LIVE",
        (
            f"rows: {as_owner}{command('psql', '-d', 'DATABASE', '-c', 'COPY (SELECT ... FROM TABLE) TO STDOUT')} "
            "| psql LIVE -c 'COPY TABLE FROM STDIN'"
        ),
    )


def stop(control: PgControl) -> bool:
    """Stop it; False when none ran. Raises NotHealthy."""
    step("pg.look.stop")
    return stop_private(control, "fast")
