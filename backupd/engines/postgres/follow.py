"""Whom a standby follows: written into its own postgresql.auto.conf, where nothing wins over it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.recovery import AUTO_CONF
from backupd.errors import NotHealthy
from backupd.steps import step


def follow(data_directory: Path, owner: Owner, settings: Mapping[str, str]) -> None:
    """Set these, take recovery targets out, and leave every other line; may be repeated.

    Raises:
        NotHealthy: the file cannot be written.
    """
    path = data_directory / AUTO_CONF
    step("pg.seed.follow")
    names = "|".join(map(re.escape, settings))
    replaced = re.compile(rf"^[ \t]*({names}|recovery_target\w*)\s*=.*\n?", re.MULTILINE)
    try:
        found = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
        kept = replaced.sub("", found)
        lines = "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())
        text = kept + ("" if not kept or kept.endswith("\n") else "\n") + lines
        if text != found:
            owner.write_file(path, text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise NotHealthy(
            f"cannot write {path}",
            because=error.strerror or str(error),
            next_step="make room or fix its rights; then: backupctl recover",
        ) from None


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
