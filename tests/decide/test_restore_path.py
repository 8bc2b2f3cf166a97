"""A restore path leads to exactly the wished commits, with the newest full and the fewest log files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.decide.restore_path import RestorePath, RestoreWish, find_restore_path, recovery_windows
from backupd.errors import NotFound
from backupd.model.records import ArchivedBackup, BackupType, LogKind, StoredLog
from tests.decide.builders import (
    HISTORY,
    Commit,
    full,
    increment,
    make_backup,
    make_log,
    minute,
    place,
    plain_logs,
)

LOGS = plain_logs(40)
F1 = full("F1", 10)
I1 = increment("I1", F1, 14, LOGS)
I2 = increment("I2", I1, 18, LOGS)
D1 = increment("D1", F1, 20, LOGS, backup_type=BackupType.DIFFERENTIAL)
I3 = increment("I3", I2, 22, LOGS)
F2 = full("F2", 26)
I4 = increment("I4", F2, 30, LOGS)
ALL = [F1, I1, I2, D1, I3, F2, I4]


def numbers(path: RestorePath) -> list[int]:
    return [stored.log.number for stored in path.logs]


def test_latest_takes_the_newest_full_and_all_log_after_it() -> None:
    path = find_restore_path(RestoreWish.latest(), ALL)
    assert (path.full, numbers(path), path.until, path.at) == (F2, [27, 28, 29, 30], place(30), None)
    assert path.backups == ("F2", "I4")


def test_at_a_time_stops_with_the_last_commit_before_it() -> None:
    path = find_restore_path(RestoreWish.at_time(minute(16.5)), ALL)
    assert (path.full, numbers(path), path.at, path.until) == (F1, [11, 12, 13, 14, 15, 16], minute(16.5), None)


def test_to_a_position_in_the_middle() -> None:
    path = find_restore_path(RestoreWish.to_position(place(21)), ALL)
    assert (path.full, numbers(path), path.until) == (F1, list(range(11, 22)), place(21))


def test_a_differential_is_a_shortcut_past_its_incrementals() -> None:
    path = find_restore_path(RestoreWish.of_backup("I3"), ALL)
    assert path.backups == ("F1", "D1", "I3")
    assert numbers(path) == list(range(11, 23))
    assert find_restore_path(RestoreWish.of_backup("D1"), ALL).backups == ("F1", "D1")


def test_a_lost_incremental_is_bridged_by_a_differential() -> None:
    path = find_restore_path(RestoreWish.latest(), [F1, D1, I3])
    assert numbers(path) == list(range(11, 23))
    assert path.backups == ("F1", "D1", "I3")


def test_a_full_asked_for_by_id_needs_no_log() -> None:
    path = find_restore_path(RestoreWish.of_backup("F2"), ALL)
    assert (path.full, path.logs, path.end, path.until) == (F2, (), place(26), place(26))


def test_a_copy_can_be_the_base() -> None:
    copy = make_backup("C1", BackupType.COPY, 16)
    path = find_restore_path(RestoreWish.of_backup("I2"), [*ALL, copy])
    assert (path.full, numbers(path)) == (copy, [17, 18])


def test_a_damaged_full_is_passed_over_when_older_log_reaches_as_far() -> None:
    bridge = increment("I3b", I3, 30, LOGS)
    path = find_restore_path(RestoreWish.latest(), [*ALL, bridge], unfit={"F2": "page 7 is bad"})
    assert path.full == F1
    assert numbers(path) == list(range(11, 31))
    assert "F2 is not used: page 7 is bad" in [str(reason) for reason in path.reasons]


def test_outside_every_window_names_the_windows() -> None:
    with pytest.raises(NotFound) as caught:
        find_restore_path(RestoreWish.at_time(minute(24)), ALL)
    assert caught.value.because == (
        "what can be restored is 2026-11-01T00:10:00+00:00 to 2026-11-01T00:22:00+00:00 "
        f"({HISTORY}/10 to {HISTORY}/22); 2026-11-01T00:26:00+00:00 to 2026-11-01T00:30:00+00:00 "
        f"({HISTORY}/26 to {HISTORY}/30)"
    )
    assert caught.value.next_step == "backupctl restore DATABASE --at 2026-11-01T00:30:00+00:00"


def test_an_empty_archive_and_an_unknown_id_say_so() -> None:
    with pytest.raises(NotFound, match="no backup of this database"):
        find_restore_path(RestoreWish.latest(), [])
    with pytest.raises(NotFound, match="no backup has the id nope"):
        find_restore_path(RestoreWish.of_backup("nope"), ALL)


def test_windows_have_a_hole_where_no_backup_holds_the_log() -> None:
    first, second = recovery_windows(ALL)
    assert (first.from_time, first.to_time, first.full) == (minute(10), minute(22), "F1")
    assert (second.from_position, second.to_position, second.full) == (place(26), place(30), "F2")


def test_windows_join_where_log_leads_from_one_full_to_the_next() -> None:
    (window,) = recovery_windows([*ALL, increment("I3b", I3, 26, LOGS)])
    assert (window.from_time, window.to_time, window.full) == (minute(10), minute(30), "F1")


def test_a_window_that_a_later_one_only_touches_is_one_window() -> None:
    """The older full's own log ends exactly where the newer full stands, and that one has none yet."""
    (window,) = recovery_windows([F1, I1, full("F14", 14, covers=13.5)])
    assert (window.from_time, window.to_time, window.to_position) == (minute(10), minute(14), place(14))


def test_a_path_stays_inside_one_history() -> None:
    other = full("G1", 12, covers=50, history="other")
    path = find_restore_path(RestoreWish.latest(), [*ALL, other])
    assert (path.full, path.logs) == (other, ())
    assert find_restore_path(RestoreWish.to_position(place(14)), [*ALL, other]).full == F1


def test_latest_that_cannot_be_reached_falls_back_and_says_so() -> None:
    path = find_restore_path(RestoreWish.latest(), [F1, I1, I4])
    assert path.end == place(14)
    assert path.reasons[0].code == "newer-unreachable"


def test_log_files_that_do_not_link_by_digest_are_a_gap() -> None:
    swapped = replace(LOGS[12], log=replace(LOGS[12].log, digest="another"))
    broken = replace(I1, record=replace(I1.record, logs=(LOGS[10], LOGS[11], swapped, LOGS[13])))
    with pytest.raises(NotFound):
        find_restore_path(RestoreWish.of_backup("I1"), [F1, broken])


def test_a_seed_is_never_replayed_across() -> None:
    seed = replace(LOGS[12], log=replace(LOGS[12].log, kind=LogKind.SEED))
    broken = replace(I1, record=replace(I1.record, logs=(LOGS[10], LOGS[11], seed, LOGS[13])))
    with pytest.raises(NotFound):
        find_restore_path(RestoreWish.of_backup("I1"), [F1, broken])


def test_a_time_without_an_offset_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="offset"):
        RestoreWish.at_time(datetime(2026, 11, 1))  # noqa: DTZ001 - the point of the test


# --- properties ---------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """What really happened: every commit, every log file; and the backups that are left of it."""

    commits: list[Commit]
    logs: list[StoredLog]
    backups: list[ArchivedBackup]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 10))
    commits: list[Commit] = []
    logs: list[StoredLog] = []
    offset, clock = 0, 0
    boundaries = [0]
    for number in range(1, count + 1):
        start = offset
        inside: list[Commit] = []
        for _ in range(draw(st.integers(0, 2))):
            offset += draw(st.integers(1, 2))
            clock += draw(st.integers(1, 3))
            inside.append(Commit(offset, clock))
        logs.append(make_log(number, inside, start))
        offset = logs[-1].log.end.offset
        commits.extend(inside)
        boundaries.append(offset)

    def covers(index: int) -> float:
        """A moment at which no commit after this boundary existed."""
        later = [commit.at for commit in commits if commit.offset > boundaries[index]]
        earlier = [commit.at for commit in commits if commit.offset <= boundaries[index]]
        low = max(earlier, default=0)
        high = min(later, default=low + 3)
        return low + (high - low) * draw(st.sampled_from([0.0, 0.25, 0.5]))

    backups: list[ArchivedBackup] = []
    for name in range(draw(st.integers(1, 7))):
        end = draw(st.integers(0, count))
        parents = [b for b in backups if b.record.log_end.offset < boundaries[end]]
        kind = draw(st.sampled_from([BackupType.FULL, BackupType.COPY, BackupType.INCREMENTAL]))
        if kind.takes_pages or not parents:
            kind = kind if kind.takes_pages else BackupType.FULL
            backups.append(make_backup(f"B{name}", kind, boundaries[end], covers=covers(end)))
        else:
            parent = draw(st.sampled_from(parents))
            backups.append(increment(f"B{name}", parent, boundaries[end], logs, covers=covers(end)))
    lost = draw(st.sets(st.integers(0, len(backups) - 1), max_size=2))
    left = [backup for index, backup in enumerate(backups) if index not in lost]
    return World(commits, logs, left)


def state_after(world: World, path: RestorePath) -> set[int]:
    """Carry the path out: the offsets of all commits that the restored database has."""
    state = {commit.offset for commit in world.commits if commit.offset <= path.full.record.log_end.offset}
    place_now = path.full.record.log_end
    for stored in path.logs:
        assert stored.log.start == place_now, "a gap"
        place_now = stored.log.end
        for commit in world.commits:
            if not stored.log.start.offset < commit.offset <= stored.log.end.offset:
                continue
            if path.until is not None and commit.offset > path.until.offset:
                continue
            if path.at is not None and minute(commit.at) > path.at:
                continue
            state.add(commit.offset)
    return state


def oracle(world: World, *, at: datetime | None = None, offset: int | None = None) -> tuple[int, int] | None:
    """The slow answer: (end of the newest base, fewest log files), by trying every base and every count of files."""
    named = {stored.log.number for backup in world.backups for stored in backup.record.logs}
    best: tuple[int, int] | None = None
    for base in world.backups:
        begin = base.record.log_end.offset
        if not base.record.type.takes_pages:
            continue
        if (at is not None and base.record.covers_until > at) or (offset is not None and begin > offset):
            continue
        after = [stored for stored in world.logs if stored.log.start.offset >= begin]
        for count in range(len(after) + 1):
            if any(stored.log.number not in named for stored in after[:count]):
                break
            end = after[count - 1].log.end.offset if count else begin
            if offset is not None:
                enough = end >= offset
            else:
                assert at is not None
                known_quiet = any(
                    b.record.covers_until >= at and begin <= b.record.log_end.offset <= end for b in world.backups
                )
                last = after[count - 1].log.last_commit_at if count else None
                following = after[count] if count < len(after) and after[count].log.number in named else None
                first = following.log.first_commit_at if following is not None else None
                seen_late = (last is not None and last > at) or (first is not None and first > at)
                enough = known_quiet or (
                    seen_late
                    and any(b.record.covers_until >= at and b.record.log_end.offset >= begin for b in world.backups)
                )
            if enough:
                if best is None or begin > best[0]:
                    best = (begin, count)
                break
    return best


@settings(max_examples=300, deadline=None)
@given(worlds(), st.integers(0, 80))
def test_at_any_time_the_path_is_exact_and_equals_the_oracle(world: World, quarter_minutes: int) -> None:
    at = minute(quarter_minutes / 4)
    expected = oracle(world, at=at)
    try:
        path = find_restore_path(RestoreWish.at_time(at), world.backups)
    except NotFound:
        assert expected is None
        assert not any(window.from_time <= at <= window.to_time for window in recovery_windows(world.backups))
        return
    assert expected == (path.full.record.log_end.offset, len(path.logs))
    assert state_after(world, path) == {commit.offset for commit in world.commits if minute(commit.at) <= at}


@settings(max_examples=300, deadline=None)
@given(worlds(), st.integers(0, 40))
def test_to_any_position_the_path_is_exact_and_equals_the_oracle(world: World, offset: int) -> None:
    expected = oracle(world, offset=offset)
    inside = any(w.from_position.offset <= offset <= w.to_position.offset for w in recovery_windows(world.backups))
    try:
        path = find_restore_path(RestoreWish.to_position(place(offset)), world.backups)
    except NotFound:
        assert expected is None
        assert not inside
        return
    assert inside
    assert expected == (path.full.record.log_end.offset, len(path.logs))
    assert state_after(world, path) == {commit.offset for commit in world.commits if commit.offset <= offset}


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_every_moment_inside_a_window_can_be_restored(world: World) -> None:
    for window in recovery_windows(world.backups):
        span = window.to_time - window.from_time
        for part in range(9):
            at = window.from_time + span * part / 8
            path = find_restore_path(RestoreWish.at_time(at), world.backups)
            assert state_after(world, path) == {c.offset for c in world.commits if minute(c.at) <= at}
