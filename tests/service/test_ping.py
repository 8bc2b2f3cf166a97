"""The dead man's switch hears of begin, end and failure, and hears nothing while a critical alarm stands."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from backupd.policy.alarms import PingOptions
from backupd.policy.secret import parse_secret_reference
from backupd.service import ping as ping_room
from backupd.service.ping import Pings, ping
from tests.service.peers import WebPeer, web_peer

TOKEN = "0c9c-uuid-of-the-check"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebPeer]:
    with web_peer() as peer:
        monkeypatch.setenv("PING", f"http://127.0.0.1:{peer.port}/{TOKEN}")
        yield peer


def wait_until(done: object) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if callable(done) and done():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def test_begin_end_and_failure_are_heard_in_order_with_the_errors_lines_and_no_password(web: WebPeer) -> None:
    pings = Pings(PingOptions.model_validate({"databases": {"orders": "env:PING"}}), lambda: 0.0)
    pings.begun("orders")
    pings.failed("orders", ["error: no", "because: host=db password=hunter22", "next: look"])
    pings.succeeded("orders")
    pings.begun("of-another")
    pings.start()
    wait_until(lambda: len(web.heard) == 3)
    pings.stop()
    assert [(how, path) for how, path, _ in web.heard] == [
        ("GET", f"/{TOKEN}/start"),
        ("POST", f"/{TOKEN}/fail"),
        ("GET", f"/{TOKEN}"),
    ]
    assert web.heard[1][2] == "error: no\nbecause: host=db password=***\nnext: look"


def test_the_heart_beats_in_time_and_not_while_a_critical_alarm_stands(web: WebPeer) -> None:
    now = [0.0]
    pings = Pings(PingOptions.model_validate({"url": "env:PING", "every_seconds": 60.0}), lambda: now[0])
    for second, critical in ((0, False), (59, False), (60, True), (61, False), (62, False)):
        now[0] = second
        pings.tick(critical=critical)
    pings.start()
    wait_until(lambda: len(web.heard) == 2)
    pings.stop()
    assert len(web.heard) == 2


@pytest.mark.parametrize("mood", ["drop", "stall", "500"])
def test_a_server_that_does_not_take_pings_is_an_alarm_without_the_address(
    web: WebPeer, mood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ping_room, "_TRY_AGAIN_SECONDS", 0.0)
    web.mood = mood
    options = PingOptions.model_validate({"databases": {"orders": "env:PING"}, "timeout_seconds": 0.3})
    pings = Pings(options, lambda: 0.0)
    pings.start()
    pings.succeeded("orders")
    wait_until(pings.alarms)
    assert len(web.heard) == ping_room.TRIES_MAX
    (alarm,) = pings.alarms()
    assert (alarm.code, alarm.subject) == ("ping-not-taken", "env:PING")
    assert TOKEN not in alarm.sentence
    web.mood = "take"
    pings.succeeded("orders")
    wait_until(lambda: not pings.alarms())
    pings.stop()


@pytest.mark.parametrize("url", ["", "no url", "ftp://x/y", "http://[", "http://127.0.0.1:1/x", "http://\x7f/"])
def test_any_address_gives_an_answer(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PING", url)
    assert not ping(parse_secret_reference("env:PING"), "/start", "", 0.5).taken
