"""What the journal tells: runs, their moves, truncations and attempts, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from backupd.model.position import Position
from backupd.model.states import RunState
from backupd.process import ProcessIdentity

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
Facts: TypeAlias = Mapping[str, JsonValue]


class RunKind(StrEnum):
    """What a run walks through; only a backup uses the whole table of states."""

    BACKUP = "backup"
    RESTORE = "restore"
    TRUNCATE = "truncate"
    VERIFY = "verify"
    PRUNE = "prune"
    RECOVER = "recover"
    DRILL = "drill"
    SEED = "seed"
    COPY_ARCHIVE = "copy-archive"


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the journal knows it.

    ``type`` is the backup's type and "" for other kinds; ``label`` is the
    backup's id once it has one.  ``finished_at`` is None while a process works
    on it, or died working on it.
    """

    id: str
    database: str
    kind: RunKind
    type: str
    state: RunState
    process: ProcessIdentity
    started_at: datetime
    finished_at: datetime | None
    label: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class Transition:
    """One entry of a run's diary; ``event`` is ``note`` for a sentence that moved nothing."""

    run_id: str
    event: str
    from_state: str
    to_state: str
    says: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal has just noted of a run; ``run`` is as it was before, ``facts`` is what came new.

    ``event`` is ``begin``, a move's name, ``finish``, or ``note``.
    """

    run: Run
    event: str
    state: RunState
    says: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class TruncationNote:
    """How the truncation after backup ``label`` went: ``before`` is the position that log was removed up to, if any."""

    label: str
    database: str
    state: str
    before: Position | None
    blocked_by: tuple[str, ...]
    at: datetime
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a slot of the schedule (``slot`` is the schedule's own name for it)."""

    database: str
    slot: str
    run_id: str
    outcome: str
    at: datetime
