"""The line of what could be restored when: nothing is left out, nothing is said twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backupd.decide.restore_path import RecoveryWindow, recovery_windows
from backupd.decide.timeline import STAMP, DrillFact, Moment, Timeline, build_timeline, clipped
from backupd.model.records import ArchivedBackup, BackupType
from tests.decide.builders import HISTORY, full, make_backup, minute, place, plain_logs

OTHER = "8" * 16


def window(first: float, last: float) -> RecoveryWindow:
    return RecoveryWindow(HISTORY, minute(first), minute(last), place(0), place(1), "F1")


def line(
    backups: Sequence[ArchivedBackup] = (),
    windows: Sequence[RecoveryWindow] = (),
    drills: Sequence[DrillFact] = (),
    now: datetime | None = None,
) -> Timeline:
    found = build_timeline(backups, windows, drills, now or minute(1000))
    assert found is not None
    return found


def test_nothing_known_is_no_line() -> None:
    assert build_timeline((), (), (), minute(0)) is None


def test_a_chain_is_one_window_and_the_time_since_is_a_gap() -> None:
    logs = plain_logs(20)
    base = full("F1", 10)
    backups = [base, make_backup("I1", BackupType.INCREMENTAL, 20, parent=base, logs=logs[10:])]
    found = line(backups, recovery_windows(backups), now=minute(60))
    assert [(one.from_time, one.to_time) for one in found.windows] == [(minute(10), minute(20))]
    assert [(one.from_time, one.to_time, one.because) for one in found.gaps] == [
        (minute(20), minute(60), "no backup holds this time yet")
    ]
    assert [one.kind for one in found.moments] == ["full", "incremental"]


def test_a_hole_in_the_log_is_a_gap_with_its_reason() -> None:
    backups = [full("F1", 10), full("F2", 30)]
    found = line(backups, recovery_windows(backups), now=minute(30))
    assert [one.because for one in found.gaps] == ["the log of this time is in no backup"]


def test_a_new_history_is_told_once_at_the_backup_that_shows_it() -> None:
    backups = [full("F1", 10), full("F2", 20, history=OTHER), full("F3", 30, history=OTHER)]
    told = [one for one in line(backups, ()).moments if one.kind == "failover"]
    assert [(one.at, one.backup) for one in told] == [(minute(20), "F2")]


def test_damage_and_bad_drills_are_not_sound() -> None:
    found = build_timeline(
        [full("F1", 10)], (), [DrillFact("F1", minute(20), sound=False)], minute(30), unfit={"F1": "page 7 is bad"}
    )
    assert found is not None
    assert [(one.kind, one.sound) for one in found.moments] == [("full", False), ("drill", False)]
    assert "page 7 is bad" in found.moments[0].says


SPANS = st.lists(st.tuples(st.integers(0, 900), st.integers(0, 200)), max_size=8)
HISTORIES = st.lists(st.sampled_from([HISTORY, OTHER]), max_size=12)


@given(spans=SPANS, histories=HISTORIES, drills=st.lists(st.integers(0, 1500), max_size=5), now=st.integers(0, 2000))
def test_windows_and_gaps_tile_the_line_and_every_moment_is_on_it(
    spans: list[tuple[int, int]], histories: list[str], drills: list[int], now: int
) -> None:
    backups = [full(f"F{number}", 50 * number, history=history) for number, history in enumerate(histories)]
    windows = [window(first, first + length) for first, length in spans]
    found = build_timeline(backups, windows, [DrillFact("F0", minute(at), sound=True) for at in drills], minute(now))
    if found is None:
        assert not [*backups, *windows, *drills]
        return
    tiles = sorted([*found.windows, *found.gaps], key=lambda one: (one.from_time, one.to_time))
    place_now = found.from_time
    for tile in tiles:
        assert tile.from_time == place_now
        assert tile.to_time >= tile.from_time
        place_now = tile.to_time
    assert place_now == found.to_time >= minute(now)
    assert sum((one.to_time - one.from_time for one in tiles), timedelta()) == found.to_time - found.from_time
    assert all(one.because for one in found.gaps)
    for moment in found.moments:
        assert found.from_time <= moment.at <= found.to_time
    for asked in windows:
        assert any(one.from_time <= asked.from_time and asked.to_time <= one.to_time for one in found.windows)
    changes = sum(1 for one, other in pairwise(histories) if one != other)
    kinds = [one.kind for one in found.moments]
    assert kinds.count("failover") == changes
    assert kinds.count("full") == len(backups)
    assert kinds.count("drill") == len(drills)


def test_what_else_happened_is_on_the_line_in_its_place() -> None:
    stamp = Moment(minute(15), STAMP, "the passive knows it", "F1")
    found = build_timeline([full("F1", 10), full("F2", 20)], (), (), minute(30), besides=[stamp])
    assert found is not None
    assert [one.kind for one in found.moments] == ["full", "stamp", "full"]


@given(spans=SPANS, begin=st.integers(-100, 1500), length=st.integers(0, 1500))
def test_a_part_of_the_line_is_tiled_as_well_and_has_only_its_own_moments(
    spans: list[tuple[int, int]], begin: int, length: int
) -> None:
    backups = [full(f"F{number}", 90 * number) for number in range(1, 9)]
    whole = line(backups, [window(first, first + length) for first, length in spans])
    part = clipped(whole, minute(begin), minute(begin + length))
    assert whole.from_time <= part.from_time <= part.to_time or part.from_time == minute(begin)
    tiles = sorted([*part.windows, *part.gaps], key=lambda one: (one.from_time, one.to_time))
    assert all(part.from_time <= one.from_time <= one.to_time <= part.to_time for one in tiles)
    for earlier, later in pairwise(tiles):
        assert earlier.to_time == later.from_time
    wanted = [one for one in whole.moments if part.from_time <= one.at <= part.to_time]
    assert list(part.moments) == wanted
    assert clipped(whole, None, None) == whole
