"""Log before a bare full goes, and no point that a kept backup leads to goes with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.decide.restore_path import RestoreWish, find_restore_path, recovery_windows
from backupd.decide.retention import plan_retention
from backupd.decide.spare_log import spare_logs
from backupd.errors import NotFound, Refused
from backupd.model.records import ArchivedBackup, BackupRecord, BackupType
from backupd.model.rules import RetentionRules
from tests.decide.builders import increment, make_backup, minute, place, plain_logs

LOGS = plain_logs(80)
DAY = 1440


def full_after(backup_id: str, end: int, before: int) -> ArchivedBackup:
    """A full that names the log since the backup that ended at ``before``, so that no moment is lost."""
    return make_backup(backup_id, BackupType.FULL, end, logs=LOGS[before:end])


def names(first: int, last: int) -> tuple[str, ...]:
    return tuple(stored.name for stored in LOGS[first:last])


def records_of(*backups: ArchivedBackup) -> list[BackupRecord]:
    return [backup.record for backup in backups]


def test_log_before_a_full_stays_while_the_chain_before_it_leads_there() -> None:
    first = full_after("A", 3, 3)
    last = increment("I", first, 5, LOGS)
    assert spare_logs(records_of(first, last, full_after("B", 8, 5))) == {}


def test_log_before_a_full_goes_with_the_increment_that_led_there() -> None:
    first, second = full_after("A", 3, 3), full_after("B", 8, 5)
    assert spare_logs(records_of(first, second)) == {"B": names(5, 8)}


def test_a_copy_leads_on_too() -> None:
    copy = make_backup("C", BackupType.COPY, 5)
    assert spare_logs(records_of(copy, full_after("B", 8, 5))) == {}


def test_the_log_that_the_pages_need_is_never_spare() -> None:
    """A standby's files are whole only with the log from where their backup began (PostgreSQL)."""
    backup = make_backup("B", BackupType.FULL, 9, logs=LOGS[4:9])
    record = replace(backup.record, log_start=place(7))
    assert spare_logs([record]) == {"B": names(4, 7)}
    assert spare_logs([replace(record, log_start=place(4))]) == {}


def test_log_that_a_kept_increment_names_too_stays() -> None:
    first, second = full_after("A", 3, 3), full_after("B", 8, 5)
    other = increment("I", first, 7, LOGS)
    assert spare_logs(records_of(first, other, second)) == {}
    assert spare_logs(records_of(other, second)) == {}, "also when its own chain has a hole"


def test_a_bare_full_keeps_only_its_own_log_in_the_plan() -> None:
    first = full_after("A", 3, 3)
    chain = [increment("I", first, 5, LOGS)]
    second = full_after("B", 8, 5)
    third = full_after("C", 12, 8)
    at = {"A": 70, "I": 69, "B": 40, "C": 1}
    records = [_aged(backup.record, at[backup.record.id]) for backup in (first, *chain, second, third)]
    plan = plan_retention(records, RetentionRules(keep_fulls_min=1, keep_monthly_fulls=3), NOW)
    assert [entry.id for entry in plan.drop] == ["I"]
    assert plan.spare == {"B": names(5, 8)}, "from B on the log leads to C"
    assert plan.keep_logs == frozenset(names(8, 12))
    assert set(plan.drop_logs) == set(names(3, 8))


NOW = datetime.fromisoformat("2026-11-22T12:00:00+00:00")


def _aged(record: BackupRecord, days: float) -> BackupRecord:
    at = NOW - timedelta(days=days)
    return replace(record, started_at=at, finished_at=at, covers_until=at)


# --- properties -------------------------------------------------------------------


@st.composite
def archives(draw: st.DrawFn) -> list[BackupRecord]:
    """A log that goes on by one file an hour or so, and backups of it as runs make them."""
    backups: list[ArchivedBackup] = []
    end = draw(st.integers(0, 2))
    for number in range(draw(st.integers(1, 12))):
        end += draw(st.integers(0, 4))
        kind = draw(st.sampled_from(list(BackupType)))
        moving = [b for b in backups if b.record.type in (BackupType.FULL, BackupType.INCREMENTAL)]
        fulls = [b for b in moving if b.record.type is BackupType.FULL]
        covers = end * DAY + number * 0.001
        if kind is BackupType.COPY:
            backups.append(make_backup(f"B{number}", kind, end, covers=covers))
        elif kind is BackupType.FULL or not fulls:
            before = moving[-1].record.log_end.offset if moving else end
            backups.append(make_backup(f"B{number}", BackupType.FULL, end, logs=LOGS[before:end], covers=covers))
        else:
            parent = moving[-1] if kind is BackupType.INCREMENTAL else fulls[-1]
            backups.append(increment(f"B{number}", parent, end, LOGS, backup_type=kind, covers=covers))
    return records_of(*backups)


some_rules = st.builds(
    RetentionRules,
    keep_days=st.sampled_from([None, 2, 9, 20]),
    keep_fulls_min=st.integers(1, 2),
    keep_daily=st.integers(0, 3),
    keep_weekly_fulls=st.integers(0, 3),
)


@settings(max_examples=150, deadline=None)
@given(archives(), some_rules, st.sets(st.sampled_from([f"B{number}" for number in range(12)]), max_size=2))
def test_no_point_that_what_is_kept_leads_to_is_lost_with_the_log(
    records: list[BackupRecord], rules: RetentionRules, damaged: set[str]
) -> None:
    now = max(record.covers_until for record in records) + timedelta(minutes=1)
    try:
        plan = plan_retention(records, rules, now, damaged=dict.fromkeys(damaged, "bad"))
    except Refused:
        return  # nothing but copies
    left = [ArchivedBackup(entry.record, f"sha-of-{entry.id}") for entry in plan.keep]
    stripped = [
        replace(one, record=replace(one.record, logs=tuple(s for s in one.record.logs if s.name in plan.keep_logs)))
        for one in left
    ]
    assert recovery_windows(stripped) == recovery_windows(left)
    # What is spare is no part of any path, and only bare fulls and copies have any.
    assert {entry.id for entry in plan.keep if not entry.record.type.takes_pages} & set(plan.spare) == set()
    before = [ArchivedBackup(record, f"sha-of-{record.id}") for record in records]
    ends = [record.log_end.offset for record in records]
    begin = now - timedelta(days=rules.keep_days or 0)
    for offset in range(min(ends), max(ends) + 1):
        # Every moment of the window that could be restored still can be.
        wish = RestoreWish.at_time(minute(offset * DAY) + timedelta(seconds=30))
        if wish.at is None or wish.at < begin:
            continue
        try:
            find_restore_path(wish, before)
        except NotFound:
            continue
        find_restore_path(wish, stripped)
