"""A ledger whose every commit is known by time and place, and what a restore to any point of it must bring back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backupd.decide.restore_path import RecoveryWindow

Rows = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """One commit: the table's rows after it, the moments just before and after it, and where it is in the log.

    A restore to ``first`` up to ``last`` (offsets) stops right after this commit; ``name`` is what the list of
    commits calls it.
    """

    branch: int
    history: str
    rows: Rows
    begun: datetime
    done: datetime
    first: int
    last: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Wished:
    """One target: its option and value, and which states of the table are right; empty: it must be refused."""

    option: str
    value: str
    right: frozenset[Rows]


@dataclass
class KnownLedger:
    """What the writer has noted; a restore to the active begins another branch."""

    entries: list[Known] = field(default_factory=list)
    branch: int = 0
    # For each branch but the first: the rows that it began with.
    roots: dict[int, Rows] = field(default_factory=dict)

    def states_at(self, at: datetime, branch: int) -> frozenset[Rows]:
        """What the table may have held at ``at``: one state, or two while a commit was under way."""
        own = [one for one in self.entries if one.branch == branch]
        done = [one for one in own if one.done <= at]
        before = done[-1].rows if done else self.roots.get(branch, ())
        under_way = [one.rows for one in own if one.begun <= at < one.done]
        return frozenset([before, *under_way])


def targets(
    ledger: KnownLedger,
    windows: Sequence[RecoveryWindow],
    count: int,
    dice: random.Random,
    *,
    position: Callable[[str, int], str],
) -> Iterator[Wished]:
    """Random points: half of them times, over all of the ledger and a little beyond it, the rest places in the log.

    Args:
        ledger: what is known.
        windows: what the archive says that it can bring back.
        count: how many.
        dice: the source of chance.
        position: how a history and an offset are written.
    """
    begin = min(one.from_time for one in windows) - timedelta(seconds=3)
    end = max(one.to_time for one in windows) + timedelta(seconds=3)
    branch_of = {one.history: one.branch for one in ledger.entries}
    reachable = [one for one in ledger.entries if _is_in(one, windows, branch_of)]
    for number in range(count):
        if number % 2 == 0:
            at = begin + (end - begin) * dice.random()
            covering = [one for one in windows if one.from_time <= at <= one.to_time]
            right: frozenset[Rows] = frozenset()
            for window in covering:
                right |= ledger.states_at(at, branch_of[window.history])
            yield Wished("--at", at.isoformat(), right)
            continue
        one = dice.choice(reachable)
        if one.name and number % 4 == 1:
            own = [each for each in ledger.entries if each.branch == one.branch]
            at_index = own.index(one)
            before = own[at_index - 1].rows if at_index else ledger.roots.get(one.branch, ())
            # After a restore the server counts on from there: a number that two branches have names neither.
            alone = len([each for each in ledger.entries if each.name == one.name]) == 1
            option = "--before-xid" if one.name.isdigit() else "--before-position"
            yield Wished(option, one.name, frozenset([before]) if alone else frozenset())
        else:
            offset = dice.randint(one.first, one.last)
            yield Wished("--to", position(one.history, offset), frozenset([one.rows]))


def _is_in(one: Known, windows: Sequence[RecoveryWindow], branch_of: dict[str, int]) -> bool:
    """Whether the log from just before the commit to all after it can be brought back."""
    return any(
        branch_of[window.history] == one.branch
        and window.from_position.offset < one.first
        and one.last <= window.to_position.offset
        for window in windows
    )
