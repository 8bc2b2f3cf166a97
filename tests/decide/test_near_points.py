"""Beside a restored state the nearest ends of backups are named, before and after it, where they can be restored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backupd.decide.near_points import near_points
from backupd.decide.restore_path import RestoreWish, find_restore_path
from tests.decide.builders import full, increment, minute, place, plain_logs

LOGS = plain_logs(40)
F1 = full("F1", 10)
I1 = increment("I1", F1, 14, LOGS)
I2 = increment("I2", I1, 18, LOGS)
F2 = full("F2", 26)
I4 = increment("I4", F2, 30, LOGS)
ALL = [F1, I1, I2, F2, I4]


def names(wish: RestoreWish, unfit: dict[str, str] | None = None) -> tuple[str | None, str | None]:
    found = near_points(find_restore_path(wish, ALL), ALL, unfit=unfit or {}, verified=())
    return (
        found.before.backup if found.before else None,
        found.after.backup if found.after else None,
    )


def test_to_a_time_between_two_backups() -> None:
    assert names(RestoreWish.at_time(minute(16.5))) == ("I1", "I2")


def test_to_a_position_the_end_of_a_backup_itself_is_neither() -> None:
    assert names(RestoreWish.to_position(place(14))) == ("F1", "I2")
    assert names(RestoreWish.of_backup("F1")) == (None, "I1")
    assert names(RestoreWish.latest()) == ("F2", None)


def test_what_is_damaged_is_no_good_point_nor_is_what_builds_on_it() -> None:
    assert names(RestoreWish.at_time(minute(28)), {"F2": "bad"})[0] == "I2"


def test_verified_means_all_that_leads_there() -> None:
    route = find_restore_path(RestoreWish.at_time(minute(16.5)), ALL)
    for verified, expected in (({"F1"}, False), ({"F1", "I1"}, True), ({"I1"}, False)):
        found = near_points(route, ALL, unfit={}, verified=verified)
        assert found.before is not None
        assert found.before.verified is expected


@given(st.one_of(st.floats(10, 18), st.floats(26, 30)))  # what lies between the windows cannot be restored
def test_before_is_before_and_after_is_after(at: float) -> None:
    found = near_points(find_restore_path(RestoreWish.at_time(minute(at)), ALL), ALL, unfit={}, verified=())
    ends = sorted(backup.record.covers_until for backup in ALL)
    before, after = [end for end in ends if end < minute(at)], [end for end in ends if end > minute(at)]
    assert (found.before.at if found.before else None) == (before[-1] if before else None)
    assert (found.after.at if found.after else None) == (after[0] if after else None)
