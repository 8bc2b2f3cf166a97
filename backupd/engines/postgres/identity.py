"""What tells a cluster from every other: its system identifier, remembered for the day when no server answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backupd.durable import cannot_write, replace_file
from backupd.engines.postgres.facts import ServerFacts
from backupd.errors import BackupdError
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.engines.postgres.writer import PostgresWriter

_FILE = "identity"


def pair_identity(writer: PostgresWriter) -> str:
    """The system identifier of the pair; the adopted or remembered one while no server answers.

    Raises:
        Refused, ConfigInvalid, NotHealthy: the pair is none, or nobody has ever said it.
    """
    known = _remembered(writer.state_dir)
    seen = writer.seen()
    found = {facts.system_identifier for facts in seen.values() if isinstance(facts, ServerFacts)}
    if len(found) == 1:
        identity = found.pop()
        if identity != known:
            adopt(writer.state_dir, identity)
        return identity
    if not found and known is not None:
        return known
    return next(iter(writer.judge(seen).facts.values())).system_identifier  # says what is wrong


def system_identifier(writer: PostgresWriter) -> str | None:
    """The same, or None when nobody knows it; never raises."""
    try:
        return pair_identity(writer)
    except BackupdError:
        return None


def adopt(state_dir: Path, identity: str) -> None:
    """Remember it, durably. Raises NotHealthy."""
    step("pg.identity.adopt")
    path = state_dir / _FILE
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, f"{identity}\n".encode())
    except OSError as error:
        raise cannot_write(path, error) from None


def _remembered(state_dir: Path) -> str | None:
    try:
        return (state_dir / _FILE).read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
