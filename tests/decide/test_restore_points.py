"""The restore points that backups have noted: each once, with a time, and nobody says none who did not look."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.decide.restore_points import all_noted, moments_of_points, noted_points
from backupd.model.position import Position
from backupd.model.records import BackupType, LogKind, RestorePoint, StoredLog, own_point_name
from tests.decide.builders import make_backup, minute, plain_logs


def point(name: str, offset: int, at: float | None = None, history: str = "1") -> RestorePoint:
    time = None if at is None else minute(at)
    return RestorePoint(name, Position(history, offset), Position(history, offset + 1), time)


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
    found = noted_points([full, later])
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
    assert [one.at for one in noted_points([full])] == [full.record.finished_at]


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
