"""Writes the first service config and policy, ready to run and to be edited."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from backupd.errors import ConfigInvalid, Refused
from backupd.policy.load import check_policy_text

_SERVICE_TEXT = """\
# The backupd service on this node. Paths are relative to this file.
[service]
state_dir = {state_dir}
policies_dir = {policies_dir}
"""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

_HEAD_TEXT = """\
# What backupd does for the database {title}. Check it with: backupctl policy check
# Every key, with its unit and its default: backupctl policy schema
database = {database}
engine = {engine}
archive = {archive}

{copies}
"""

_SQLITE_TEXT = """\
[sqlite]
first_active = {active}            # asked once, when the pair is set up; roles are discovered afterwards
"""

# No word about roles: which of the two is the primary is asked of the servers at every run.
_POSTGRES_TEXT = """\
# No password in this file: it comes from ~/.pgpass (or PGPASSFILE, or a service file) of the user that runs backupd.
[postgres]
stamp_database = "postgres"     # where backupd makes its schema, for the stamps of backups
slot = "backupd"                # the physical slot that holds WAL on both copies until the archive has it
{programs}
[source]                        # a standby that is farther behind is waited for, and then refused
lag_bytes_max = "1GiB"
lag_seconds_max = "1h"

[backup]
provider = "auto"               # btrfs or reflink with replay at rest, else live: files are read while replay runs
"""

_REST_TEXT = """
[schedule]                      # a full every week, an incremental every day
timezone = "UTC"
full = "sun 02:00"
incremental = "mon..sat 02:00"

[retention]                     # a backup stays when any line wants it
keep_days = 28
keep_fulls_min = 2

[truncation]                    # log leaves the copies only when the archive has proven it
enabled = true
held_log_bytes_warn = {warn}
"""


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are TOML's, but for one character that TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def render_service_config(*, state_dir: str = "state", policies_dir: str = "policies", node: str | None = None) -> str:
    """The text of a first ``backupd.toml``."""
    text = _SERVICE_TEXT.format(state_dir=_quoted(state_dir), policies_dir=_quoted(policies_dir))
    return text if node is None else f"{text}node = {_quoted(node)}\n"


def render_policy(
    *,
    database: str,
    copies: Mapping[str, str],
    archive: str,
    active: str | None = None,
    engine: str = "sqlite",
    data_directories: Mapping[str, str] | None = None,
    bin_directory: str | None = None,
    encryption: str = "",
) -> str:
    """The text of a first policy: a full every week, an incremental every day, kept for 28 days.

    Args:
        database: its name.
        copies: for sqlite the file of each copy, for postgres how its server is reached.
        archive: where backups rest.
        active: which copy serves users now; only sqlite is told, a server is asked.
        engine: sqlite or postgres.
        data_directories: for postgres where the files of each copy are.
        bin_directory: for postgres where its programs are; None: found by the server's version.
        encryption: the text of the table ``[encryption]``, or nothing.
    """
    places = data_directories or {}
    tables = "\n".join(_copy_table(name, where, places.get(name), engine) for name, where in copies.items())
    head = _HEAD_TEXT.format(
        title=_quoted(database),
        database=_quoted(database),
        engine=_quoted(engine),
        archive=_quoted(archive),
        copies=tables,
    )
    if engine == "postgres":
        programs = "" if bin_directory is None else f"bin_directory = {_quoted(bin_directory)}\n"
        text = head + _POSTGRES_TEXT.format(programs=programs) + _REST_TEXT.format(warn='"16GiB"')
    else:
        text = head + _SQLITE_TEXT.format(active=_quoted(active or "")) + _REST_TEXT.format(warn='"1GiB"')
    return f"{text}\n{encryption}" if encryption else text


def _copy_table(name: str, where: str, data_directory: str | None, engine: str) -> str:
    key = "conninfo" if engine == "postgres" else "path"
    more = "" if data_directory is None else f"data_directory = {_quoted(data_directory)}\n"
    return f"[copies.{_key(name)}]\n{key} = {_quoted(where)}\n{more}"


def _key(name: str) -> str:
    """A TOML key: bare where it may be."""
    return name if _BARE_KEY.fullmatch(name) else _quoted(name)


def write_first_files(
    directory: Path,
    *,
    database: str,
    copies: Mapping[str, str],
    archive: str,
    active: str | None = None,
    engine: str = "sqlite",
    data_directories: Mapping[str, str] | None = None,
    bin_directory: str | None = None,
    encryption: str = "",
    keys: Mapping[Path, str] | None = None,
) -> list[Path]:
    """Write ``backupd.toml`` (unless it is there), ``policies/<database>.toml`` and ``keys`` below ``directory``.

    The policy is checked before anything is written; files are 0600, directories 0700.

    Raises:
        ConfigInvalid: the parameters do not make a valid policy, or the directory cannot be written.
        Refused: the policy is there already.
    """
    text = render_policy(
        database=database,
        copies=copies,
        active=active,
        archive=archive,
        engine=engine,
        data_directories=data_directories,
        bin_directory=bin_directory,
        encryption=encryption,
    )
    config, policy = directory / "backupd.toml", directory / "policies" / f"{database}.toml"
    check_policy_text(text, policy)
    for taken, what in ((policy, "policy"), *((path, "key") for path in keys or {})):
        if taken.exists():
            raise Refused(
                f"{taken} is not overwritten",
                because=f"a {what} of that name is there already",
                next_step=f"edit {taken}, or remove it first" if what == "policy" else f"move {taken} away first",
            )
    written = [] if config.exists() else [(config, render_service_config())]
    written += [*(keys or {}).items(), (policy, text)]
    try:
        for path, content in written:
            for missing in [place for place in reversed(path.parents) if not place.exists()]:
                missing.mkdir(mode=0o700)  # one by one: with parents=True those above would be open to all
            with open(path, "x", encoding="utf-8", opener=_private) as file:
                file.write(content)
    except OSError as error:
        raise ConfigInvalid(
            f"the first files cannot be written below {directory}",
            because=(error.strerror or str(error)).lower(),
            next_step=f"make {directory} writable, or choose another directory",
        ) from error
    return [path for path, _ in written]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
