"""The note that the passive must be made anew: a restore has put the active into a history that it does not know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from backupd.durable import cannot_write, read_json, sync_directory
from backupd.engines.postgres.owner import Owner
from backupd.steps import step

_NAME = "must-seed.json"


def must_seed_file(state_dir: Path) -> Path:
    """Where the note lies."""
    return state_dir / _NAME


def note_must_seed(state_dir: Path, facts: Mapping[str, str]) -> None:
    """Note it durably; ``facts`` has ``reason``, ``history``, ``position`` and ``at``. Raises NotHealthy."""
    step("pg.restore.must_seed")
    try:
        owner = Owner.of(state_dir)
        owner.write_file(must_seed_file(state_dir), json.dumps(dict(facts), indent=1).encode())
    except OSError as error:
        raise cannot_write(must_seed_file(state_dir), error) from None


def read_must_seed(state_dir: Path) -> dict[str, str] | None:
    """The note; None when there is none."""
    value = read_json(must_seed_file(state_dir))
    return None if value is None else {str(name): str(what) for name, what in value.items()}


def clear_must_seed(state_dir: Path) -> None:
    """The passive was made anew; may be repeated. Raises NotHealthy."""
    step("pg.seed.clear_mark")
    try:
        must_seed_file(state_dir).unlink(missing_ok=True)
        sync_directory(state_dir)
    except OSError as error:
        raise cannot_write(must_seed_file(state_dir), error) from None
