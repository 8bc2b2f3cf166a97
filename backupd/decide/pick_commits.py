"""Chooses which commits a person is shown: those that did harm, and those nearest to a moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TypeVar


class Told(Protocol):
    """What is asked of a commit."""

    @property
    def at(self) -> datetime | None:
        """When it was made."""
        ...


CommitT = TypeVar("CommitT", bound=Told)


def pick_commits(
    commits: Sequence[CommitT], harmful: Sequence[bool], near: datetime, count_max: int
) -> tuple[CommitT, ...]:
    """At most ``count_max`` of them, in their order: first the harmful ones, then the others, each by nearness.

    Args:
        commits: all, in the log's order.
        harmful: for each whether it took something away.
        near: the moment.
        count_max: how many.
    """

    def rank(at: int) -> tuple[bool, float, int]:
        moment = commits[at].at
        away = abs((moment - near).total_seconds()) if moment is not None else 0.0
        return not harmful[at], away, at

    chosen = sorted(sorted(range(len(commits)), key=rank)[: max(0, count_max)])
    return tuple(commits[at] for at in chosen)


def names_table(told: str, wished: str) -> bool:
    """Whether a table that is told as ``schema.table`` or longer is the one that a person calls ``wished``."""
    told, wished = told.casefold(), wished.casefold()
    return told == wished or told.endswith("." + wished)
