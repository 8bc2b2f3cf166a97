"""How a database looks at a glance: one mood, what is wrong and what to do, and the few numbers of its row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backupd.service.board import Seen

STALE_SECONDS = 300.0


class Mood(StrEnum):
    """How well it is; the worse, the earlier it is shown."""

    CRITICAL = "critical"
    WARNING = "warning"
    UNKNOWN = "not known"
    WELL = "well"


_RANK = {mood: number for number, mood in enumerate(Mood)}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One alarm for a person: how much it matters, what is wrong, what helps (may be empty)."""

    mood: Mood
    sentence: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Glance:
    """One database in a row; times are None when there is none."""

    name: str
    engine: str
    mood: Mood
    troubles: tuple[Trouble, ...]
    roles: tuple[tuple[str, str, str], ...] = ()
    last_backup_at: datetime | None = None
    last_backup_type: str = ""
    recovery_point_at: datetime | None = None
    held_log_bytes: int = 0
    held_log_share: float | None = None
    next_at: datetime | None = None
    next_type: str = ""
    running: bool = False
    seen_at: datetime | None = None

    @property
    def order(self) -> tuple[int, str]:
        """What is worst comes first."""
        return _RANK[self.mood], self.name


def glance_of(name: str, seen: Seen | None, now: datetime) -> Glance:
    """The row of one database, whether it was looked at or not."""
    if seen is None:
        waits = Trouble(Mood.UNKNOWN, "it was not looked at yet", "wait a moment; the service looks at each in turn")
        return Glance(name, "", Mood.UNKNOWN, (waits,))
    status: Mapping[str, Any] = seen.status
    troubles = troubles_of(seen, now)
    copies = status.get("copies") or ()
    held = max((int(copy["held_log_bytes"]) for copy in copies), default=0)
    budget = int(status.get("held_log_bytes_warn") or 0)
    last_at, last_type = _last_backup(status)
    window, coming = status.get("recovery_window") or {}, status.get("next_run") or {}
    return Glance(
        name=name,
        engine=str(status.get("engine") or ""),
        mood=min((one.mood for one in troubles), key=_RANK.__getitem__, default=Mood.WELL),
        troubles=troubles,
        roles=tuple((str(one["name"]), str(one["role"]), str(one["state"])) for one in copies),
        last_backup_at=last_at,
        last_backup_type=last_type,
        recovery_point_at=moment(window.get("to")),
        held_log_bytes=held,
        held_log_share=held / budget if budget else None,
        next_at=moment(coming.get("at")),
        next_type=str(coming.get("type") or ""),
        running=bool(status.get("running")),
        seen_at=seen.at,
    )


def troubles_of(seen: Seen, now: datetime) -> tuple[Trouble, ...]:
    """Its alarms, the worst first; and that it was not looked at for long."""
    details = seen.status.get("alarm_details")
    if isinstance(details, list):
        found = [_of_detail(one) for one in details if isinstance(one, Mapping)]
    else:  # sentences alone do not say how much they matter, so they matter much
        alarms = seen.status.get("alarms")
        found = [Trouble(Mood.CRITICAL, str(one)) for one in (alarms if isinstance(alarms, list) else ())]
    late = (now - seen.at).total_seconds()
    if late > STALE_SECONDS:
        sentence = f"it was looked at last {int(late // 60)} min ago; what is shown may be old"
        found.append(Trouble(Mood.UNKNOWN, sentence, "see whether the service still runs, and its log"))
    return tuple(sorted(found, key=lambda one: _RANK[one.mood]))


def _of_detail(detail: Mapping[str, Any]) -> Trouble:
    mood = Mood.WARNING if detail.get("severity") == "warning" else Mood.CRITICAL
    return Trouble(mood, str(detail.get("sentence")), str(detail.get("next_step") or ""))


def _last_backup(status: Mapping[str, Any]) -> tuple[datetime | None, str]:
    kinds = (("full", status.get("last_full")), ("incremental", status.get("last_incremental")))
    found = [(moment(one["finished_at"]), str(one.get("type") or kind)) for kind, one in kinds if one]
    there = [(at, kind) for at, kind in found if at is not None]
    return max(there, default=(None, ""))


def moment(text: object) -> datetime | None:
    """The moment that a JSON text says; None when it says none."""
    return datetime.fromisoformat(text) if isinstance(text, str) and text else None


@dataclass(frozen=True, slots=True)
class Overview:
    """All databases: how many of which mood, and one page of those that were asked for."""

    rows: tuple[Glance, ...]
    counts: Mapping[Mood, int]
    total: int
    found: int
    page: int
    pages: int

    @property
    def worst(self) -> Mood:
        """The mood of all together."""
        return next((mood for mood in Mood if self.counts.get(mood)), Mood.WELL)


def overview(
    glances: Iterable[Glance], *, find: str = "", mood: str = "", page: int = 1, rows_max: int = 100
) -> Overview:
    """The worst first, then by name; a page that is not there is the nearest one."""
    every = sorted(glances, key=lambda one: one.order)
    counts = {kind: sum(1 for one in every if one.mood is kind) for kind in Mood}
    wanted: Sequence[Glance] = [
        one for one in every if find.lower() in one.name and (not mood or one.mood.value == mood)
    ]
    pages = max(1, -(-len(wanted) // rows_max))
    page = min(max(1, page), pages)
    rows = tuple(wanted[(page - 1) * rows_max : page * rows_max])
    return Overview(rows, counts, len(every), len(wanted), page, pages)
