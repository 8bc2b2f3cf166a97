"""Says in three lines why a server cannot be reached or does not let us in; never with a password."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from backupd.errors import BackupdError, ConfigInvalid, NotHealthy

# What the server says before it has let us in comes without a code, in English unless it was told otherwise.
_REFUSALS = {
    "password authentication failed": "give the right password in the conninfo, a passfile or PGPASSWORD",
    "no password supplied": "give the password in the conninfo, a passfile or PGPASSWORD",
    "pg_hba.conf": "let this host and role in by a line of pg_hba.conf, and reload the server",
    "role ": "create the role, or name another in the conninfo",
    "database ": "name a database that exists there",
    "certificate": "look at sslmode, sslrootcert and sslcert of the conninfo",
    "authentication failed": "look at the role's way of authentication in pg_hba.conf",
}
_MISWRITTEN = ("invalid ", "definition of service", "could not match")
_NOT_NOW = ("starting up", "shutting down", "recovery mode", "too many", "not yet accepting", "not accepting")


def server_words(settings: Mapping[str, Any], copy: str) -> str:
    """What to call the server of a conninfo that was taken apart."""
    if settings.get("service"):
        where = f"service {settings['service']}"
    else:
        host = settings.get("host") or settings.get("hostaddr") or os.environ.get("PGHOST") or "the local socket"
        where = f"{host}:{settings.get('port') or os.environ.get('PGPORT') or 5432}"
    return f"copy {copy} at {where}" if copy else f"the server at {where}"


def refusal(error: Exception, words: str, password: str) -> BackupdError:
    """The error for a connection that did not come about, from what the driver says of it."""
    said = one_line(error)
    if password:
        said = said.replace(password, "…")
    # What the server itself says comes after "FATAL:", behind the address that libpq tried.
    said = said.rpartition("FATAL: ")[2].strip() or said
    remedy = next((step_ for text, step_ in _REFUSALS.items() if text in said), None)
    if remedy is not None and not any(text in said for text in _NOT_NOW):
        return ConfigInvalid(f"{words} does not let us in", because=said, next_step=remedy)
    if any(said.startswith(text) for text in _MISWRITTEN):
        return ConfigInvalid(
            f"cannot connect to {words}", because=said, next_step="correct that word of the conninfo in the policy"
        )
    return NotHealthy(
        f"cannot connect to {words}",
        because=said or type(error).__name__,
        next_step="start the server, or correct host and port in the policy",
    )


def one_line(error: Exception) -> str:
    """What an exception says, on one line."""
    said = " ".join(str(error).split())
    return said.removeprefix("connection failed: ").removeprefix("connection is bad: ")[:400]


def shortened(sql: str) -> str:
    """The beginning of a statement, on one line."""
    words = " ".join(sql.split())
    return words if len(words) <= 80 else words[:79] + "…"
