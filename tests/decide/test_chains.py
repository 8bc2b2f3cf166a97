"""A chain is sound only when every link holds; the archive's end is that of the newest sound one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.decide.chains import BrokenChain, Chain, archived_end, chain_of
from backupd.model.records import ArchivedBackup, BackupType, LogKind
from tests.decide.builders import HISTORY, full, increment, make_backup, place, plain_logs

LOGS = plain_logs(40)
F1 = full("F1", 10)
I1 = increment("I1", F1, 14, LOGS)
I2 = increment("I2", I1, 18, LOGS)
D1 = increment("D1", F1, 20, LOGS, backup_type=BackupType.DIFFERENTIAL)


def with_record(backup: ArchivedBackup, **changes: object) -> ArchivedBackup:
    return replace(backup, record=replace(backup.record, **changes))  # type: ignore[arg-type]


def test_a_sound_chain_is_told_full_first() -> None:
    assert chain_of("I2", [I2, D1, I1, F1]) == Chain((F1, I1, I2))
    assert chain_of("F1", [F1]) == Chain((F1,))


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (with_record(I1, logs=I1.record.logs[:-1]), "log-gap"),
        (with_record(I1, logs=I1.record.logs[1:]), "log-gap"),
        (with_record(I1, logs=(I1.record.logs[0], *I1.record.logs[2:])), "log-gap"),
        (with_record(I1, logs=()), "log-gap"),
        (with_record(I1, logs=tuple(reversed(I1.record.logs))), "log-gap"),
        (with_record(I1, log_start=place(9)), "log-gap"),
        (with_record(increment("I1", full("X", 12), 16, LOGS), parent="F1", parent_sha256=F1.sha256), "log-gap"),
        (with_record(I1, parent_sha256="another"), "parent-differs"),
        (with_record(I1, parent=None), "parent-missing"),
        (with_record(I1, parent="gone"), "parent-missing"),
        (with_record(I1, parent="I1"), "chain-loop"),
    ],
)
def test_every_broken_link_is_found(broken: ArchivedBackup, code: str) -> None:
    answer = chain_of("I1", [F1, broken])
    assert isinstance(answer, BrokenChain)
    assert answer.reasons[0].code == code


@pytest.mark.parametrize("index", range(4))
def test_a_seed_a_gap_or_a_foreign_digest_inside_breaks_the_chain(index: int) -> None:
    logs = list(I1.record.logs)
    for change in ({"kind": LogKind.SEED}, {"previous_digest": "another"}, {"number": 99}, {"start": place(9)}):
        if index == 0 and ("number" in change or "previous_digest" in change):
            continue  # what comes before the first file is the parent's business
        changed = replace(logs[index], log=replace(logs[index].log, **change))
        broken = with_record(I1, logs=(*logs[:index], changed, *logs[index + 1 :]))
        assert isinstance(chain_of("I1", [F1, broken]), BrokenChain)


def test_an_increment_of_no_log_at_all_is_sound() -> None:
    empty = increment("I0", F1, 10, LOGS)
    assert chain_of("I0", [F1, empty]) == Chain((F1, empty))


def test_the_archive_s_end_is_that_of_the_newest_sound_chain() -> None:
    assert archived_end([F1, I1, I2, D1], HISTORY) == place(20)
    assert archived_end([F1, I1, I2], HISTORY) == place(18)
    assert archived_end([F1, I2], HISTORY) == place(10)
    assert archived_end([I1, I2], HISTORY) is None
    assert archived_end([], HISTORY) is None


def test_a_copy_another_history_and_damage_do_not_count() -> None:
    copy = make_backup("C1", BackupType.COPY, 30)
    on_copy = increment("X1", copy, 34, LOGS)
    assert archived_end([F1, copy, on_copy, full("G1", 99, history="other")], HISTORY) == place(10)
    assert archived_end([F1, I1, I2], HISTORY, unfit={"I1"}) == place(10)
    assert archived_end([F1, I1, I2], HISTORY, unfit={"F1"}) is None
    assert archived_end([F1], None) is None
