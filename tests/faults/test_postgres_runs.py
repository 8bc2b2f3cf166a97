"""Kills and fails runs on a real PostgreSQL pair, step by step; the promises hold after each, and the next is clean."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.faults.pg_house import BrokenHome, broken_home
from tests.faults.pg_processes import three_lines

pytestmark = pytest.mark.real

ALIKE = 8
STEPS_MORE = 100  # a run among other runs may take a few more steps than the one that was counted
PARTS = 4  # each of the long tests takes every fourth step, so that none runs for long
FULL: tuple[str, ...] = ("backup", "orders", "--type", "full")
INCREMENTAL: tuple[str, ...] = ("backup", "orders", "--type", "incremental")


@pytest.fixture(scope="module")
def shared() -> Iterator[BrokenHome]:
    """One pair for all the quick tests: after each it is as good as new, which is what they are about."""
    with broken_home("paused") as home:
        home.forked_ok(*FULL)
        yield home


@pytest.mark.parametrize(
    ("words", "step"),
    [
        pytest.param(FULL, "1@pg.guard.pause", id="full-marker-written-no-pause-yet"),
        pytest.param(FULL, "1@pg.backup_mode.start", id="full-replay-paused"),
        pytest.param(FULL, "2@pipeline.segment", id="full-reading-the-frozen-files", marks=pytest.mark.slow),
        pytest.param(FULL, "1@pg.freeze.resume", id="full-thawing"),
        pytest.param(FULL, "1@archive.commit", id="full-stored", marks=pytest.mark.slow),
        pytest.param(FULL, "1@pg.stamp.write", id="full-committed"),
        pytest.param(INCREMENTAL, "1@archive.log", id="incremental-storing", marks=pytest.mark.slow),
        pytest.param(INCREMENTAL, "1@pg.log.checkpoint_active", id="incremental-letting-log-go"),
    ],
)
def test_a_killed_run_leaves_nothing(shared: BrokenHome, words: tuple[str, ...], step: str) -> None:
    shared.write()
    running = shared.begin(*words, BACKUPD_FAULT=f"die:{step}", BACKUPD_FAULT_ROLE="run")
    assert running.ended().status == -signal.SIGKILL
    shared.judge(f"killed at {step}", restore=step in {"1@pg.stamp.write", "1@pg.freeze.resume"})


@pytest.mark.slow
@pytest.mark.parametrize("step", ["1@pg.guard.pause", "1@pg.backup_mode.start", "2@journal.move", "3@journal.move"])
def test_recover_alone_tidies_up(shared: BrokenHome, step: str) -> None:
    running = shared.begin(*FULL, BACKUPD_FAULT=f"die:{step}", BACKUPD_FAULT_ROLE="run")
    assert running.ended().status == -signal.SIGKILL
    shared.replays(step)
    shared.forked_ok("recover")
    shared.nothing_is_left(f"recovered after {step}")
    assert "nothing was left" in shared.forked_ok("recover").out


def test_a_killed_guardian_costs_a_freeze_and_no_more(shared: BrokenHome) -> None:
    with shared.stopped("3@journal.move", *FULL) as run:
        os.kill(run.guardian(), signal.SIGKILL)
        run.go_on()
        answer = run.ended()
    if answer.status != 0:
        three_lines(answer, 7)
    shared.judge("guardian killed", restore=False)


def test_run_and_guardian_killed_is_put_right_by_the_next_start(shared: BrokenHome) -> None:
    with shared.stopped("3@journal.move", *FULL) as run:
        os.kill(run.guardian(), signal.SIGKILL)
        run.kill()
    with shared.context() as context:
        assert context.journal.in_progress("orders"), "the run was killed in the middle"
    shared.forked_ok("recover")
    shared.judge("both killed", restore=False)


def test_the_next_run_itself_puts_it_right(shared: BrokenHome) -> None:
    with shared.stopped("2@pipeline.segment", *FULL) as run:
        os.kill(run.guardian(), signal.SIGKILL)
        run.kill()
    shared.goes_on("both killed while the files were read", restore=False)


@pytest.mark.parametrize("copy", ["active", pytest.param("passive", marks=pytest.mark.slow)])
def test_a_server_that_is_away_for_a_while_when_all_pages_are_read(shared: BrokenHome, copy: str) -> None:
    """The log that the pages need is late, and no reason to read them again."""
    server = getattr(shared.home.pair, copy)
    with shared.stopped("2@pg.prepare.close_log", *FULL) as run:
        server.stop()
        run.go_on()
        time.sleep(2)
        assert run.process.poll() is None, run.ended().told()
        server.start()
        answer = run.ended()
    assert answer.status == 0, answer.told()
    shared.home.pair.wait_streaming()
    shared.judge(f"{copy} was away", restore=copy == "active")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 8))
def test_a_guardian_that_dies_at_any_step(shared: BrokenHome, number: int, tmp_path: Path) -> None:
    faults = {"BACKUPD_FAULT": f"die:{number}", "BACKUPD_FAULT_ROLE": "guardian"}
    answer = shared.begin(*FULL, **faults, BACKUPD_STEP_TRACE=str(tmp_path / "trace")).ended()
    assert number > 3 or f"{number} guardian" in (tmp_path / "trace").read_text()
    if answer.status != 0:
        three_lines(answer, 7)
    shared.judge(f"guardian died at {number}", restore=False)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 5))
def test_a_guardian_that_hangs_at_any_step(shared: BrokenHome, number: int) -> None:
    shared.home.write_policy(backup='provider = "paused"', freeze='paused_seconds_max = "4s"')
    try:
        faults = {"BACKUPD_FAULT": f"stop:{number}", "BACKUPD_FAULT_ROLE": "guardian"}
        answer = shared.begin(*FULL, **faults).ended()
        if answer.status != 0:
            three_lines(answer, 7)
        shared.replays(f"guardian hung at {number}")
    finally:
        shared.home.write_policy(backup='provider = "paused"', freeze='paused_seconds_max = "300s"')
        _end_stopped_guardians()
    shared.judge(f"guardian hung at {number}", restore=False)


def _end_stopped_guardians() -> None:
    """Those of ours that stand still and have lost their parent."""
    for each in (path for path in Path("/proc").iterdir() if path.name.isdigit()):
        with contextlib.suppress(OSError):
            words = (each / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            told = (each / "environ").read_bytes()
            if words[0] == "T" and b"BACKUPD_FAULT_ROLE=guardian" in told:
                os.kill(int(each.name), signal.SIGKILL)


# --- at every step ----------------------------------------------------------------


def _numbers(home: BrokenHome, words: tuple[str, ...]) -> Iterator[int]:
    """The steps of a run, and those after its last; of many alike in a row (a clone of each file) only the first."""
    trace = home.home.root / "trace"
    assert home.begin(*words, BACKUPD_STEP_TRACE=str(trace)).ended().status == 0
    told = [line.split() for line in trace.read_text(encoding="utf-8").splitlines()]
    steps = [name for _, role, name in told if role == "run"]
    for number, name in enumerate(steps, start=1):
        if set(steps[max(0, number - 1 - ALIKE) : number]) != {name} or number <= ALIKE:
            yield number
    yield from range(len(steps) + 1, len(steps) + STEPS_MORE)


def _every_step(kind: str, words: tuple[str, ...], action: str, part: int) -> None:
    with broken_home(kind) as home:
        if words != FULL:
            home.forked_ok(*FULL)
        for number in islice(_numbers(home, words), part, None, PARTS):
            home.write(1)
            answer = home.forked(*words, fault=(action, number))
            when = f"{kind}: {action} at step {number} of {words[-1]}"
            if answer.out == "NOT REACHED":
                assert number > 60, "hardly any step was counted"
                home.judge(when)
                return
            if action == "die":
                assert answer.status == -signal.SIGKILL, f"{when}: {answer.told()}"
            elif answer.status != 0:
                three_lines(answer, 3, 4, 6, 7, 8)
            home.judge(when, restore=number % (8 * PARTS) < PARTS)
        pytest.fail("the run never passed")


parts = pytest.mark.parametrize("part", range(PARTS))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [pytest.param("btrfs", marks=pytest.mark.root), "live"])
@parts
def test_a_full_that_dies_at_every_step(kind: str, part: int) -> None:
    _every_step(kind, FULL, "die", part)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [pytest.param("reflink", marks=pytest.mark.root), "live"])
@parts
def test_a_full_that_fails_at_every_step(kind: str, part: int) -> None:
    _every_step(kind, FULL, "fail", part)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("action", ["die", "fail"])
@parts
def test_an_incremental_broken_at_every_step(action: str, part: int) -> None:
    _every_step("live", INCREMENTAL, action, part)
