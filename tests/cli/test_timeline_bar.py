"""The timeline as one line of a terminal: every gap is seen, however short, and every moment has its letter."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupd.cli.timeline_bar import draw
from backupd.decide.restore_path import RecoveryWindow
from backupd.decide.timeline import FAILOVER, DrillFact, Moment, Timeline, build_timeline
from tests.decide.builders import HISTORY, full, minute, place


def line(*windows: tuple[float, float], end: float, moments: tuple[Moment, ...] = ()) -> Timeline:
    found = build_timeline(
        [full("F1", 0)],
        [RecoveryWindow(HISTORY, minute(first), minute(last), place(0), place(1), "F1") for first, last in windows],
        [],
        minute(end),
        besides=moments,
    )
    assert found is not None
    return found


def test_windows_and_gaps_have_the_length_that_is_theirs() -> None:
    bar = draw(line((0, 50), end=100), 80)
    assert bar.bar == "=" * 40 + "." * 40
    assert bar.marks == "F"


def test_a_gap_shorter_than_a_column_is_seen() -> None:
    bar = draw(line((0, 50), (50.1, 100), end=100), 80)
    assert bar.bar.count("~") == 1
    assert "." not in bar.bar
    assert "~ some moments" in " ".join(bar.letters)


@pytest.mark.parametrize("kind", ["drill", "failover", "full"])
def test_what_is_not_sound_is_shown_before_everything_else(kind: str) -> None:
    bar = draw(
        line((0, 100), end=100, moments=(Moment(minute(50), kind, "", sound=False), Moment(minute(50), "full", ""))), 80
    )
    assert bar.marks.strip("F ") == "X"


def test_a_new_history_is_shown_before_the_backup_of_the_same_place() -> None:
    bar = draw(line((0, 100), end=100, moments=(Moment(minute(50), "full", ""), Moment(minute(50), FAILOVER, ""))), 80)
    assert bar.marks.split() == ["F", "!"]
    assert "! new history" in " ".join(bar.letters)


def test_a_good_drill_has_its_letter() -> None:
    found = build_timeline([full("F1", 0)], [], [DrillFact("F1", minute(50), sound=True)], minute(100))
    assert found is not None
    assert "v" in draw(found, 80).marks


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a loaded machine is no fault
@given(
    spans=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 200)), max_size=6),
    moments=st.lists(st.integers(0, 1000), max_size=12),
    width=st.integers(1, 200),
)
def test_any_line_fits_its_width_and_shows_every_kind_of_stretch(
    spans: list[tuple[int, int]], moments: list[int], width: int
) -> None:
    found = line(
        *((first, first + length) for first, length in spans),
        end=1000,
        moments=tuple(Moment(minute(at), "incremental", "") for at in moments),
    )
    bar = draw(found, width)
    assert len(bar.bar) == max(20, min(width, 100))
    for text in (bar.marks, bar.times):
        assert len(text) <= len(bar.bar)
        assert text.isascii()
    some = timedelta(minutes=1)
    if any(gap.to_time - gap.from_time >= some for gap in found.gaps):
        assert set(bar.bar) & {".", "~"}
    if any(one.to_time - one.from_time >= some for one in found.windows):
        assert set(bar.bar) & {"=", "~"}
    if moments:
        assert set(bar.marks) & {"i", "F"}
