"""The service is told when other policies came into force, and raises an alarm while the newest are not."""

from __future__ import annotations

import logging
import threading

import pytest

from backupd.errors import NotHealthy
from backupd.policy.follow import Followed, PolicyFollower
from backupd.service.following import Following

AWAY = NotHealthy("main cannot be fetched", because="no route to host", next_step="git ls-remote")
ONE, TWO = "1" * 40, "2" * 40


class Scripted(PolicyFollower):
    """Answers what the test wants, each time that it is asked."""

    def __init__(self, *answers: Followed | None) -> None:
        self.answers = list(answers)

    def tick(self, monotonic_seconds: float) -> Followed | None:
        del monotonic_seconds
        return self.answers.pop(0) if self.answers else None


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_change_is_told_and_logged_and_nothing_else_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    calls: list[int] = []
    following = Following(Scripted(Followed(ONE, None, ONE), None, Followed(ONE, ONE, ONE)), lambda: calls.append(1))
    for _ in range(3):
        following.tick(0.0)
    assert calls == [1]
    assert told(caplog) == ["other policies are in force"]
    assert following.alarms() == ()


def test_an_alarm_lasts_while_the_newest_is_not_in_force_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    away = Followed(ONE, ONE, None, AWAY)
    following = Following(Scripted(away, away, Followed(ONE, ONE, ONE)), lambda: pytest.fail("nothing has changed"))
    following.tick(0.0)
    following.tick(0.0)
    (alarm,) = following.alarms()
    assert alarm.code == "policies-not-followed"
    assert f"those of commit {ONE[:12]} stay in force" in alarm.sentence
    following.tick(0.0)
    assert following.alarms() == ()
    assert told(caplog) == ["policies are not followed", "policies are followed again"]


def test_the_thread_goes_on_after_a_bug_and_ends_when_it_is_told_to() -> None:
    again = threading.Event()

    class Broken(Scripted):
        def tick(self, monotonic_seconds: float) -> Followed | None:
            if not self.answers:
                again.set()
                raise RuntimeError("a bug")
            return super().tick(monotonic_seconds)

    following = Following(Broken(Followed(TWO, ONE, TWO)), lambda: None)
    following.start()
    assert again.wait(30)
    following.stop(30)
    assert not any(thread.name == "policies" for thread in threading.enumerate())
