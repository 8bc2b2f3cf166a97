"""The restore points that backups have noted: each once, with a time, and nobody says none who did not look."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.decide.log_near import logs_of
from backupd.decide.restore_path import RecoveryWindow
from backupd.decide.restore_points import all_noted, moments_of_points, noted_points
from backupd.decide.timeline import POINT, Moment, build_timeline
from backupd.model.position import Position
from backupd.model.records import BackupType, LogKind, RestorePoint, StoredLog, own_point_name
from tests.decide.builders import make_backup, minute, plain_logs


def point(name: str, offset: int, at: float | None = None, history: str = "1") -> RestorePoint:
    time = None if at is None else minute(at)
    return RestorePoint(name, Position(history, offset), Position(history, offset + 1), time)


def window(first: str, begin: int, last: str, end: int) -> RecoveryWindow:
    return RecoveryWindow(last, minute(0), minute(9), Position(first, begin), Position(last, end), "F")


def with_points(stored: StoredLog, points: tuple[RestorePoint, ...] | None) -> StoredLog:
    return replace(stored, log=replace(stored.log, kind=LogKind.SEGMENT, restore_points=points))


def test_each_point_is_told_once_with_the_best_time_that_is_known() -> None:
    first, second, third = plain_logs(3, history="1")
    logs = [
        with_points(first, (point("early", 0),)),
        with_points(second, (point("a", 150, at=1.5), point("b", 160))),
        with_points(third, None),
    ]
    full = make_backup("F", BackupType.FULL, 3, logs=logs, history="1")
    # The next timeline's first file repeats what it took over.
    repeated = with_points(plain_logs(2, history="2")[1], (point("b", 160, history="2"), point("c", 170, at=1.9)))
    later = make_backup("I", BackupType.INCREMENTAL, 4, parent=full, logs=[*logs, repeated], history="2")
    windows = [window("1", 0, "2", 1000)]
    assert noted_points([full, later], []) == ()
    found = noted_points([full, later], windows)
    assert [(one.name, one.at) for one in found] == [
        ("early", minute(1)),  # nothing is before it: the first commit after it
        ("a", minute(1.5)),
        ("b", minute(1)),  # the last commit of the file before
        ("c", minute(1.9)),
    ]


def test_a_point_in_log_without_any_commit_has_the_end_of_its_backup() -> None:
    [log] = plain_logs(1, history="1")
    bare = replace(log, log=replace(log.log, first_commit_at=None, last_commit_at=None))
    full = make_backup("F", BackupType.FULL, 5, logs=[with_points(bare, (point("quiet", 3),))], history="1")
    assert [one.at for one in noted_points([full], [window("1", 0, "1", 10)])] == [full.record.finished_at]


@pytest.mark.parametrize(
    ("points", "noted"), [((None, ()), False), (((), ()), True), ((), True), (((point("a", 1),),), True)]
)
def test_log_that_nobody_looked_into_is_read(points: tuple[tuple[RestorePoint, ...] | None, ...], noted: bool) -> None:
    logs = [with_points(log, said) for log, said in zip(plain_logs(len(points)), points, strict=True)]
    assert all_noted(logs) is noted
    assert all_noted(plain_logs(2))  # only segments have restore points


def test_the_timeline_tells_what_people_named_and_how_to_get_there() -> None:
    own = point(own_point_name(minute(0)), 1, at=1)
    [moment] = moments_of_points("orders", [own, point("it's Monday", 2, at=2), point("no time", 3)])
    assert (moment.at, moment.kind) == (minute(2), "point")
    assert moment.says.endswith("""backupctl restore orders --to-name 'it'"'"'s Monday'""")


def test_a_point_that_cannot_be_restored_is_not_told() -> None:
    first, second = plain_logs(2, history="3")
    logs = [
        with_points(first, (point("gone", 5, history="3"),)),
        with_points(second, (point("there", 50, history="3"),)),
    ]
    full = make_backup("F", BackupType.FULL, 2, logs=logs, history="3")
    names = [one.name for one in noted_points([full], [window("3", 40, "4", 60)])]
    assert names == ["there"]
    assert noted_points([full], [window("4", 0, "5", 99), window("3", 0, "3", 4)]) == ()


def test_where_nobody_writes_the_last_backup_says_when_it_was() -> None:
    own = point(own_point_name(minute(1000)), 10)
    quiet, last = plain_logs(2, history="1")
    logs = [
        with_points(quiet, (point("before", 5, at=0.5), own, point("quiet", 20, at=0.5))),
        with_points(replace(last, log=replace(last.log, last_commit_at=minute(2000))), (point("busy", 30, at=1999),)),
    ]
    full = make_backup("F", BackupType.FULL, 2, logs=logs, history="1")
    found = {one.name: one.at for one in noted_points([full], [window("1", 0, "1", 99)]) if not one.is_own}
    assert found == {"before": minute(0.5), "quiet": minute(1000), "busy": minute(1999)}


def test_points_make_the_timeline_no_longer() -> None:
    full = make_backup("F", BackupType.FULL, 5)
    early = Moment(minute(-40000), POINT, "restore point 'early'")
    inside = Moment(minute(5.5), POINT, "restore point 'inside'")
    line = build_timeline([full], [], [], minute(9), besides=[early, inside])
    assert line is not None
    assert line.from_time == minute(5)
    assert [one for one in line.moments if one.kind == POINT] == [inside]


def test_of_several_that_name_a_log_file_one_is_taken_that_has_noted_its_points() -> None:
    [log] = plain_logs(1, history="1")
    blind, seen = with_points(log, None), with_points(log, (point("a", 0, at=1),))
    full = make_backup("F", BackupType.FULL, 1, logs=[blind], history="1")
    later = make_backup("I", BackupType.DIFFERENTIAL, 1, parent=full, logs=[seen], history="1")
    assert logs_of([full, later]) == logs_of([later, full]) == (seen,)
