"""A moment as a person writes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from backupd.cli.when import parse_when
from backupd.errors import UsageProblem

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00+00:00"),
        ("2026-11-22T10:00:00.250+05:30", "2026-11-22T10:00:00.250+05:30"),
        ("2026-11-22 10:00", "2026-11-22T10:00:00+01:00"),
        ("2026-07-01", "2026-07-01T00:00:00+02:00"),
        ("now", "2026-11-22T12:00:00+00:00"),
        ("10 min ago", "2026-11-22T11:50:00+00:00"),
        ("1.5 hours ago", "2026-11-22T10:30:00+00:00"),
        ("2d", "2026-11-20T12:00:00+00:00"),
        ("90 seconds ago", "2026-11-22T11:58:30+00:00"),
        ("today 9:30", "2026-11-22T09:30:00+01:00"),
        ("yesterday", "2026-11-21T00:00:00+01:00"),
        ("Yesterday at 14:00:30", "2026-11-21T14:00:30+01:00"),
    ],
)
def test_it_is_read(text: str, at: str) -> None:
    assert parse_when(text, NOW).at == datetime.fromisoformat(at)


def test_a_time_without_an_offset_is_local_and_that_is_said() -> None:
    moment = parse_when("2026-11-22T10:00:00", NOW)
    assert "local zone" in moment.note
    assert "+01:00" in moment.note
    assert not parse_when("2026-11-22T10:00:00Z", NOW).note


@pytest.mark.parametrize("text", ["", "teatime", "10", "yesterday 25:00", "2026-13-01", "ago"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageProblem, match="not a time"):
        parse_when(text, NOW)


def test_the_future_is_refused() -> None:
    with pytest.raises(UsageProblem, match="future"):
        parse_when((NOW + timedelta(hours=1)).isoformat(), NOW)
