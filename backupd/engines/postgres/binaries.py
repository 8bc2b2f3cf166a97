"""Where the PostgreSQL programs of a cluster's own major version are on this host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from backupd.errors import NotHealthy

_VERSION = re.compile(r"\(PostgreSQL\)\s+(\d+)")
_VERSION_SECONDS_MAX = 20.0


def major_of(data_directory: Path) -> int:
    """The major version of the cluster in ``data_directory``.

    Raises:
        NotHealthy: there is no cluster there, or it cannot be read.
    """
    path = data_directory / "PG_VERSION"
    try:
        return int(path.read_text(encoding="ascii").split(".")[0])
    except (OSError, ValueError) as error:
        because = (error.strerror or str(error)) if isinstance(error, OSError) else "its PG_VERSION holds no number"
        raise NotHealthy(
            f"{data_directory} is not the data directory of a PostgreSQL server",
            because=f"{path}: {because}" if isinstance(error, OSError) else because,
            next_step="name the server's data_directory in the policy (psql -c 'show data_directory')",
        ) from None


def version_of(program: Path) -> int | None:
    """The major version that a program of PostgreSQL says it has; None when it is not there or says something else."""
    try:
        done = subprocess.run(
            [str(program), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_SECONDS_MAX,
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(done.stdout.decode("utf-8", "replace"))
    return int(found[1]) if found else None


def find_binaries(
    major: int, *, chosen: Path | None = None, data_directory: Path | None = None, running_pid: int | None = None
) -> Path:
    """The directory of the programs of version ``major``.

    Looked for in this order: ``chosen`` (the policy's), where the running server
    ``running_pid`` comes from, where the last server of ``data_directory`` came
    from (postmaster.opts), the systems' usual places, PATH.

    Raises:
        NotHealthy: there are none, or the policy's are of another version.
    """
    if chosen is not None:
        found = version_of(chosen / "postgres")
        if found == major:
            return chosen
        raise NotHealthy(
            f"the programs in {chosen} cannot serve a cluster of PostgreSQL {major}",
            because=f"they are of version {found}" if found else f"{chosen}/postgres is not there or does not run",
            next_step=f"name the directory of PostgreSQL {major}'s pg_ctl as bin_directory in the policy",
        )
    seen: set[Path] = set()
    for place in _candidates(major, data_directory, running_pid):
        if place not in seen and version_of(place / "postgres") == major:
            return place
        seen.add(place)
    raise NotHealthy(
        f"the programs of PostgreSQL {major} were not found",
        because=f"none of {', '.join(str(place) for place in sorted(seen)) or 'the usual places'} has them",
        next_step=f"install PostgreSQL {major} on this host, or name its bin_directory in the policy",
    )


def _candidates(major: int, data_directory: Path | None, running_pid: int | None) -> Iterator[Path]:
    if running_pid is not None:
        try:
            yield Path(os.readlink(f"/proc/{running_pid}/exe")).parent
        except OSError:
            pass  # another user's process, or none any more
    if data_directory is not None:
        words = start_words(data_directory)
        if words:
            yield Path(words[0]).parent
    yield Path(f"/usr/lib/postgresql/{major}/bin")
    yield Path(f"/usr/pgsql-{major}/bin")
    yield Path(f"/usr/local/pgsql-{major}/bin")
    for name in ("postgres", "pg_ctl"):
        found = shutil.which(name)
        if found:
            yield Path(os.path.realpath(found)).parent


def start_words(data_directory: Path) -> list[str]:
    """The command line that the last server of ``data_directory`` was started with; empty when not known.

    The server puts each argument between double quotes and escapes nothing (CreateOptsFile).
    """
    try:
        line = (data_directory / "postmaster.opts").read_text(encoding="utf-8").rstrip("\n")
    except (OSError, ValueError):
        return []
    program, _, arguments = line.partition(' "')
    return [program, *arguments.removesuffix('"').split('" "')] if arguments else [program]
