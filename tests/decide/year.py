"""A simulated year of schedules on two nodes: outages, clocks that jump, failovers; all decisions are the real ones."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from backupd.decide.schedule import Attempt, Due, Outcome, decide, serves
from backupd.decide.slots import Slot
from backupd.decide.turns import Candidate, Caps, choose_turns
from backupd.model.rules import ScheduleRules, Task

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Run:
    """One run: of which policy and node, for what, when by true time and by the node's clock, how it ended."""

    policy: int
    node: int
    due: Due
    began: datetime
    clock: datetime
    ends: datetime
    outcome: Outcome = Outcome.DONE
    clock_was_wrong: bool = False


@dataclass
class Span:
    """A time in which a node is down, or its clock is off by so much."""

    begins: datetime
    ends: datetime
    off: timedelta = timedelta()


@dataclass
class Year:
    """The world: two nodes, one archive, many policies. Times are true ones unless they say otherwise.

    A look is what the service does when it is rung: decide, by its own clock, what
    is due; a run begins when it is this node's turn, the caps let it, and the archive
    does not hold what serves the slot already.
    """

    policies: list[ScheduleRules]
    seed: int
    days: int = 365
    caps: Caps = field(default_factory=lambda: Caps(8, 8))
    fails: float = 0.01
    runs: list[Run] = field(default_factory=list)
    looks: int = 0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.end = START + timedelta(days=self.days)
        self.down = [self._spans(12, 2, 14 * 24) for _ in range(2)]
        self.wrong = [self._spans(6, 1, 48, off_hours=72) for _ in range(2)]
        count = len(self.policies)
        self.failovers = [sorted(self._moment() for _ in range(self.dice.randrange(4))) for _ in range(count)]
        self.archive: list[list[Attempt]] = [[] for _ in range(count)]
        self.tries: dict[tuple[int, int], list[Attempt]] = defaultdict(list)
        self.running: dict[int, Run] = {}
        self.per_node: list[list[int]] = [[], []]
        self.waiting: list[dict[int, Due]] = [{}, {}]
        self._queue: list[tuple[datetime, int, int, int, Run | None]] = []
        self._number = 0

    def _moment(self) -> datetime:
        return START + timedelta(seconds=self.dice.randrange(self.days * 86400))

    def _spans(self, count: int, hours_min: int, hours_max: int, off_hours: int = 0) -> list[Span]:
        found = []
        for _ in range(self.dice.randrange(count + 1)):
            begins = self._moment()
            off = timedelta(seconds=self.dice.randint(-off_hours * 3600, off_hours * 3600))
            found.append(Span(begins, begins + timedelta(hours=self.dice.uniform(hours_min, hours_max)), off))
        return found

    # --- how the world is ---

    def is_up(self, node: int, at: datetime) -> bool:
        return not any(span.begins <= at < span.ends for span in self.down[node])

    def clock(self, node: int, at: datetime) -> datetime:
        return at + sum((span.off for span in self.wrong[node] if span.begins <= at < span.ends), timedelta())

    def turn(self, policy: int, at: datetime) -> int:
        return (policy + sum(moment <= at for moment in self.failovers[policy])) % 2

    # --- how it goes on ---

    def play(self) -> None:
        for policy in range(len(self.policies)):
            for node in (0, 1):
                self._ring(START, policy, node)
                for span in (*self.down[node], *self.wrong[node]):  # a start, or a clock that was set, is noticed
                    for at in (span.begins, span.ends):
                        self._ring(at + timedelta(seconds=30), policy, node)
                for moment in self.failovers[policy]:
                    self._ring(moment + timedelta(seconds=30), policy, node)
        while self._queue:
            at, _, policy, node, run = heapq.heappop(self._queue)
            if at >= self.end:
                return
            if run is not None:
                self._over(at, run)
            else:
                self._look(at, policy, node)

    def _ring(self, at: datetime, policy: int, node: int, run: Run | None = None) -> None:
        self._number += 1
        heapq.heappush(self._queue, (at, self._number, policy, node, run))

    def _look(self, at: datetime, policy: int, node: int) -> None:
        self.waiting[node].pop(policy, None)
        if not self.is_up(node, at) or self.turn(policy, at) != node or policy in self.running:
            return
        self.looks += 1
        now = self.clock(node, at)
        rules, database = self.policies[policy], f"database-{policy}"
        attempts = [*self.archive[policy][-100:], *self.tries[policy, node][-200:]]
        answer = decide(rules, now, attempts, database=database)
        if answer.due is not None:
            self.waiting[node][policy] = answer.due
            self._begin(at, node)
        if policy not in self.running and answer.look_again_at is not None:
            self._ring(at + max(answer.look_again_at - now, timedelta(seconds=1)), policy, node)

    def _begin(self, at: datetime, node: int) -> None:
        waiting = [Candidate(str(policy), f"archive-{policy % 4}", due) for policy, due in self.waiting[node].items()]
        full = Due(Task.FULL, Slot(at, Task.FULL), ())
        busy = [Candidate(str(policy), f"archive-{policy % 4}", full) for policy in self.per_node[node]]
        for one in choose_turns(waiting, busy, self.caps).begin:
            policy = int(one.database)
            del self.waiting[node][policy]
            if policy in self.running or self.turn(policy, at) != node:
                continue
            clock = self.clock(node, at)
            # Under the lease: what the archive holds by now. That label times are whole seconds plays no part here.
            if any(
                done.at >= one.due.slot.at and serves(done.task, one.due.task) for done in self.archive[policy][-100:]
            ):
                self.tries[policy, node].append(Attempt(one.due.task, clock))
                self._ring(at + timedelta(seconds=1), policy, node)
                continue
            often = policy % 4 == 3  # an archive that is mostly away
            failed = self.dice.random() < (0.6 if often else self.fails)
            ends = at + timedelta(seconds=self.dice.uniform(5, 1800))
            run = Run(policy, node, one.due, at, clock, ends, Outcome.FAILED if failed else Outcome.DONE)
            run.clock_was_wrong = clock != at
            self.running[policy] = run
            self.per_node[node].append(policy)
            self.runs.append(run)
            self._ring(ends, policy, node, run)

    def _over(self, at: datetime, run: Run) -> None:
        policy, node = run.policy, run.node
        del self.running[policy]
        self.per_node[node].remove(policy)
        if any(span.begins <= moment < span.ends for span in self.down[node] for moment in (run.began, at)):
            run.outcome = Outcome.STOPPED  # the node went down under it
        elif self.turn(policy, at) != node:
            run.outcome = Outcome.FAILED  # a role change ends a run
        if run.outcome is Outcome.DONE:
            self.archive[policy].append(Attempt(run.due.task, run.clock))
        if run.outcome is not Outcome.STOPPED:
            self.tries[policy, node].append(Attempt(run.due.task, run.clock, run.outcome, self.clock(node, at)))
        for each in (0, 1):
            self._ring(at + timedelta(seconds=1), policy, each)
        self._begin(at, node)
