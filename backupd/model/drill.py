"""What a drill found, as a value: which state was restored, how long each part took, and what was asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self


class Phase(StrEnum):
    """The parts of a drill, in their order; a failure names the one that it happened in."""

    PLAN = "plan"
    FETCH = "fetch"
    REPLAY = "replay"
    RECOVER = "recover"
    PLACE = "place"
    OPEN = "open"
    ENGINE_CHECKS = "engine-checks"
    OWN_CHECKS = "own-checks"
    DISCARD = "discard"


# What a real restore does as well; the rest is what a drill does beyond it.
RESTORE_PHASES = frozenset({Phase.PLAN, Phase.FETCH, Phase.REPLAY, Phase.RECOVER, Phase.PLACE, Phase.OPEN})


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """One of the administrator's own questions: whether its answer was the expected one; never the answer itself."""

    name: str
    passed: bool
    says: str = ""


@dataclass(frozen=True, slots=True)
class DrillFacts:
    """One drill.

    Attributes:
        run: the run's id in the journal of ``host``.
        host: where it was.
        started_at: when it began.
        backups: every backup that was read, the one with the pages first: the chain that it proves.
        position: where the restored state stood; empty when it came to none.
        point_at: the moment of that state, by the backups' records; None when it came to none.
        seconds: by phase, those that were begun.
        pages_bytes: stored bytes of pages that were to be fetched.
        log_bytes: stored bytes of log that was to be replayed.
        restored_bytes: size of the restored files.
        engine_checks: what the engine was asked, in words.
        notes: what could not be looked at, in words.
        checks: the administrator's own questions.
        failed_in: the phase that it failed in; None when it passed.
        sealed: the answers, for who has the key: an age file in base64; empty where the archive is not encrypted.
        answers: the answers, where the archive is not encrypted.
    """

    run: str
    host: str
    started_at: datetime
    backups: tuple[str, ...]
    position: str = ""
    point_at: datetime | None = None
    seconds: Mapping[Phase, float] | None = None
    pages_bytes: int = 0
    log_bytes: int = 0
    restored_bytes: int = 0
    engine_checks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    checks: tuple[CheckAnswer, ...] = ()
    failed_in: Phase | None = None
    sealed: str = ""
    answers: Mapping[str, str] | None = None

    @property
    def restore_seconds(self) -> float:
        """How long a restore of the same state would have taken."""
        return sum(spent for phase, spent in (self.seconds or {}).items() if phase in RESTORE_PHASES)

    def to_json(self) -> dict[str, Any]:
        """For the verdict in the archive, ``drill --json`` and ``show --json``."""
        return {
            "run": self.run,
            "host": self.host,
            "started_at": self.started_at.isoformat(),
            "backups": list(self.backups),
            "position": self.position,
            "point_at": self.point_at.isoformat() if self.point_at else None,
            "phases_seconds": {phase.value: round(spent, 3) for phase, spent in (self.seconds or {}).items()},
            "restore_seconds": round(self.restore_seconds, 3),
            "pages_bytes": self.pages_bytes,
            "log_bytes": self.log_bytes,
            "restored_bytes": self.restored_bytes,
            "engine_checks": list(self.engine_checks),
            "notes": list(self.notes),
            "checks": [{"name": one.name, "passed": one.passed, "says": one.says} for one in self.checks],
            "failed_in": self.failed_in.value if self.failed_in else None,
            "sealed": self.sealed,
            "answers": dict(self.answers or {}),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """What ``to_json`` made. Raises KeyError, ValueError, TypeError, AttributeError: it is not that."""
        failed_in, point_at = row["failed_in"], row["point_at"]
        return cls(
            run=str(row["run"]),
            host=str(row["host"]),
            started_at=datetime.fromisoformat(row["started_at"]),
            backups=tuple(map(str, row["backups"])),
            position=str(row["position"]),
            point_at=datetime.fromisoformat(point_at) if point_at else None,
            seconds={Phase(name): float(spent) for name, spent in row["phases_seconds"].items()},
            pages_bytes=int(row["pages_bytes"]),
            log_bytes=int(row["log_bytes"]),
            restored_bytes=int(row["restored_bytes"]),
            engine_checks=tuple(map(str, row["engine_checks"])),
            notes=tuple(map(str, row["notes"])),
            checks=tuple(CheckAnswer(str(one["name"]), bool(one["passed"]), str(one["says"])) for one in row["checks"]),
            failed_in=Phase(failed_in) if failed_in else None,
            sealed=str(row["sealed"]),
            answers={str(name): str(said) for name, said in row["answers"].items()},
        )
