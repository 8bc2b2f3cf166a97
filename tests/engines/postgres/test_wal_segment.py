"""A segment is checked whole: each wrong byte of a header, and what may stand after a switch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backupd.engines.postgres.wal_segment import SegmentExpected, SegmentFacts, check_bytes, check_segment
from backupd.errors import DamageFound, NotHealthy
from backupd.model.position import Position
from tests.engines.postgres.wal_synthetic import MAGIC, MIB, PAGE_BYTES, SYSTEM, full_segment, header, record, segment

EXPECTED = {"system_identifier": SYSTEM, "major": 16, "timeline": 1, "segno": 5, "segment_bytes": MIB}
PAGES = MIB // PAGE_BYTES
FULL = bytes(full_segment())
SWITCHED = bytes(segment([record(24 + n % 700) for n in range(900)] + [record(24, switch=True)]))


def check(data: bytes | bytearray, **how: Any) -> SegmentFacts:
    expected = SegmentExpected(**{**EXPECTED, **how})
    return check_bytes(Path("/wal") / expected.name, np.frombuffer(bytes(data), dtype=np.uint8), "d", expected)


def test_a_sound_segment_tells_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(FULL)
    facts = check_segment(tmp_path / "one", **EXPECTED)  # type: ignore[arg-type]
    assert facts == SegmentFacts(blake3(FULL).hexdigest(), MAGIC, 16, PAGES, PAGES)


def test_a_flipped_byte_that_makes_another_versions_magic_is_named_where_it_is() -> None:
    data = bytearray(FULL)
    data[0] ^= 3  # 16's magic becomes 15's
    with pytest.raises(DamageFound, match="page 0: its magic is that of version 15"):
        check(data)


def test_a_segment_that_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotHealthy, match="gone"):
        check_segment(tmp_path / "gone", **EXPECTED)  # type: ignore[arg-type]


@given(st.integers(0, PAGES - 1), st.integers(0, 15), st.integers(1, 255))
def test_any_other_byte_in_the_header_of_a_page_is_found(page: int, place: int, change: int) -> None:
    data = bytearray(FULL)
    # Two of the flags may stand on any page: that it may be recycled, and that it overwrites a torn record.
    if place == 2 and change & ~0x0C == 0:
        change |= 0x10
    data[page * PAGE_BYTES + place] ^= change
    with pytest.raises(DamageFound) as caught:
        check(data)
    assert f"page {page}:" in caught.value.because
    assert "000000010000000000000005" in caught.value.problem


@given(st.integers(24, 39), st.integers(1, 255))
@example(37, 0x60)  # 8 KiB becomes 16 KiB: half of the pages were not looked at
@example(37, 0xA0)
def test_any_other_byte_in_the_long_header_is_found(place: int, change: int) -> None:
    data = bytearray(FULL)
    data[place] ^= change
    with pytest.raises(DamageFound, match="0000000000000005"):
        check(data)


@pytest.mark.parametrize("page", [1, 7, PAGES - 1])
def test_two_pages_that_changed_places_are_found(page: int) -> None:
    data = bytearray(FULL)
    data[:PAGE_BYTES], rest = data[:PAGE_BYTES], data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]
    other = page - 1 if page > 1 else 2
    data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = data[other * PAGE_BYTES : (other + 1) * PAGE_BYTES]
    data[other * PAGE_BYTES : (other + 1) * PAGE_BYTES] = rest
    with pytest.raises(DamageFound, match=f"page {min(page, other)}:"):
        check(data)


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"system_identifier": 1}, "cluster"),
        ({"timeline": 2}, "timeline 1 and must be of 2"),
        ({"segno": 6}, "begins at LSN"),
        ({"segment_bytes": 2 * MIB}, "bytes long"),
    ],
)
def test_somebody_elses_segment_is_found(how: dict[str, int], word: str) -> None:
    with pytest.raises(DamageFound, match=word):
        check(FULL, **how)


@pytest.mark.parametrize("length", [0, 10, 40, PAGE_BYTES, MIB - PAGE_BYTES, MIB - 1])
def test_a_cut_file_is_found(length: int) -> None:
    with pytest.raises(DamageFound, match=f"{length} bytes long"):
        check(FULL[:length])


def test_a_hole_of_zeros_is_found() -> None:
    data = bytearray(FULL)
    data[9 * PAGE_BYTES :] = bytes(MIB - 9 * PAGE_BYTES)
    with pytest.raises(DamageFound, match="page 9:"):
        check(data)


# --- after a switch ---------------------------------------------------------


def used(data: bytes) -> int:
    return check(data).used_pages


def test_after_a_switch_come_zeros() -> None:
    assert 0 < used(SWITCHED) < PAGES


@pytest.mark.slow
@given(st.integers(0, PAGES), st.integers(0, 4))
def test_after_a_switch_the_log_that_the_file_was_recycled_from_may_stand(cut: int, back: int) -> None:
    older = full_segment(segno=4 - back)
    older[cut * PAGE_BYTES :] = bytes(MIB - cut * PAGE_BYTES)
    stale = segment([record(300)] * 400 + [record(24, switch=True)], rest=bytes(older))
    assert used(bytes(stale)) == used(bytes(segment([record(300)] * 400 + [record(24, switch=True)])))


def test_newer_log_after_a_switch_is_damage() -> None:
    newer = segment([record(300)] * 400 + [record(24, switch=True)], rest=bytes(full_segment(segno=6)))
    with pytest.raises(DamageFound, match="neither empty nor older"):
        check(newer)


@given(st.integers(PAGE_BYTES * 100, MIB - 1), st.integers(1, 255))
def test_no_byte_may_stand_on_an_empty_page(place: int, change: int) -> None:
    data = bytearray(SWITCHED)
    data[place] ^= change
    with pytest.raises(DamageFound, match=f"page {place // PAGE_BYTES}:"):
        check(data)


@settings(max_examples=200)
@given(st.lists(st.integers(24, 20_000), max_size=30), st.integers(0, 1100))
def test_a_switch_is_recognised_wherever_it_stands(lengths: list[int], fill: int) -> None:
    # Its header may also begin on one page and end on the next.
    records = [record(length) for length in lengths] + [record(24)] * (fill + 1)
    data = bytes(segment([*records, record(24, switch=True)]))
    assert 1 <= used(data) < PAGES
    with pytest.raises(DamageFound):
        check(bytes(segment(records)))


@pytest.mark.parametrize("before", [8, 16, 24])
@pytest.mark.parametrize("pages", [1, 2, 50])
def test_a_switch_whose_header_goes_over_two_pages_is_recognised(pages: int, before: int) -> None:
    room = (PAGE_BYTES - 40) + (pages - 1) * (PAGE_BYTES - 24) - before
    records = [record(40)] * (room // 40) + ([record(room % 40)] if room % 40 >= 24 else [])
    records[-1] = record(len(records[-1]) + room - sum(map(len, records)))
    data = bytes(segment([*records, record(24, switch=True)]))
    assert used(data) == pages + (before < 24)


def test_log_that_simply_ends_is_damage() -> None:
    with pytest.raises(DamageFound, match="magic 0x0000"):
        check(bytes(segment([record(500)] * 200)))


# --- two timelines in one file ----------------------------------------------


@pytest.mark.parametrize("inside", [0, 8, PAGE_BYTES // 2])
def test_pages_that_a_timeline_took_over_name_their_own(inside: int) -> None:
    ended = 5 * MIB + 7 * PAGE_BYTES + inside
    ancestry = (Position("1", ended),)
    whole = bytes(full_segment(timeline=2, parent=1, parent_pages=7 + (inside > 0)))
    assert check(whole, timeline=2, ancestry=ancestry).used_pages == PAGES
    with pytest.raises(DamageFound, match="timeline"):
        check(whole, timeline=2, ancestry=(Position("1", ended + PAGE_BYTES),))
    with pytest.raises(DamageFound, match="timeline"):
        check(whole, timeline=2)


def test_a_page_of_a_version_that_nobody_knows_is_damage() -> None:
    data = bytearray(FULL)
    data[:40] = header(0, 5, 1, left=0, segment_bytes=MIB, magic=0xD199)
    with pytest.raises(DamageFound, match="0xD199"):
        check(data)
