"""A record comes back as it was written, and JSON of it says what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.archive import names
from backupd.archive.envelope import seal
from backupd.archive.record import AbortRecord, decode_record, encode_abort, encode_record, record_to_json
from backupd.errors import DamageFound
from backupd.model.position import Position
from backupd.model.records import (
    RESTORE_POINTS_MAX,
    BackupRecord,
    BackupType,
    LogFile,
    LogKind,
    RestorePoint,
    StoredFile,
    StoredLog,
    StoredMap,
    StoredSegment,
)
from tests.decide.builders import make_backup

NAME = "db/orders-00000000/backup/20261122T010000Z-F-1a2b3c4d"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**63 - 1)
objects = st.from_regex(r"db/orders-00000000/[a-z]{3,4}/[0-9a-f]{6}", fullmatch=True)
times = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))]))
positions = st.builds(Position, st.text("0123456789abcdef", min_size=1, max_size=16), counts)
segments = st.builds(StoredSegment, objects, counts, st.integers(1, 2**40), counts, counts, texts)


@st.composite
def stored_files(draw: st.DrawFn) -> StoredFile:
    page_bytes, page_count = draw(st.sampled_from([512, 4096, 8192, 65536])), draw(st.integers(0, 2**40))
    block_pages = draw(st.integers(2**19 // page_bytes, 2**26 // page_bytes))
    path = draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0."), min_size=1, max_size=20))
    size_bytes, blake3 = page_bytes * page_count, draw(texts)
    page_map = StoredMap(draw(objects), page_count, draw(counts), draw(texts))
    found = tuple(draw(st.lists(segments, max_size=3)))
    return StoredFile(path, size_bytes, page_bytes, page_count, blake3, found, page_map, block_pages)


files = st.lists(stored_files(), max_size=3, unique_by=lambda file: file.path.casefold()).map(tuple)
names_of_points = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
points = st.builds(RestorePoint, names_of_points, positions, positions, st.none() | times)
logs = st.builds(
    LogFile,
    texts,
    counts,
    st.sampled_from(LogKind),
    positions,
    positions,
    counts,
    texts,
    texts,
    st.none() | times,
    st.none() | times,
    texts,
    st.none() | st.lists(points, max_size=3).map(tuple),
)
records = st.builds(
    BackupRecord,
    id=texts,
    database=texts,
    engine=st.sampled_from(["sqlite", "another"]),
    type=st.sampled_from(BackupType),
    source_copy=texts,
    source_role=texts,
    source_host=texts,
    started_at=times,
    finished_at=times,
    covers_until=times,
    log_start=positions,
    log_end=positions,
    parent=st.none() | texts,
    parent_sha256=st.none() | texts,
    nonce=texts,
    files=files,
    logs=st.lists(st.builds(StoredLog, logs, objects, counts, texts), max_size=3).map(tuple),
    frozen_seconds=st.none() | st.floats(0, 100),
    provider=st.none() | texts,
    read_bytes=counts,
    stored_bytes=counts,
    checked_pages=counts,
    policy_commit=st.none() | texts,
    tool_version=texts,
    notes=st.lists(texts, max_size=3).map(tuple),
)


@given(records)
def test_a_record_comes_back(record: BackupRecord) -> None:
    data = encode_record(record, object_name=NAME, repository="u")
    assert decode_record(NAME, data, "u") == record
    assert data == encode_record(record, object_name=NAME, repository="u")
    assert json.loads(json.dumps(record_to_json(record)))["id"] == record.id


@given(times, texts)
def test_an_abort_comes_back(at: datetime, reason: str) -> None:
    abort = AbortRecord("x", reason, at, "backupd")
    assert decode_record(NAME, encode_abort(abort, object_name=NAME, repository="u"), "u") == abort


def test_a_record_of_another_archive_or_name_is_damage() -> None:
    abort = AbortRecord("x", "why", datetime(2026, 11, 22, tzinfo=UTC), "backupd")
    data = encode_abort(abort, object_name=NAME, repository="u")
    for name, repository in ((NAME, "v"), (NAME + "0", "u")):
        with pytest.raises(DamageFound) as caught:
            decode_record(name, data, repository)
        assert caught.value.details["object"] == name


def test_a_sound_sum_over_a_wrong_field_is_damage() -> None:
    for content in ({}, {"verdict": "maybe"}, {"verdict": "commit"}, {"verdict": "abort", "id": "x", "at": 5}):
        with pytest.raises(DamageFound):
            decode_record(NAME, seal("record", NAME, "u", content), "u")


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_labels_sort_by_time_and_come_back(at: datetime) -> None:
    label = names.new_label(at, BackupType.DIFFERENTIAL, "0123abcd")
    parsed = names.parse_label(label)
    assert (parsed.at, parsed.type, parsed.suffix) == (at.replace(microsecond=0), BackupType.DIFFERENTIAL, "0123abcd")
    assert label < names.new_label(at + timedelta(seconds=1), BackupType.COPY, "00000000")


def test_database_ids_are_stable_and_apart() -> None:
    assert names.database_id("Orders & Co", "sqlite") == names.database_id("Orders & Co", "sqlite")
    assert names.database_id("Orders & Co", "sqlite").startswith("orders-co-")
    assert names.database_id("orders-co", "sqlite") != names.database_id("Orders & Co", "sqlite")
    assert names.is_object_name(f"db/{names.database_id('über/..', 'sqlite')}/x")


@pytest.mark.parametrize("text", ["", "x", "20261122T010000Z-X-1a2b3c4d", "20261322T010000Z-F-1a2b3c4d", "../x"])
def test_what_is_no_label(text: str) -> None:
    assert not names.is_label(text)


def _with_points(*points: RestorePoint) -> tuple[BackupRecord, LogFile]:
    place = Position("1", 5)
    log = LogFile("1", 1, LogKind.SEGMENT, place, place, 16, "d", "", restore_points=points)
    stored = StoredLog(log, "db/orders-00000000/log/000001", 1, "s")
    record = make_backup("i", BackupType.FULL, 5, logs=[stored], history="1").record
    return replace(record, engine="postgres"), log


AT = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "points",
    [
        *([name] for name in ("", "\x1b[2Jgone", "two\nlines", "\u202egnp.exe", "a" * 256)),
        [f"point {number}" for number in range(RESTORE_POINTS_MAX + 1)],
    ],
)
def test_names_of_restore_points_that_would_play_with_a_screen_are_damage(points: list[str]) -> None:
    record, _ = _with_points(*(RestorePoint(name, Position("1", 5), Position("1", 6), AT) for name in points))
    with pytest.raises(DamageFound, match="restore point"):
        decode_record(NAME, encode_record(record, object_name=NAME, repository="r"), "r")


def test_what_nobody_looked_for_is_not_said() -> None:
    """Records of older versions and of encrypted backups stay as they are, with the sum that seals them."""
    record, log = _with_points()
    unknown = replace(record, logs=(replace(record.logs[0], log=replace(log, restore_points=None)),))
    assert "restore_points" not in record_to_json(unknown)["logs"][0]["log"]
    assert record_to_json(record)["logs"][0]["log"]["restore_points"] == []


@pytest.mark.parametrize(
    ("point", "sound"),
    [
        (RestorePoint("a", Position("1", 7), Position("1", 8), AT), True),
        (RestorePoint("begins before", Position("1", 0), Position("1", 1)), True),
        (RestorePoint("another history", Position("x\x1b[31m", 7), Position("x\x1b[31m", 8)), False),
        (RestorePoint("after elsewhere", Position("1", 7), Position("1", 1 << 40)), False),
        (RestorePoint("beyond", Position("1", 1 << 40), Position("1", (1 << 40) + 1)), False),
    ],
)
def test_a_restore_point_lies_in_its_log_file(point: RestorePoint, sound: bool) -> None:
    record, log = _with_points(point)
    whole = replace(log, start=Position("1", 5), end=Position("1", 16))
    record = replace(record, logs=(replace(record.logs[0], log=whole),))
    data = encode_record(record, object_name=NAME, repository="r")
    if sound:
        assert decode_record(NAME, data, "r") == record
        return
    with pytest.raises(DamageFound, match="restore point"):
        decode_record(NAME, data, "r")
