"""A year of 1,000 policies: nothing overlaps, nothing is missed without one catch-up, nothing storms."""

from __future__ import annotations

import random
import sys
import time
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from backupd.decide.schedule import BACKUPS, Outcome, serves
from backupd.decide.slots import slots_between
from backupd.decide.turns import Caps
from backupd.model.calendar import parse_calendar, parse_window
from backupd.model.rules import ScheduleRules, Task
from tests.decide.year import START, Run, Year

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Australia/Lord_Howe", "Africa/Cairo"]
FULLS = ["sun 01:00", "sat 02:30", "0 3 * * sun", "sun 01:00; wed 13:00", "30 2 1,15 * *"]
INCREMENTS = ["daily 02:30", "mon..sat 02:00", "daily 00:00,12:00", "15 2,14 * * mon-fri", "every 8 h"]
BLACKOUTS = [(), ("mon..fri 08:00-18:00",), ("daily 23:30-00:30",)]


def policies(count: int, seed: int) -> list[ScheduleRules]:
    dice = random.Random(seed)
    return [
        ScheduleRules(
            dice.choice(ZONES),
            {Task.FULL: parse_calendar(dice.choice(FULLS)), Task.INCREMENTAL: parse_calendar(dice.choice(INCREMENTS))},
            jitter_seconds_max=dice.choice([0, 600]),
            blackout=tuple(map(parse_window, dice.choice(BLACKOUTS))),
        )
        for _ in range(count)
    ]


def by_policy(runs: list[Run]) -> dict[int, list[Run]]:
    found: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.policy].append(run)
    return found


def check_no_overlap(year: Year) -> None:
    for runs in by_policy(year.runs).values():
        assert all(earlier.ends <= later.began for earlier, later in pairwise(runs))


def check_caps(year: Year) -> None:
    for node in (0, 1):
        changes = [(run.began, 1, run.policy) for run in year.runs if run.node == node]
        changes += [(run.ends, -1, run.policy) for run in year.runs if run.node == node]
        count = 0
        for _, change, _ in sorted(changes):
            count += change
            assert count <= year.caps.runs_max


def check_each_slot_once(year: Year) -> None:
    """Where no clock was wrong, no slot was done twice, and none was tried more often than it may be."""
    done: Counter[tuple[int, Task, datetime]] = Counter()
    for run in year.runs:
        if run.outcome is Outcome.DONE and not run.clock_was_wrong:
            done[run.policy, run.due.task, run.due.slot.at] += 1
    wrong = [(span.begins, span.ends) for spans in year.wrong for span in spans]
    for (_, _, at), count in done.items():
        near_a_wrong_clock = any(begins - timedelta(days=8) <= at <= ends + timedelta(days=8) for begins, ends in wrong)
        assert count == 1 or near_a_wrong_clock
    failed = [run for run in year.runs if run.outcome is Outcome.FAILED and not run.clock_was_wrong]
    tried = Counter((run.policy, run.node, run.due.slot) for run in failed)
    assert max(tried.values(), default=0) <= 4


def check_caught_up(year: Year) -> None:
    """Every slot is served before the next one of its task, unless nobody could: then once, soon after somebody can."""
    slack = timedelta(hours=14)  # blackouts, retries, caps, and a run of half an hour before it
    of = by_policy(year.runs)
    for policy, rules in enumerate(year.policies):
        runs = sorted(of[policy], key=lambda run: run.began)
        for task in BACKUPS:
            for slot in slots_between(rules, task, START + timedelta(days=9), year.end - slack, f"database-{policy}"):
                window = (slot.at, slot.at + slack)
                if not undisturbed(year, policy, *window):
                    continue
                near = begun_in(runs, *window)
                done = any(run.outcome is Outcome.DONE and serves(run.due.task, task) for run in near)
                assert done or gave_up(near, task), (policy, task, slot)


def begun_in(runs: list[Run], begins: datetime, ends: datetime) -> list[Run]:
    """Of one policy's, which began in that time; runs are in order, and a year has too many to look at each of them."""
    first = bisect_left(runs, begins, key=lambda run: run.began)
    return runs[first : bisect_right(runs, ends, key=lambda run: run.began)]


def undisturbed(year: Year, policy: int, begins: datetime, ends: datetime) -> bool:
    """Whether one node that was up had the right copy and a right clock all the while."""
    node = year.turn(policy, begins)
    spans = [*year.down[node], *year.wrong[node]]
    moved = any(begins <= moment <= ends for moment in year.failovers[policy])
    # A clock that ran ahead has left an archive whose newest backup is from the future: it serves until then.
    ahead = any(
        span.begins - timedelta(days=4) <= ends and begins <= span.ends + timedelta(days=4)
        for each in year.wrong
        for span in each
    )
    return not moved and not ahead and not any(span.begins <= ends and begins <= span.ends for span in spans)


def gave_up(near: list[Run], task: Task) -> bool:
    """Whether it was tried again and again, for this slot or for one that came meanwhile."""
    return sum(run.due.task is task and run.outcome is not Outcome.DONE for run in near) >= 3


def check_no_storm(year: Year) -> None:
    """After an outage each policy begins at most one backup of each type to catch up, however long it lasted."""
    for node in (0, 1):
        for span in year.down[node]:
            later = span.ends + timedelta(hours=3)
            begun = Counter(
                (run.policy, run.due.task)
                for run in year.runs
                if run.node == node
                and span.ends <= run.began < later
                and run.due.slot.at < span.ends
                and run.outcome is Outcome.DONE
                and not run.clock_was_wrong
            )
            assert max(begun.values(), default=0) <= 1


def play(count: int, seed: int, caps: Caps) -> Year:
    year = Year(policies(count, seed), seed, caps=caps)
    year.play()
    check_no_overlap(year)
    check_caps(year)
    check_each_slot_once(year)
    check_caught_up(year)
    check_no_storm(year)
    return year


@pytest.mark.parametrize("seed", range(2))
def test_a_year_of_a_few_policies(seed: int) -> None:
    year = play(4, seed, Caps(2, 2))
    assert len(year.runs) > 4 * 200


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_year_of_a_thousand_policies(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    year = play(1000, 2026, Caps(60, 30))
    with capsys.disabled():
        ends = Counter(run.outcome for run in year.runs)
        seconds = time.monotonic() - began
        sys.stdout.write(
            f"\n1,000 policies, a year: {len(year.runs)} runs {dict(ends)}, {year.looks} looks, {seconds:.0f} s\n"
        )
