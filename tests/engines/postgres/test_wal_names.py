"""Names and numbers of the log agree with each other, and with the server's own functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.wal_names import (
    check_segment_bytes,
    history_name,
    lsn_text,
    parse_history_name,
    parse_lsn,
    parse_segment_name,
    segment_before,
    segment_end,
    segment_name,
    segment_of,
    segment_start,
)

LSNS = st.integers(0, (1 << 64) - 1)
SIZES = st.integers(20, 30).map(lambda power: 1 << power)
MIB = 1 << 20


@given(LSNS)
def test_an_lsn_comes_back_from_its_text(lsn: int) -> None:
    assert parse_lsn(lsn_text(lsn)) == lsn


@pytest.mark.parametrize("text", ["", "16", "16/", "/0", "16/B374D848X", "x/0", "123456789/0", "0/123456789"])
def test_what_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an LSN"):
        parse_lsn(text)


@given(st.integers(1, 0xFFFFFFFF), LSNS, SIZES)
def test_a_segment_comes_back_from_its_name(timeline: int, lsn: int, size: int) -> None:
    segno = segment_of(lsn, size)
    name = segment_name(timeline, segno, size)
    assert len(name) == 24
    assert parse_segment_name(name, size) == (timeline, segno)


@pytest.mark.parametrize(
    "name",
    [
        "00000001000000000000001",
        "000000010000000000000001.partial",
        "00000002.history",
        "archive_status",
        "00000001000000000000000g",
        "000000010000000000000100",  # 256 segments of 16 MiB fill 4 GiB
        "000000000000000000000001",
    ],
)
def test_what_is_no_whole_segment_has_no_number(name: str) -> None:
    assert parse_segment_name(name, 16 * MIB) is None


def test_history_files_are_named_in_hexadecimal() -> None:
    assert history_name(26) == "0000001A.history"
    assert parse_history_name("0000001A.history") == 26
    assert parse_history_name("0000001A.history.tmp") is None


@given(LSNS.filter(bool), SIZES)
def test_the_segment_that_ends_at_a_boundary_is_the_one_before_it(lsn: int, size: int) -> None:
    end = segment_end(lsn, size)
    assert end % size == 0
    assert lsn <= end < lsn + size
    assert segment_before(lsn, size) == end // size - 1
    assert segment_start(lsn, size) <= lsn < segment_start(lsn, size) + size


@given(st.integers(1, 1 << 30), SIZES)
def test_a_boundary_is_the_end_of_the_segment_before_it(segno: int, size: int) -> None:
    lsn = segno * size
    assert (segment_end(lsn, size), segment_before(lsn, size)) == (lsn, segno - 1)
    assert (segment_start(lsn, size), segment_of(lsn, size)) == (lsn, segno)
    assert segment_end(lsn + 1, size) == lsn + size


def test_nothing_is_before_the_first_byte() -> None:
    with pytest.raises(ValueError, match="no log before"):
        segment_before(0, 16 * MIB)


@pytest.mark.parametrize("size", [0, 1, MIB - 1, 3 * MIB, 2 << 30])
def test_a_size_that_no_server_can_have_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="not the size"):
        check_segment_bytes(size)


@pytest.mark.real
@pytest.mark.parametrize(
    "lsn", ["0/1000000", "0/1000001", "0/FFFFFFFF", "1/0", "1/1", "ABC/DE000000", "FFFFFFFF/1234567"]
)
def test_the_server_names_the_same_file(pg_pair: PgPair, lsn: str) -> None:
    size = int(pg_pair.active.psql("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'"))
    names = pg_pair.active.psql(f"SELECT pg_walfile_name('{lsn}')")  # of a boundary: the file that ends there
    timeline = int(names[:8], 16)
    assert segment_name(timeline, segment_before(parse_lsn(lsn), size), size) == names
