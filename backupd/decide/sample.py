"""Decides which objects of an archive a verify with a budget reads: least recently looked at first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object that could be read: its stored size, when it was last looked at, and when it was last found sound.

    ``verified_at`` is None when it was never found sound, or found damaged since.
    """

    name: str
    size_bytes: int
    looked_at: datetime | None = None
    verified_at: datetime | None = None


def choose_sample(
    candidates: Iterable[Candidate],
    *,
    budget_bytes: int | None = None,
    now: datetime | None = None,
    reverify_days: int | None = None,
) -> tuple[Candidate, ...]:
    """What to read now, in this order.

    Promise: what was never looked at comes first, then what was looked at longest
    ago, then the lower name; the sum is not above ``budget_bytes`` unless the first
    object alone is.  Whoever reads each sample reaches every object: two samples
    in a row are more than a budget, or all.

    Args:
        candidates: every object, each once.
        budget_bytes: how much may be read; None: any amount.
        now: the moment to measure ages from.
        reverify_days: what was found sound less than so many days before ``now`` is left out; None: nothing is.
    """
    due = [each for each in candidates if not _is_fresh(each, now, reverify_days)]
    due.sort(key=lambda each: (each.looked_at or _NEVER, each.name))
    if budget_bytes is None:
        return tuple(due)
    chosen: list[Candidate] = []
    left = budget_bytes
    for each in due:
        if each.size_bytes > left and chosen:
            break
        chosen.append(each)
        left -= each.size_bytes
    return tuple(chosen)


def _is_fresh(candidate: Candidate, now: datetime | None, reverify_days: int | None) -> bool:
    if candidate.verified_at is None or now is None or reverify_days is None:
        return False
    return now - candidate.verified_at < timedelta(days=reverify_days)
