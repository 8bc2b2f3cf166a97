"""Alarms reach people: over real mail and webhooks, over restarts, over targets that refuse, and without secrets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from email import message_from_string, policy
from pathlib import Path
from typing import Any

import pytest

from backupd.model.alarm import Alarm, Severity
from backupd.policy.alarms import AlarmOptions
from backupd.policy.secret import parse_secret_reference
from backupd.service.alarms import AlarmTeller, seen_on
from backupd.service.board import Board, Seen
from backupd.service.send import send
from backupd.service.told import FILE_NAME
from tests.fakes import FakeClock
from tests.service.peers import WebPeer, mail_peer, web_peer

FIRE = Alarm("orders", "fire", "it burns", severity=Severity.CRITICAL, next_step="backupctl check orders")
SECRET = "s3cr3t-Pa55"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebPeer]:
    with web_peer() as peer:
        monkeypatch.setenv("HOOK", f"json://user:{SECRET}@127.0.0.1:{peer.port}/{SECRET}?rto=0.4&cto=0.4")
        yield peer


def teller(tmp_path: Path, clock: FakeClock, **options: object) -> AlarmTeller:
    given = AlarmOptions.model_validate({"targets": ["env:HOOK"], **options})
    return AlarmTeller(given, tmp_path, clock, "n1")


def test_a_webhook_hears_of_begin_and_end_once_each_also_over_restarts(tmp_path: Path, web: WebPeer) -> None:
    clock = FakeClock()
    for _ in range(2):
        teller(tmp_path, clock).tick([FIRE])
        clock.sleep(5760)
    assert [one["title"] for one in web.messages] == ["backupd on n1: 1 alarm, critical: orders"]
    assert "it burns" in web.messages[0]["message"]
    assert "next: backupctl check orders" in web.messages[0]["message"]
    for _ in range(2):
        teller(tmp_path, clock).tick([])
    assert [one["title"] for one in web.messages][1:] == ["backupd on n1: 1 alarm over: orders"]
    assert "over after 3 h 12 min" in web.messages[1]["message"]


def test_a_mail_has_subject_and_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mail_peer() as mail:
        monkeypatch.setenv("HOOK", f"mailto://127.0.0.1:{mail.port}/?from=a@example.org&to=b@example.org&mode=insecure")
        clock = FakeClock()
        teller(tmp_path, clock).tick([FIRE])
        (raw,) = mail.mails
    found = message_from_string(raw, policy=policy.default)
    assert found["Subject"] == "backupd on n1: 1 alarm, critical: orders"
    body = found.get_body(("plain",))
    assert body is not None
    assert "critical: orders: it burns" in body.get_content()


@pytest.mark.parametrize("mood", ["drop", "stall", "500"])
def test_what_a_target_does_not_take_is_seen_tried_again_and_told_then(
    tmp_path: Path, web: WebPeer, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock, web.mood = FakeClock(), mood
    one = teller(tmp_path, clock)
    with caplog.at_level(logging.DEBUG):
        one.tick([FIRE])
        tried = len(web.heard)
        assert tried
        one.tick([FIRE])
        assert len(web.heard) == tried  # not before its time
    (trouble,) = one.alarms()
    assert (trouble.code, trouble.subject) == ("alarm-not-sent", "env:HOOK")
    for told in (*caplog.messages, *(str(getattr(record, "facts", "")) for record in caplog.records), trouble.sentence):
        assert SECRET not in told
    assert SECRET not in (tmp_path / FILE_NAME).read_text()
    web.mood = "take"
    web.heard.clear()
    clock.sleep(10)
    one.tick([FIRE])
    assert [each["title"] for each in web.messages] == ["backupd on n1: 1 alarm, critical: orders"]
    assert one.alarms() == ()


def test_an_end_that_could_not_be_sent_is_told_after_a_restart(tmp_path: Path, web: WebPeer) -> None:
    clock = FakeClock()
    teller(tmp_path, clock).tick([FIRE])
    web.mood = "500"
    teller(tmp_path, clock).tick([])
    web.mood = "take"
    web.heard.clear()
    teller(tmp_path, clock).tick([])
    assert [each["title"] for each in web.messages] == ["backupd on n1: 1 alarm over: orders"]


def test_one_target_that_is_down_takes_nothing_from_another(
    tmp_path: Path, web: WebPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    with web_peer() as down:
        down.mood = "500"
        monkeypatch.setenv("DOWN", f"json://127.0.0.1:{down.port}/")
        one = teller(tmp_path, clock, targets=["env:DOWN", "env:HOOK"])
        for _ in range(3):
            one.tick([FIRE])
            clock.sleep(1)
        begun = [each["title"] for each in web.messages]
    assert begun[0] == "backupd on n1: 1 alarm, critical: orders"
    assert sum("critical: orders: it burns" in each["message"] for each in web.messages) == 1


def test_a_secret_that_is_not_there_is_an_alarm_and_no_end_of_the_service(tmp_path: Path) -> None:
    one = teller(tmp_path, FakeClock(), targets=["env:BACKUPD_NOT_SET_ANYWHERE"])
    one.tick([FIRE])
    assert "BACKUPD_NOT_SET_ANYWHERE" in one.alarms()[0].sentence


def test_a_state_directory_that_cannot_be_written_is_an_alarm_and_tells_no_more_often(
    tmp_path: Path, web: WebPeer
) -> None:
    one = teller(tmp_path / "not there", FakeClock())
    one.tick([FIRE])
    one.tick([FIRE])
    assert [each.code for each in one.alarms()] == ["alarms-not-kept"]
    assert sum("it burns" in each["message"] for each in web.messages) == 1


@pytest.mark.parametrize("junk", [b"", b"[]", b'{"targets": {"env:HOOK": [{}]}}', b'{"targets": 1}'])
def test_a_memory_that_cannot_be_understood_is_begun_anew(tmp_path: Path, web: WebPeer, junk: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(junk)
    teller(tmp_path, FakeClock()).tick([FIRE])
    assert len(web.messages) == 1


def test_what_is_no_url_is_not_taken_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", f"nonsense://{SECRET}@x/{SECRET}")
    sent = send(parse_secret_reference("env:HOOK"), "subject", ["line"])
    assert not sent.taken
    assert sent.because
    assert SECRET not in sent.because


def test_the_board_is_read_and_what_nobody_has_looked_at_is_said() -> None:
    board = Board()
    status: dict[str, Any] = {"alarm_details": [FIRE.to_json()]}
    board.put(Seen("orders", datetime.fromisoformat("2026-11-22T12:00:00+00:00"), status))
    assert seen_on(board, ["orders", "shop"], []) == ([FIRE], ["shop"])
    assert Alarm.from_json(dict(FIRE.to_json())) == FIRE
