"""What backupd itself has noted about a copy, which no server can say: suspended, suspect, must be seeded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backupd.durable import cannot_write, write_json
from backupd.engines.postgres.must_seed import must_seed_file
from backupd.engines.postgres.pauses import PauseKind, read_marker
from backupd.model.pair import CopyState
from backupd.steps import step

_SUSPECT = "suspect-{copy}.json"


@dataclass(frozen=True, slots=True)
class CopyMark:
    """One note: the state that it puts the copy in, and why."""

    state: CopyState
    because: str


@dataclass(frozen=True, slots=True)
class Marks:
    """All notes: by copy, about the passive whoever it is, and whether a pause that stands is ours."""

    copies: Mapping[str, CopyMark]
    passive: CopyMark | None = None
    our_pause: bool = False


NO_MARKS = Marks({})


def read_marks(state_dir: Path, names: tuple[str, ...]) -> Marks:
    """The notes that lie in ``state_dir`` about these copies; a bad one is worse than the others. Raises NotHealthy."""
    copies: dict[str, CopyMark] = {}
    pause = read_marker(state_dir)
    if pause is not None and pause.kind is PauseKind.SUSPEND:
        copies[pause.copy] = CopyMark(CopyState.SUSPENDED, pause.comment or "suspended by a person")
    for name in names:
        suspect = _read(state_dir / _SUSPECT.format(copy=name))
        if suspect is not None:
            copies[name] = CopyMark(CopyState.SUSPECT, str(suspect.get("because", "a backup found damage in it")))
    seed = _read(must_seed_file(state_dir))  # about whichever copy is the passive
    passive = None if seed is None else CopyMark(CopyState.MUST_SEED, str(seed.get("reason", "a restore overtook it")))
    return Marks(copies, passive, our_pause=pause is not None)


def mark_suspect(state_dir: Path, copy: str, because: str) -> None:
    """Note that a copy's files are damaged, durably; it stays so until it was seeded. Raises NotHealthy."""
    path = state_dir / _SUSPECT.format(copy=copy)
    write_json(path, {"because": because, "at": datetime.now(UTC).isoformat()}, step_name="pg.marks.suspect")


def clear_suspect(state_dir: Path, copy: str) -> None:
    """The copy was made anew; safe to repeat. Raises NotHealthy."""
    path = state_dir / _SUSPECT.format(copy=copy)
    step("pg.marks.clear")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def _read(path: Path) -> dict[str, object] | None:
    try:
        stored = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}  # something was noted, and what it says is lost: that speaks for caution
    return stored if isinstance(stored, dict) else {}
