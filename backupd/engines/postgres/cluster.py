"""What a policy says about a PostgreSQL pair, as values; everything else is asked of the servers at every run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SLOT_NAME = "backupd"
PAGE_BYTES = 8192  # BLCKSZ; a server that was built with another size is refused

VOLUME = "cluster.volume"  # every file of the cluster, one after the other, each from a page on
CONTROL = "cluster.control"  # global/pg_control, read after everything else
TABLE = "cluster.files"  # which file lies where in the volume, and what a restore must know


@dataclass(frozen=True, slots=True)
class PgCopy:
    """One of the two copies: how to reach its server, and where its files are on the host of that server."""

    name: str
    conninfo: str
    data_directory: Path


@dataclass(frozen=True, slots=True)
class PgOptions:
    """The policy's ``[postgres]`` table, and the limits of its ``[source]`` table that only this engine has.

    ``bin_directory`` is where ``pg_ctl`` and its siblings are; None: found by the
    server's version.  ``seed`` says how a passive is made anew: ``archive`` or ``basebackup``.
    """

    stamp_database: str = "postgres"
    slot: str = SLOT_NAME
    bin_directory: Path | None = None
    lag_bytes_max: int = 1 << 30
    lag_seconds_max: float = 3600.0
    allow_remote_apply: bool = False
    seed: str = "archive"
    server_seconds_max: float = 120.0
