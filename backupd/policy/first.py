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

_POLICY_TEXT = """\
# What backupd does for the database {title}. Check it with: backupctl policy check
# Every key, with its unit and its default: backupctl policy schema
database = {database}
engine = {engine}
archive = {archive}

{copies}
[sqlite]
first_active = {active}            # asked once, when the pair is set up; roles are discovered afterwards

[schedule]                      # a full every week, an incremental every day
timezone = "UTC"
full = "sun 02:00"
incremental = "mon..sat 02:00"

[retention]                     # a backup stays when any line wants it
keep_days = 28
keep_fulls_min = 2

[truncation]                    # log leaves the copies only when the archive has proven it
enabled = true
held_log_bytes_warn = "1GiB"
"""


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are TOML's, but for one character that TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def render_service_config(*, state_dir: str = "state", policies_dir: str = "policies", node: str | None = None) -> str:
    """The text of a first ``backupd.toml``."""
    text = _SERVICE_TEXT.format(state_dir=_quoted(state_dir), policies_dir=_quoted(policies_dir))
    return text if node is None else f"{text}node = {_quoted(node)}\n"


def render_policy(
    *, database: str, copies: Mapping[str, str], active: str, archive: str, engine: str = "sqlite"
) -> str:
    """The text of a first policy: a full every week, an incremental every day, kept for 28 days."""
    tables = "\n".join(f"[copies.{_key(name)}]\npath = {_quoted(path)}\n" for name, path in copies.items())
    return _POLICY_TEXT.format(
        title=_quoted(database),
        database=_quoted(database),
        engine=_quoted(engine),
        archive=_quoted(archive),
        copies=tables,
        active=_quoted(active),
    )


def _key(name: str) -> str:
    """A TOML key: bare where it may be."""
    return name if _BARE_KEY.fullmatch(name) else _quoted(name)


def write_first_files(
    directory: Path, *, database: str, copies: Mapping[str, str], active: str, archive: str, engine: str = "sqlite"
) -> list[Path]:
    """Write ``backupd.toml`` (unless it is there) and ``policies/<database>.toml`` below ``directory``.

    The policy is checked before anything is written; files are 0600, directories 0700.

    Raises:
        ConfigInvalid: the parameters do not make a valid policy, or the directory cannot be written.
        Refused: the policy is there already.
    """
    text = render_policy(database=database, copies=copies, active=active, archive=archive, engine=engine)
    config, policy = directory / "backupd.toml", directory / "policies" / f"{database}.toml"
    check_policy_text(text, policy)
    if policy.exists():
        raise Refused(
            f"{policy} is not overwritten",
            because="a policy of that name is there already",
            next_step=f"edit {policy}, or remove it first",
        )
    written = [] if config.exists() else [(config, render_service_config())]
    written.append((policy, text))
    try:
        for missing in [place for place in reversed([policy.parent, *policy.parent.parents]) if not place.exists()]:
            missing.mkdir(mode=0o700)  # one by one: with parents=True those above would be open to all
        for path, content in written:
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
