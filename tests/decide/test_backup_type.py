"""An increment builds on what the database's stamp names, or becomes a full and says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.decide.backup_type import BackupChoice, RefuseBackup, decide_backup_type
from backupd.model.position import Position
from backupd.model.records import ArchivedBackup, BackupType, Stamp, Stamps
from tests.decide.builders import HISTORY, full, increment, make_backup, minute, place, plain_logs

FULL, INCREMENTAL, DIFFERENTIAL, COPY = (
    BackupType.FULL,
    BackupType.INCREMENTAL,
    BackupType.DIFFERENTIAL,
    BackupType.COPY,
)
LOGS = plain_logs(40)
F1 = full("F1", 10)
I1 = increment("I1", F1, 14, LOGS)
I2 = increment("I2", I1, 18, LOGS)
D1 = increment("D1", F1, 20, LOGS, backup_type=DIFFERENTIAL)


def stamp(backup: ArchivedBackup) -> Stamp:
    record = backup.record
    return Stamp(record.type, record.id, record.log_end, record.finished_at)


STAMPS = Stamps(stamp(F1), stamp(I2))
ALL = [F1, I1, I2, D1]


def raised(answer: BackupChoice | RefuseBackup) -> str:
    assert isinstance(answer, BackupChoice)
    assert (answer.type, answer.parent, answer.log_start, answer.raised) == (FULL, None, None, True)
    assert str(answer.reasons[0]).endswith("raised to full")
    return answer.reasons[0].code


def test_an_incremental_builds_on_the_last_stamp() -> None:
    answer = decide_backup_type(INCREMENTAL, STAMPS, ALL, HISTORY)
    assert isinstance(answer, BackupChoice)
    assert (answer.type, answer.parent, answer.log_start, answer.raised) == (INCREMENTAL, I2, place(18), False)


def test_a_differential_builds_on_the_last_full() -> None:
    answer = decide_backup_type(DIFFERENTIAL, STAMPS, ALL, HISTORY)
    assert isinstance(answer, BackupChoice)
    assert (answer.type, answer.parent, answer.log_start) == (DIFFERENTIAL, F1, place(10))


def test_after_a_newer_full_the_old_incremental_is_no_base() -> None:
    f2 = full("F2", 26)
    answer = decide_backup_type(INCREMENTAL, Stamps(stamp(f2), stamp(I2)), [*ALL, f2], HISTORY)
    assert isinstance(answer, BackupChoice)
    assert answer.parent == f2


def test_a_full_at_the_very_place_of_the_last_incremental_is_the_base() -> None:
    f2 = full("F2", 18)
    answer = decide_backup_type(INCREMENTAL, Stamps(stamp(f2), stamp(I2)), [*ALL, f2], HISTORY)
    assert isinstance(answer, BackupChoice)
    assert answer.parent == f2


@pytest.mark.parametrize("requested", [FULL, COPY])
def test_what_takes_pages_is_taken_as_asked(requested: BackupType) -> None:
    answer = decide_backup_type(requested, Stamps(), [], None)
    assert isinstance(answer, BackupChoice)
    assert (answer.type, answer.parent, answer.log_start) == (requested, None, None)


@pytest.mark.parametrize("requested", [INCREMENTAL, DIFFERENTIAL])
def test_an_increment_without_a_full_is_raised(requested: BackupType) -> None:
    answer = decide_backup_type(requested, Stamps(), [], HISTORY)
    assert raised(answer) == "no-full"
    assert str(answer.reasons[0]) == f"{requested} without a full: {requested} raised to full"


def test_a_new_history_is_raised() -> None:
    assert raised(decide_backup_type(INCREMENTAL, STAMPS, ALL, "other")) == "new-history"
    assert raised(decide_backup_type(INCREMENTAL, STAMPS, ALL, None)) in ("history-unknown", "new-history")


def test_a_chain_with_a_lost_or_swapped_link_is_raised() -> None:
    assert raised(decide_backup_type(INCREMENTAL, STAMPS, [F1, I2], HISTORY)) == "chain-broken"
    assert raised(decide_backup_type(INCREMENTAL, STAMPS, [F1, I1], HISTORY)) == "chain-broken"
    swapped = replace(I1, sha256="another")
    assert raised(decide_backup_type(INCREMENTAL, STAMPS, [F1, swapped, I2], HISTORY)) == "chain-broken"


def test_a_damaged_chain_is_raised() -> None:
    assert raised(decide_backup_type(INCREMENTAL, STAMPS, ALL, HISTORY, unfit={"I1": "cut"})) == "chain-damaged"


def test_log_that_is_gone_from_the_copies_is_raised() -> None:
    assert raised(decide_backup_type(INCREMENTAL, STAMPS, ALL, HISTORY, oldest_held=place(19))) == "log-gone"
    assert raised(decide_backup_type(INCREMENTAL, STAMPS, ALL, HISTORY, oldest_held=Position("o", 1))) == "log-gone"
    answer = decide_backup_type(INCREMENTAL, STAMPS, ALL, HISTORY, oldest_held=place(18))
    assert isinstance(answer, BackupChoice)
    assert not answer.raised


def test_log_that_other_backups_stored_counts_when_the_run_can_name_it() -> None:
    """Incrementals let log go; a differential names what they stored and reads only the rest."""
    gone_since_full = place(18)
    backups = [F1, I1, I2]
    assert raised(decide_backup_type(DIFFERENTIAL, STAMPS, backups, HISTORY, oldest_held=gone_since_full)) == "log-gone"
    answer = decide_backup_type(
        DIFFERENTIAL, STAMPS, backups, HISTORY, oldest_held=gone_since_full, archived_log_counts=True
    )
    assert isinstance(answer, BackupChoice)
    assert (answer.type, answer.parent, answer.log_start, answer.log_from) == (DIFFERENTIAL, F1, place(10), place(18))
    assert [stored.log.number for stored in answer.archived_logs] == list(range(11, 19))


def test_a_damaged_backup_lends_no_log() -> None:
    answer = decide_backup_type(
        DIFFERENTIAL,
        STAMPS,
        ALL,
        HISTORY,
        oldest_held=place(18),
        unfit={"I2": "cut", "D1": "cut"},
        archived_log_counts=True,
    )
    assert raised(answer) == "log-gone"


def test_without_lent_log_all_of_it_comes_from_the_copies() -> None:
    answer = decide_backup_type(INCREMENTAL, STAMPS, ALL, HISTORY)
    assert isinstance(answer, BackupChoice)
    assert (answer.archived_logs, answer.log_from) == ((), place(18))


def test_a_stamp_that_contradicts_the_archive_is_raised() -> None:
    odd = replace(stamp(I2), end=place(19))
    assert raised(decide_backup_type(INCREMENTAL, Stamps(stamp(F1), odd), ALL, HISTORY)) == "stamp-differs"


def test_a_stamp_never_names_a_copy_or_a_differential() -> None:
    copy = make_backup("C1", COPY, 18)
    for backup in (copy, D1):
        answer = decide_backup_type(INCREMENTAL, Stamps(stamp(F1), stamp(backup)), [F1, I1, D1, copy], HISTORY)
        assert raised(answer) == "chain-broken"


@pytest.mark.parametrize("requested", [INCREMENTAL, DIFFERENTIAL])
def test_while_a_full_waits_for_its_stamp_no_increment_is_taken(requested: BackupType) -> None:
    answer = decide_backup_type(requested, STAMPS, [*ALL, full("F2", 26)], HISTORY)
    assert isinstance(answer, RefuseBackup)
    assert answer.reasons[0].code == "stamp-pending"


def test_an_incremental_that_waits_for_its_stamp_stops_the_next_but_no_differential() -> None:
    stamps = Stamps(stamp(F1), stamp(I1))
    assert isinstance(decide_backup_type(INCREMENTAL, stamps, ALL, HISTORY), RefuseBackup)
    assert isinstance(decide_backup_type(DIFFERENTIAL, stamps, ALL, HISTORY), BackupChoice)
    assert isinstance(decide_backup_type(INCREMENTAL, Stamps(), [F1], HISTORY), RefuseBackup)


def test_a_policy_may_refuse_instead_of_raising() -> None:
    answer = decide_backup_type(INCREMENTAL, Stamps(), [], HISTORY, raise_to_full=False)
    assert isinstance(answer, RefuseBackup)
    assert [reason.code for reason in answer.reasons] == ["no-full", "raise-forbidden"]


def test_the_stamp_s_time_does_not_matter() -> None:
    early = Stamps(replace(stamp(F1), at=minute(900)), replace(stamp(I2), at=minute(0)))
    answer = decide_backup_type(INCREMENTAL, early, ALL, HISTORY)
    assert isinstance(answer, BackupChoice)
    assert answer.parent == I2
