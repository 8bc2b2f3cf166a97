"""Trying again has an end, spreads, and is not for what trying again does not help."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from backupd.archive.s3.patience import Patience
from backupd.archive.s3.place import S3Place
from backupd.errors import ArchiveUnreachable, ObjectMissing

PLACE = S3Place("bucket", deadline_seconds=100)


def said(code: str, status: int) -> ClientError:
    facts = {"Error": {"Code": code, "Message": "words"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(facts, "PutObject")


class Trial:
    """Calls something that fails in one way, on a clock that only waiting moves."""

    def __init__(self, problem: Exception, chance: float = 1.0, takes_seconds: float = 0.0) -> None:
        self.problem = problem
        self.time, self.calls = 0.0, 0
        self.pauses: list[float] = []
        self.takes_seconds = takes_seconds
        self.patience = Patience(PLACE, now=lambda: self.time, sleep=self._sleep, chance=lambda: chance)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds

    def attempt(self) -> None:
        self.calls += 1
        self.time += self.takes_seconds
        raise self.problem

    def run(self) -> ArchiveUnreachable:
        with pytest.raises(ArchiveUnreachable) as caught:
            self.patience.call("read x from", self.attempt)
        return caught.value


@pytest.mark.parametrize(
    "problem",
    [said("SlowDown", 503), said("429", 429), said("InternalError", 500), ReadTimeoutError(endpoint_url="http://x")],
)
def test_the_deadline_is_kept_and_said(problem: Exception) -> None:
    trial = Trial(problem, takes_seconds=3)
    error = trial.run()
    assert trial.calls > 5
    assert trial.time <= PLACE.deadline_seconds + 3
    assert f"tried {trial.calls} times" in error.because
    assert max(trial.pauses) == 10
    assert trial.pauses[:3] == [0.2, 0.4, 0.8]


def test_pauses_are_spread_from_nothing_on() -> None:
    trial = Trial(said("SlowDown", 503), chance=0.0, takes_seconds=1)
    trial.run()
    assert set(trial.pauses) == {0.0}
    assert trial.time <= PLACE.deadline_seconds + 1


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket", "InvalidAccessKeyId", "RequestTimeTooSkewed", "Odd"])
def test_what_will_not_change_is_said_at_once(code: str) -> None:
    trial = Trial(said(code, 403))
    error = trial.run()
    assert trial.calls == 1
    assert error.details["code"] == code
    assert "times" not in error.because


def test_an_address_where_nobody_is_is_given_up_sooner() -> None:
    trial = Trial(EndpointConnectionError(endpoint_url="http://nobody"))
    trial.run()
    assert trial.calls > 1
    assert trial.time <= 30


def test_our_own_answers_pass() -> None:
    missing = ObjectMissing("no x", because="it is gone", next_step="look elsewhere")

    def attempt() -> None:
        raise missing

    with pytest.raises(ObjectMissing):
        Patience(PLACE).call("read x from", attempt)


def test_it_works_in_the_end() -> None:
    answers = iter([said("SlowDown", 503), said("InternalError", 500), None])

    def attempt() -> str:
        problem = next(answers)
        if problem is not None:
            raise problem
        return "an answer"

    assert Patience(PLACE, sleep=lambda _: None).call("read x from", attempt) == "an answer"
