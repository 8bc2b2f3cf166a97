"""Sizes, durations and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backupd.cli import human

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (5000 * 1024**5, "5000.0 PiB"),
    ],
)
def test_sizes(count_bytes: int | None, text: str) -> None:
    assert human.size(count_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-1, "0.00 s"),
        (0.049, "0.05 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3600 * 3 + 600, "3 h 10 min"),
        (86400 * 4 + 7200, "4 d 2 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert human.duration(seconds) == text


def test_ago() -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert human.ago(now, now) == "just now"
    assert human.ago(now - timedelta(seconds=5), now) == "5 s ago"
    assert human.ago(now - timedelta(hours=3, minutes=10), now) == "3 h 10 min ago"
    assert human.ago(now + timedelta(seconds=5), now) == "in 5 s"
    assert human.ago(now + timedelta(days=2), now) == "in 2 d"


def test_counts() -> None:
    assert human.count(1, "backup") == "1 backup"
    assert human.count(1200, "log file") == "1,200 log files"
    assert human.count(0, "copy", "copies") == "0 copies"


def test_times_have_an_offset() -> None:
    assert human.clock_time("2026-11-22T02:00:05+00:00")[-5] in "+-"
    assert human.clock_time(None) == "-"
    assert len(human.short_time(datetime.now(UTC))) == 19


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1/50331648", "1 @ 0/3000000"),
        ("it ends at 12/78383153152, and so on", "it ends at 12 @ 12/40000000, and so on"),
        ("1/50331648 -> 2/67108864", "1 @ 0/3000000 -> 2 @ 0/4000000"),
        ("(1/16777216)", "(1 @ 0/1000000)"),
        ("5f3a9c21d0e47b86/50331648", "5f3a9c21d0e47b86/50331648"),  # a position of SQLite
        ("1234567890123456/50331648", "1234567890123456/50331648"),
        ("/srv/20261122/12345678", "/srv/20261122/12345678"),
        ("base/16384/12345678", "base/16384/12345678"),
        ("3/4 of 5/10", "3/4 of 5/10"),
        ("nothing", "nothing"),
    ],
)
def test_a_position_of_postgresql_is_shown_as_postgresql_writes_it(text: str, shown: str) -> None:
    assert human.with_lsns(text) == shown


def test_what_was_shown_already_is_not_shown_twice() -> None:
    shown = human.with_lsns("ends at 2/285212672")
    assert shown == "ends at 2 @ 0/11000000"
    assert human.with_lsns(shown) == shown


@pytest.mark.parametrize(
    ("verified_bytes", "share", "oldest", "text"),
    [
        (0, 0.0, None, "nothing of 1.0 GiB yet"),
        (2**29, 0.5, None, "50% of 1.0 GiB"),
        (2**30 - 1, 0.9999, None, "99% of 1.0 GiB"),
        (2**30, 1.0, NOW - timedelta(days=3), "all of 1.0 GiB, the oldest byte 3 d ago"),
    ],
)
def test_coverage(verified_bytes: int, share: float, oldest: datetime | None, text: str) -> None:
    verified = {
        "total_bytes": 2**30,
        "verified_bytes": verified_bytes,
        "verified_share": share,
        "oldest_verified_at": oldest.isoformat() if oldest else None,
    }
    assert human.coverage(verified, NOW) == text
