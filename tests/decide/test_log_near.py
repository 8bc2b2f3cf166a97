"""Which log files may hold the commits of a time: none that does is left out, and none is fetched for nothing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupd.decide.log_near import log_near, logs_of
from backupd.model.records import ArchivedBackup, BackupType, LogKind, StoredLog
from tests.decide.builders import HISTORY, Commit, full, increment, make_backup, make_log, minute, plain_logs

OTHER = "8" * 16


def chain(logs: list[StoredLog], *, covers: float = 100) -> list[ArchivedBackup]:
    base = full("F1", logs[0].log.start.offset, history=logs[0].log.history)
    return [base, increment("I1", base, logs[-1].log.end.offset, logs, covers=covers)]


def numbers(backups: list[ArchivedBackup], since: float, until: float, before: int = 0) -> list[list[int]]:
    found = log_near(backups, minute(since), minute(until), before=before)
    return [[stored.log.number for stored in stretch.logs] for stretch in found]


def test_only_the_files_of_that_time_are_chosen() -> None:
    assert numbers(chain(plain_logs(20)), 7, 9) == [[7, 8, 9]]
    assert numbers(chain(plain_logs(20)), 30, 40) == []


def test_files_before_are_added_where_the_archive_has_them() -> None:
    assert numbers(chain(plain_logs(20)), 7, 7, before=2) == [[5, 6, 7]]
    assert numbers(chain(plain_logs(20)), 1, 1, before=2) == [[1]]


def test_a_hole_in_the_log_parts_a_stretch() -> None:
    logs = plain_logs(20)
    base = full("F1", 0)
    first = increment("I1", base, 5, logs)
    later = make_backup("I2", BackupType.INCREMENTAL, 20, logs=logs[10:], covers=20)
    assert numbers([base, first, later], 4, 13, before=3) == [[1, 2, 3, 4, 5], [11, 12, 13]]


def test_a_file_without_a_time_lies_between_its_neighbours() -> None:
    logs = plain_logs(6)
    logs[2] = make_log(3, [], 2)
    assert numbers(chain(logs), 3, 3) == [[3]]
    assert numbers(chain(logs), 5, 6) == [[5, 6]]


def test_files_that_nobody_could_read_count_until_their_backup_ends() -> None:
    logs = [make_log(number, [], number - 1) for number in range(1, 4)]
    assert numbers(chain(logs, covers=50), 40, 60) == [[1, 2, 3]]
    assert numbers(chain(logs, covers=50), 51, 60) == []


def test_histories_are_stretches_of_their_own_in_the_order_of_time() -> None:
    old, new = plain_logs(5), [make_log(1, [Commit(10, 2.5)], 9, OTHER)]
    assert numbers([*chain(old), *chain(new)], 2, 3) == [[2, 3], [1]]


def test_a_seed_is_no_commit() -> None:
    seed = make_log(1, [Commit(1, 1)], 0)
    seed = replace(seed, log=replace(seed.log, kind=LogKind.SEED))
    assert logs_of([make_backup("F1", BackupType.FULL, 1, logs=[seed])]) == ()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a loaded machine is no fault
@given(
    times=st.lists(st.one_of(st.none(), st.integers(0, 60)), min_size=1, max_size=25),
    since=st.integers(0, 60),
    length=st.integers(0, 20),
)
def test_every_commit_of_that_time_is_in_a_chosen_file(times: list[int | None], since: int, length: int) -> None:
    # Times grow along the log, as clocks do; a file without a commit has none.
    grown: list[float | None] = []
    newest = 0
    for each in times:
        newest = max(newest, each or 0)
        grown.append(None if each is None else newest)
    logs = [
        make_log(number, [] if at is None else [Commit(number, at)], number - 1, HISTORY)
        for number, at in enumerate(grown, start=1)
    ]
    chosen = {number for run in numbers(chain(logs), since, since + length) for number in run}
    for number, at in enumerate(grown, start=1):
        if at is not None:
            assert (since <= at <= since + length) == (number in chosen), number
