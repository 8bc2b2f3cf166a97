"""One database's trouble stays its own, and is tried again later."""

from __future__ import annotations

import logging
import threading

import pytest

from backupd.errors import Busy, NotHealthy
from backupd.service.keeper import BACKOFF_SECONDS, BEGINNING_SECONDS, Keeper
from backupd.service.serve import keep_going, stop_all


class Pair:
    """Replication that does what the test says."""

    def __init__(self, database: str = "orders") -> None:
        self.database = database
        self.on_start: list[Exception] = []
        self.on_poll: list[Exception] = []
        self.alarm: tuple[str, ...] = ()
        self.said: list[str] = []

    def start(self) -> None:
        self.said.append("start")
        if self.on_start:
            raise self.on_start.pop(0)

    def poll(self) -> None:
        self.said.append("poll")
        if self.on_poll:
            raise self.on_poll.pop(0)

    def alarms(self) -> tuple[str, ...]:
        return self.alarm

    def stop(self) -> None:
        self.said.append("stop")


def busy() -> Busy:
    return Busy("cannot start", because="a run has it", next_step="wait")


def test_it_starts_once_and_polls() -> None:
    pair = Pair()
    keeper = Keeper(pair)
    for now in (0.0, 0.25, 0.5):
        keeper.tick(now)
    assert pair.said == ["start", "poll", "poll"]
    keeper.stop()
    assert pair.said[-1] == "stop"
    assert not keeper.running


def test_a_failed_start_is_tried_again_after_the_backoff_only() -> None:
    pair = Pair()
    pair.on_start = [busy(), busy()]
    keeper = Keeper(pair)
    keeper.tick(0.0)
    keeper.tick(BACKOFF_SECONDS[0] - 0.1)
    assert pair.said == ["start"]
    keeper.tick(BACKOFF_SECONDS[0])
    keeper.tick(BACKOFF_SECONDS[0] + BACKOFF_SECONDS[1])
    assert pair.said == ["start"] * 3
    assert keeper.running


@pytest.mark.parametrize("trouble", [NotHealthy("gone", because="x", next_step="y"), ZeroDivisionError("a bug")])
def test_trouble_while_it_runs_stops_it_and_starts_it_again(
    trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair()
    pair.on_poll = [trouble]
    keeper = Keeper(pair)
    keeper.tick(0.0)
    with caplog.at_level(logging.ERROR):
        keeper.tick(1.0)
    assert not keeper.running
    assert "replication alarm" in caplog.text
    keeper.tick(1.0 + BACKOFF_SECONDS[0])
    assert pair.said == ["start", "poll", "stop", "start"]


def test_the_backoff_ends_with_its_last_step_and_forgets_after_a_steady_time() -> None:
    pair = Pair()
    pair.on_start = [busy() for _ in range(20)]
    keeper = Keeper(pair)
    now, tries = 0.0, 0
    while not keeper.running:
        keeper.tick(now)
        now += BACKOFF_SECONDS[-1]
        tries += 1
    assert tries == 21
    keeper.tick(now + 120)
    pair.on_poll = [busy()]
    keeper.tick(now + 121)
    keeper.tick(now + 121 + BACKOFF_SECONDS[0])
    assert keeper.running


def test_an_alarm_that_lasts_is_said_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair()
    keeper = Keeper(pair)
    keeper.tick(0.0)
    with caplog.at_level(logging.INFO):
        pair.alarm = ("capture ended",)
        keeper.tick(1.0)
        keeper.tick(2.0)
        pair.alarm = ()
        keeper.tick(3.0)
        keeper.tick(4.0)
    messages = [record.getMessage() for record in caplog.records if record.name == "service"]
    assert messages == ["replication alarm", "replication is well again"]


def test_a_broken_database_does_not_stop_the_other() -> None:
    broken, well = Pair("broken"), Pair("well")
    broken.on_start = [ZeroDivisionError() for _ in range(1000)]
    stop = threading.Event()
    ticks = iter(range(4))

    def clock() -> float:
        tick = next(ticks)
        if tick == 3:
            stop.set()
        return float(tick)

    keepers = [Keeper(broken), Keeper(well)]
    keep_going(keepers, stop, clock)
    assert well.said == ["start", "poll"]
    stop_all(keepers)
    assert well.said[-1] == "stop"


def test_it_is_beginning_until_its_processes_have_had_time_and_not_while_it_waits_for_another_try() -> None:
    pair = Pair()
    pair.on_poll = [busy()]
    keeper = Keeper(pair)
    said = [keeper.beginning]
    for now in (100.0, 101.0, 101.0 + BACKOFF_SECONDS[0], 200.0, 200.0 + BEGINNING_SECONDS):
        keeper.tick(now)  # begins; its poll fails; so does its next start; it begins; it has had time
        said.append(keeper.beginning)
        pair.on_start = [busy()] if now == 101.0 else []
    assert said == [True, True, False, False, True, False]
