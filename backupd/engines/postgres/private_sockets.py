"""Where the socket of a private server lies that nobody else is to reach, and what ends such a server."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from backupd.engines.postgres.connect import Server, connect
from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.server_control import PgControl

PORT = 5432
_PATH_BYTES_MAX = 90  # a socket's whole path may have 107 bytes
_PREFIX = "backupd-restore-"


def socket_directory(own: Path, owner: Owner) -> Path:
    """``own``, which nobody else enters; a short directory that is made where a socket's path in it is too long."""
    if len(os.fsencode(own / f".s.PGSQL.{PORT}.lock")) <= _PATH_BYTES_MAX:
        return own
    made = Path(tempfile.mkdtemp(prefix=_PREFIX))
    owner.give(made)
    return made


def remove_made(sockets: Path) -> None:
    """Remove the directory when it is one that ``socket_directory`` made, and nothing else ever."""
    if sockets.name.startswith(_PREFIX) and sockets.parent == Path(tempfile.gettempdir()):
        shutil.rmtree(sockets, ignore_errors=True)


def stop_private(control: PgControl, mode: str, *, seconds_max: float = 120.0) -> bool:
    """Stop a private server, and remove what was made for its socket; False when none ran. Raises NotHealthy."""
    running = control.postmaster()
    if running is None:
        return False
    control.stop(mode, seconds_max=seconds_max)
    remove_made(Path(running.socket_directory))
    return True


def connect_private(sockets: Path, role: str, database: str = "template1", *, seconds_max: float = 30.0) -> Server:
    """Connect to the private server that listens there. Raises as ``connect``."""
    return connect(f"host='{sockets}' port={PORT} user='{role}'", dbname=database, seconds_max=seconds_max)
