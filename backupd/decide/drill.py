"""Decides about drills: whether an answer is the expected one, which drill proves most, and which is overdue."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from backupd.decide.reasons import Reason
from backupd.model.drill import DrillFacts, Phase

Expected = str | int | float | bool

# So many intervals may pass without a drill that passed.
OVERDUE_INTERVALS = 2
_PAST_LOOKED_AT = 5
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class PastDrill:
    """A drill by its verdict: beside which backup that lies, when it ended, how long it took, and why it failed."""

    backup: str
    at: datetime
    passed: bool
    facts: DrillFacts
    seconds: float = 0.0
    because: str = ""


def answer_differs(expected: Expected, rows: Sequence[Sequence[object]]) -> Reason | None:
    """Why an answer is not the expected one, without what it is; None when it is.

    An answer is one row with one value.  Numbers are compared as numbers, ``true`` and ``false``
    also with 1 and 0 (an engine may have no truth values), all else as text.
    """
    if len(rows) != 1:
        how_many = "no row" if not rows else "more than one row"
        return Reason("rows", f"it answered {how_many}, and one is expected")
    if len(rows[0]) != 1:
        return Reason("columns", f"it answered {len(rows[0])} values, and one is expected")
    if _is(expected, rows[0][0]):
        return None
    return Reason("differs", "it answered another value than the expected one")


def answer_text(rows: Sequence[Sequence[object]]) -> str:
    """An answer as a person reads it, cut where it is long."""
    if not rows:
        return "no row"
    text = ", ".join(map(_text, rows[0]))
    more = ", and more rows" if len(rows) > 1 else ""
    return (text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...") + more


def _is(expected: Expected, value: object) -> bool:
    if isinstance(expected, bool):
        return value is expected or (type(value) is int and value == int(expected))
    if isinstance(expected, int | float):
        number = _number(value)
        return number is not None and number == Decimal(str(expected))
    return _text(value) == expected


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def _text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return str(value)


def last_proven(drills: Iterable[PastDrill], listed: Collection[str]) -> PastDrill | None:
    """The drill that proves the newest state of those whose backups the archive all lists still; None without one.

    A drill of an older state, later than that, proves less than what was proven before.
    """
    proven = [one for one in drills if one.passed and one.facts.backups and set(one.facts.backups) <= set(listed)]
    return max(proven, key=lambda one: (one.facts.point_at or one.facts.started_at, one.at), default=None)


def overdue(last_passed: datetime | None, known_since: datetime, interval_seconds: float, now: datetime) -> bool:
    """Whether twice the planned interval has passed without a drill that passed.

    Args:
        last_passed: when the last one that passed ended; None: there was none.
        known_since: since when the policy plans drills: it owes none for the time before.
        interval_seconds: the longest pause between two of them that the schedule plans.
        now: the moment.
    """
    begin = max(last_passed, known_since) if last_passed is not None else known_since
    return now - begin > timedelta(seconds=OVERDUE_INTERVALS * interval_seconds)


def expected_seconds(drills: Iterable[PastDrill], pages_bytes: int, log_bytes: int) -> float | None:
    """How long a restore of so many stored bytes may take, by the last drills that passed; None without one.

    Of each drill the time for pages grows with the bytes of pages, that for log with those of log, and the rest
    stays; of the last few the slowest is told, for a person who waits is better surprised the other way.
    """
    passed = sorted((one for one in drills if one.passed), key=lambda one: one.at)[-_PAST_LOOKED_AT:]
    return max((_scaled(one.facts, pages_bytes, log_bytes) for one in passed), default=None)


def expected_of_state(drills: Iterable[PastDrill], proven: PastDrill | None) -> float | None:
    """How long a restore of the state that was proven last may take; None while none was."""
    if proven is None:
        return None
    seconds = expected_seconds(drills, proven.facts.pages_bytes, proven.facts.log_bytes)
    return None if seconds is None else round(seconds, 3)


def _scaled(facts: DrillFacts, pages_bytes: int, log_bytes: int) -> float:
    spent = facts.seconds or {}
    pages = spent.get(Phase.FETCH, 0.0)
    log = spent.get(Phase.REPLAY, 0.0) + spent.get(Phase.RECOVER, 0.0)
    rest = max(0.0, facts.restore_seconds - pages - log)
    pages_share = pages_bytes / facts.pages_bytes if facts.pages_bytes else 1.0
    # What an engine does at the end takes its time without any log, too.
    log_share = max(1.0, log_bytes / facts.log_bytes) if facts.log_bytes else 1.0
    return rest + pages * pages_share + log * log_share
