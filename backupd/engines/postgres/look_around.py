"""A restored cluster that is started to be looked at: on a private socket, and on nothing else."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from backupd.engines.postgres.cluster_check import superuser
from backupd.engines.postgres.server_control import PgControl
from backupd.steps import step

_SOCKET_PATH_MAX = 90  # a socket's whole path may have 107 bytes
_PORT = 5432
_PREFIX = "backupd-look-"


def start(control: PgControl, roles: Sequence[str]) -> tuple[str, ...]:
    """Start it, and answer with commands that look around; what they read cannot be changed by mistake.

    Raises:
        NotHealthy: it does not start.
    """
    step("pg.look.start")
    directory = control.data_directory
    sockets = directory
    if len(os.fsencode(directory / f".s.PGSQL.{_PORT}.lock")) > _SOCKET_PATH_MAX:
        sockets = Path(tempfile.mkdtemp(prefix=_PREFIX))
        control.owner.give(sockets)
    settings = {
        "listen_addresses": "",
        "port": str(_PORT),
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
    running = control.postmaster()
    if running is None:
        return False
    step("pg.look.stop")
    sockets = _socket_directory(control.data_directory)
    control.stop("fast")
    if sockets is not None and sockets.name.startswith(_PREFIX):
        shutil.rmtree(sockets, ignore_errors=True)
    return True


def _socket_directory(data_directory: Path) -> Path | None:
    """By line 5 of ``postmaster.pid``."""
    try:
        lines = (data_directory / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    return Path(lines[4]) if len(lines) > 4 and lines[4] else None
