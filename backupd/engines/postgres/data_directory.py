"""Checks that the data directory in the policy is the one that the copy's server runs on."""

from __future__ import annotations

import os
from pathlib import Path

from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.facts import ServerFacts
from backupd.errors import ConfigInvalid

# What a postmaster writes into its lock file comes a moment before, or after, the start that it tells by SQL.
_START_SECONDS_MAX = 10.0


def check_data_directory(copy: PgCopy, facts: ServerFacts) -> bool:
    """Whether the directory is on this host; True says that it also is this server's.

    Its ``global/pg_control`` must have the server's system identifier, and its
    ``postmaster.pid`` the server's port and start.  The paths may differ: a server
    in a container names its own.  A directory that is on another host is not looked at.

    Raises:
        ConfigInvalid: it is another server's, no data directory, or cannot be read by us.
    """
    directory = copy.data_directory
    try:
        found = system_identifier_of(directory)
    except FileNotFoundError:
        _check_elsewhere(copy, facts)
        return False
    except OSError as error:
        raise _unreadable(copy, error) from error
    if found != facts.system_identifier:
        because = f"{directory} has system identifier {found}, and the server has {facts.system_identifier}"
        raise _wrong(copy, facts, because)
    try:
        lock = (directory / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise _wrong(copy, facts, f"no server runs on {directory}, and copy {copy.name} does run") from None
    except OSError as error:
        raise _unreadable(copy, error) from error
    started, port = (int(line) if line.strip().isdigit() else 0 for line in (*lock, "", "", "", "")[2:4])
    if port != facts.port or abs(started - facts.started_at.timestamp()) > _START_SECONDS_MAX:
        raise _wrong(copy, facts, f"the server that runs on {directory} has port {port} or was started at another time")
    return True


def system_identifier_of(directory: Path) -> str:
    """The system identifier of the cluster in a data directory, from ``global/pg_control``. Raises OSError."""
    with open(directory / "global" / "pg_control", "rb", buffering=0) as file:
        raw = file.read(8)
    return str(int.from_bytes(raw, "little"))


def _check_elsewhere(copy: PgCopy, facts: ServerFacts) -> None:
    if copy.data_directory.exists():
        raise _wrong(copy, facts, f"{copy.data_directory} is no data directory: it has no global/pg_control")
    theirs = Path(facts.data_directory)
    if os.path.normpath(theirs) == os.path.normpath(copy.data_directory):
        return
    try:
        here = system_identifier_of(theirs) == facts.system_identifier
    except OSError:
        here = False
    if here:
        raise _wrong(copy, facts, f"{copy.data_directory} does not exist")


def _wrong(copy: PgCopy, facts: ServerFacts, because: str) -> ConfigInvalid:
    return ConfigInvalid(
        f"the data directory of copy {copy.name} in the policy is not its server's",
        because=because,
        next_step=f'the server says: data_directory = "{facts.data_directory}"; write that for copy {copy.name}',
    )


def _unreadable(copy: PgCopy, error: OSError) -> ConfigInvalid:
    return ConfigInvalid(
        f"cannot look into the data directory of copy {copy.name}",
        because=f"{error.filename or copy.data_directory}: {error.strerror or error}",
        next_step="run backupd as root, or as the user that the server runs as",
    )
