"""Decides whose turn it is: which node runs a schedule, and which of its runs begin when only so many may at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backupd.decide.reasons import Reason
from backupd.decide.schedule import TASKS, Due
from backupd.model.pair import PairStatus
from backupd.model.rules import SourceRule, Task


@dataclass(frozen=True, slots=True)
class Caps:
    """How many runs go on at once on this host, and to one archive."""

    runs_max: int = 2
    runs_per_archive_max: int = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A run that is due, of a database and to an archive."""

    database: str
    archive: str
    due: Due


@dataclass(frozen=True, slots=True)
class Turns:
    """Which begin, in this order, and why the others wait."""

    begin: tuple[Candidate, ...]
    wait: tuple[tuple[Candidate, Reason], ...]


def lane_of(database: str, task: Task) -> tuple[str, bool]:
    """One run at a time in each: a drill touches nothing of the pair, and may take hours, so it has one of its own."""
    return database, task is Task.DRILL


def choose_turns(candidates: Iterable[Candidate], running: Sequence[Candidate], caps: Caps) -> Turns:
    """Those that have waited longest go first; a database never has two runs, but for a drill beside another one.

    Where more than one run may go on, drills leave one place to the others.

    Args:
        candidates: what is due.
        running: the runs that go on now.
        caps: how many may.
    """
    busy = {lane_of(one.database, one.due.task) for one in running}
    per_archive = Counter(one.archive for one in running)
    count, drills = len(running), sum(one.due.task is Task.DRILL for one in running)
    drills_max = max(1, caps.runs_max - 1)
    begin: list[Candidate] = []
    wait: list[tuple[Candidate, Reason]] = []
    for one in sorted(candidates, key=lambda one: (one.due.slot.at, TASKS.index(one.due.task), one.database)):
        lane = lane_of(one.database, one.due.task)
        if lane in busy:
            wait.append((one, Reason("running", f"a run of {one.database} goes on")))
        elif count >= caps.runs_max:
            wait.append((one, Reason("host-cap", f"{count} runs go on on this host, and {caps.runs_max} may")))
        elif one.due.task is Task.DRILL and drills >= drills_max:
            sentence = f"{drills} drills go on on this host, and {drills_max} may, for one place is kept for backups"
            wait.append((one, Reason("drill-cap", sentence)))
        elif per_archive[one.archive] >= caps.runs_per_archive_max:
            sentence = f"{per_archive[one.archive]} runs go on to {one.archive}, and {caps.runs_per_archive_max} may"
            wait.append((one, Reason("archive-cap", sentence)))
        else:
            begin.append(one)
            busy.add(lane)
            per_archive[one.archive] += 1
            count += 1
            drills += one.due.task is Task.DRILL
    return Turns(tuple(begin), tuple(wait))


def not_our_turn(pair: PairStatus, nodes: Mapping[str, str | None], node: str, rule: SourceRule) -> Reason | None:
    """Why a database's schedule is another node's to run now; None when it is ours.

    It is the passive's node that runs it, so a failover moves the work without an
    edit.  When the passive does not answer and the policy lets the active be read
    instead, it is the active's.

    Args:
        pair: the copies as they are now.
        nodes: the node of each copy by its name, None where the policy names none.
        node: this one.
        rule: what a backup may be read from.
    """
    source = pair.passive
    if source.seen_at is None and rule is SourceRule.PREFER_PASSIVE and nodes.get(pair.active.name) is not None:
        source = pair.active
    wanted = nodes.get(source.name)
    if wanted is None or wanted == node:
        return None
    return Reason("not-our-turn", f"the {source.role} copy {source.name} is on {wanted}, and this is {node}")
