"""What the verdicts remember: object numbers as ranges, and the coverage that they come to."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.archive import names
from backupd.archive.coverage import NamedObjects, as_ranges, coverage_of, data_objects, read_ranges
from backupd.archive.verdict import Verdict, verdict_from_json
from backupd.errors import DamageFound
from backupd.model.records import ArchivedBackup, BackupType
from backupd.ports import StoredObject
from tests.archive_builders import ObedientClock, open_archive, take_full, take_logs, write_log, write_pages
from tests.fakes_store import MemoryStore

LABEL = "20261122T010000Z-F-1a2b3c4d"
EARLY = ObedientClock().now()
LATER = EARLY + timedelta(days=1)

objects_of_a_backup = st.sets(
    st.one_of(
        st.integers(0, 40).map(lambda number: names.segment_name("orders-1", LABEL, number)),
        st.integers(0, 5).map(lambda number: names.map_name("orders-1", LABEL, number)),
        st.integers(1, 2**40).map(lambda number: names.log_name("orders-1", "5f3a", number)),
        st.integers(1, 30).map(lambda number: names.log_name("orders-1", "00000002", number)),
    )
)


@given(objects_of_a_backup, objects_of_a_backup)
def test_ranges_name_exactly_what_went_in(read: set[str], others: set[str]) -> None:
    every = NamedObjects(StoredObject(name, 1, "") for name in sorted(read | others))
    found = [each.name for each in every.in_ranges(as_ranges(read))]
    assert sorted(found) == sorted(read)
    assert {each.name for each in every.called(read)} == read


def test_ranges_are_short() -> None:
    every = [names.segment_name("orders-1", LABEL, number) for number in (*range(16_384), 20_000)]
    logs = [names.log_name("orders-1", "00000001", number) for number in (7, 8, 9)]
    assert as_ranges([*every, *logs, names.map_name("orders-1", LABEL)]) == {
        "data": "0-16383,20000",
        "log/00000001": "7-9",
        "map": "0",
    }


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "1;2", "1-2-3", " 1"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="not ranges"):
        read_ranges(text)


@pytest.mark.parametrize("name", ["repo.json", "db/x/backup/y", "db/x/verify/y/z.json", "db/x/data/y", ""])
def test_what_is_no_data_object_has_no_place(name: str) -> None:
    with pytest.raises(ValueError, match="not a segment"):
        names.place_of(name)


@pytest.fixture
def chain(tmp_path: Path) -> tuple[ArchivedBackup, ArchivedBackup, ArchivedBackup]:
    """A full, and an incremental and a differential that share a log file."""
    archive = open_archive(MemoryStore())
    full = take_full(archive, write_pages(tmp_path / "app.db", 100), 0)
    logs = [write_log(tmp_path, number) for number in (1, 2)]
    return full, take_logs(archive, full, logs[:1]), take_logs(archive, full, logs, BackupType.DIFFERENTIAL)


def verdict(backup: ArchivedBackup, at: datetime, read: list[str], damaged: tuple[str, ...] = ()) -> Verdict:
    return Verdict(backup.record.id, "verify", "data", at, not damaged, damaged, read=as_ranges(read), damaged=damaged)


def test_coverage_counts_bytes_and_knows_the_oldest(
    chain: tuple[ArchivedBackup, ArchivedBackup, ArchivedBackup],
) -> None:
    full = chain[0]
    every = list(data_objects(full.record))
    first, rest = [every[0].name], [each.name for each in every[1:]]
    nothing = coverage_of([full], {}).share_of([full])
    assert (nothing.verified_bytes, nothing.unverified_objects, nothing.oldest_verified_at) == (0, len(every), None)
    said = {full.record.id: [verdict(full, EARLY, first)]}
    part = coverage_of([full], said)
    assert part.share_of([full]).verified_bytes == every[0].size_bytes
    assert part.share_of([full]).oldest_verified_at is None
    assert not part.is_whole(full.record)
    said[full.record.id].append(verdict(full, LATER, rest))
    whole = coverage_of([full], said)
    assert whole.share_of([full]).share == 1
    assert whole.share_of([full]).oldest_verified_at == EARLY
    assert whole.is_whole(full.record)


def test_what_was_found_damaged_is_not_verified_any_more_until_it_is_read_again(
    chain: tuple[ArchivedBackup, ArchivedBackup, ArchivedBackup],
) -> None:
    full = chain[0]
    every = [each.name for each in data_objects(full.record)]
    said = [verdict(full, EARLY, every), verdict(full, LATER, [], (every[1],))]
    coverage = coverage_of([full], {full.record.id: said})
    assert not coverage.is_whole(full.record)
    assert {at for each, at in coverage.looked_at.items() if each.name == every[1]} == {LATER}
    said.append(verdict(full, LATER + timedelta(days=1), [every[1]]))
    assert coverage_of([full], {full.record.id: said}).is_whole(full.record)


def test_a_log_that_several_backups_name_is_credited_to_all(
    chain: tuple[ArchivedBackup, ArchivedBackup, ArchivedBackup],
) -> None:
    _, incremental, differential = chain
    said = {incremental.record.id: [verdict(incremental, EARLY, [incremental.record.logs[0].name])]}
    coverage = coverage_of(chain, said)
    assert coverage.is_whole(incremental.record)
    assert coverage.share_of([differential]).unverified_objects == 1
    assert 0 < coverage.share_of([differential]).share < 1


def test_a_record_that_names_other_bytes_gets_no_credit(
    chain: tuple[ArchivedBackup, ArchivedBackup, ArchivedBackup],
) -> None:
    _, incremental, differential = chain
    other = replace(differential.record.logs[0], sha256="0" * 64)
    odd = ArchivedBackup(replace(differential.record, logs=(other,)), differential.sha256)
    said = {incremental.record.id: [verdict(incremental, EARLY, [other.name])]}
    assert not coverage_of([incremental, odd], said).is_whole(odd.record)


def test_a_verdict_of_a_version_without_budgets_still_counts(
    chain: tuple[ArchivedBackup, ArchivedBackup, ArchivedBackup],
) -> None:
    full = chain[0]
    content = verdict(full, EARLY, []).to_json()
    for key in ("read", "damaged", "whole"):
        del content[key]
    old = verdict_from_json(content)
    assert old.whole
    assert coverage_of([full], {full.record.id: [old]}).is_whole(full.record)
    bad = verdict_from_json({**content, "sound": False, "findings": ["something"]})
    assert not coverage_of([full], {full.record.id: [bad]}).verified_at
    light = verdict_from_json({**content, "level": "presence"})
    assert not light.whole
    assert not coverage_of([full], {full.record.id: [light]}).verified_at


@pytest.mark.parametrize("read", [{"data": "x"}, {"data": 5}, "0-5", {"data": None}])
def test_a_verdict_with_nonsense_in_it_is_damage(tmp_path: Path, read: object) -> None:
    archive = open_archive(MemoryStore())
    full = take_full(archive, write_pages(tmp_path / "app.db", 10), 0)
    name = names.verdict_name(archive.dbid, full.record.id, EARLY, "00000000")
    archive.sealed.create("verdict", name, {**verdict(full, EARLY, []).to_json(), "read": read})
    with pytest.raises(DamageFound) as caught:
        archive.read_verdict(name)
    assert caught.value.details["object"] == name
