"""The page map and its rolling checksum against slow oracles, and the lock page."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from backupd.engines.sqlite.apply import apply_partially
from backupd.engines.sqlite.logcheck import verify_log
from backupd.engines.sqlite.logfile import LogHeader, LogKindCode, LogWriter
from backupd.engines.sqlite.pagemap import Changes, PageMap, load_map
from backupd.engines.sqlite.wal import MAGIC_BIG
from backupd.errors import DamageFound, NotFound
from backupd.pages import lock_page_number, mix, page_hashes, rolling_checksum
from tests.engines.sqlite.synthetic import frames, wal_header

MASK = (1 << 64) - 1


def slow_mix(hash_: int, number: int) -> int:
    value = hash_ ^ (number * 0x9E3779B97F4A7C15 & MASK)
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & MASK
    return value ^ (value >> 31)


def slow_checksum(hashes: list[int], page_bytes: int) -> int:
    checksum = 0
    for number, hash_ in enumerate(hashes, 1):
        if number != (1 << 30) // page_bytes + 1:
            checksum ^= slow_mix(hash_, number)
    return checksum


hashes_of = st.lists(st.integers(0, MASK), max_size=40)


@given(hashes_of)
def test_the_rolling_checksum_is_what_the_definition_says(hashes: list[int]) -> None:
    array = np.array(hashes, np.uint64)
    assert rolling_checksum(array, 512) == slow_checksum(hashes, 512)
    assert [int(x) for x in mix(array, 7)] == [slow_mix(hash_, 7 + n) for n, hash_ in enumerate(hashes)]


@given(st.binary(max_size=20), st.sampled_from([512, 1024, 65536]))
def test_page_hashes_are_those_of_each_page(seed: bytes, page_bytes: int) -> None:
    block = b"".join(bytes([byte]) * page_bytes for byte in seed)
    expected = [xxh3_64_intdigest(bytes([byte]) * page_bytes) for byte in seed]
    assert page_hashes(block, page_bytes).tolist() == expected


def test_a_torn_page_is_refused() -> None:
    with pytest.raises(ValueError, match="not whole pages"):
        page_hashes(bytes(700), 512)


# One log: (page, hash) writes, and the size at its end; pages by which it grows are always written.
a_log = st.tuples(st.lists(st.tuples(st.integers(1, 30), st.integers(0, MASK)), max_size=25), st.integers(1, 30))


@settings(max_examples=300)
@given(hashes_of, st.lists(a_log, max_size=5), st.booleans())
def test_applying_logs_equals_a_map_made_anew(
    start: list[int], logs: list[tuple[list[tuple[int, int]], int]], compact: bool
) -> None:
    page_map, model = PageMap(4096, np.array(start, np.uint64)), list(start)
    for writes, pages_after in logs:
        full = [*writes, *((number, number * 77) for number in range(len(model) + 1, pages_after + 1))]
        changes = Changes(4096)
        if compact:
            changes._compact_at = 3
        for number, hash_ in full:
            changes.add_pages(np.array([number], np.uint32), np.array([hash_], np.uint64))
        model += [0] * (pages_after - len(model))
        del model[pages_after:]
        for number, hash_ in full:
            if number <= pages_after:
                model[number - 1] = hash_
        promised = page_map.plan(changes, pages_after)
        assert page_map.apply(changes, pages_after) == promised == slow_checksum(model, 4096)
        assert page_map.hashes.tolist() == model
        assert rolling_checksum(page_map.hashes, 4096) == promised


def test_growth_that_nobody_wrote_counts_as_the_map_has_it() -> None:
    page_map = PageMap(4096, np.array([5], np.uint64))
    changes = Changes(4096)
    changes.add_pages(np.array([4], np.uint32), np.array([9], np.uint64))
    page_map.apply(changes, 4)
    assert page_map.hashes.tolist() == [5, 0, 0, 9]
    assert page_map.checksum == slow_checksum([5, 0, 0, 9], 4096)


def test_the_lock_page_is_left_out(tmp_path: Path) -> None:
    lock = lock_page_number(65536)
    assert lock == 16385
    hashes = np.arange(lock + 3, dtype=np.uint64)
    changed = hashes.copy()
    changed[lock - 1] = 99
    assert rolling_checksum(hashes, 65536) == rolling_checksum(changed, 65536)
    assert page_hashes(bytes(65536 * 3), 65536, lock - 1).tolist()[1] == 0
    page_map = PageMap(65536, hashes)
    changes = Changes(65536)
    changes.add_pages(np.array([lock, lock + 4], np.uint32), np.array([1, 2], np.uint64))
    page_map.apply(changes, lock + 4)
    assert page_map.checksum == rolling_checksum(page_map.hashes, 65536)
    page_map.apply(Changes(65536), lock - 5)
    assert page_map.checksum == rolling_checksum(page_map.hashes, 65536)


def test_16_a_log_that_crosses_the_lock_page(tmp_path: Path) -> None:
    page, lock = 65536, lock_page_number(65536)
    path, before = tmp_path / "big.db", lock - 2
    path.touch()
    os.truncate(path, before * page)
    page_map = PageMap.of_file(path, page)
    _, sums = wal_header(page, (1, 2), True)
    written = [(number, 0, bytes([number % 251]) * page) for number in (7, lock - 1, lock, lock + 1, lock + 2)]
    written[-1] = (lock + 2, lock + 2, written[-1][2])
    body, sums_out = frames(written, (1, 2), sums, True)
    changes = Changes(page)
    changes.add(body)
    header = LogHeader(
        LogKindCode.FRAMES, page, "00" * 8, 1, 1, 0, 5, lock + 2, page_map.plan(changes, lock + 2),
        pages_before=before, checksum_before=page_map.checksum, salt1=1, salt2=2, wal_magic=MAGIC_BIG,
        frame_first=1, frame_last=5, sums_in=sums, sums_out=sums_out,
    )  # fmt: skip
    writer = LogWriter(tmp_path / "log", 1)
    writer.append(body)
    writer.mark(5, lock + 2, 5)
    closed = writer.finish(header)
    verify_log(closed.path)
    apply_partially(path, closed.path, page_map=page_map)
    assert path.stat().st_size == (lock + 2) * page
    with open(path, "rb") as file:
        file.seek((lock - 1) * page)
        assert file.read(page) == bytes(page)  # even a log that carries the lock page does not write it
        assert file.read(page) == bytes([(lock + 1) % 251]) * page
    assert PageMap.of_file(path, page).checksum == header.checksum_after == page_map.checksum
    assert path.stat().st_blocks * 512 < 8 << 20  # still sparse


def test_a_saved_map_comes_back(tmp_path: Path) -> None:
    page_map = PageMap(4096, np.arange(1000, dtype=np.uint64))
    page_map.save(tmp_path / "map", "0123456789abcdef", 17)
    saved = load_map(tmp_path / "map")
    assert (saved.history, saved.number, saved.map.checksum) == ("0123456789abcdef", 17, page_map.checksum)
    assert (saved.map.hashes == page_map.hashes).all()
    assert (tmp_path / "map").stat().st_mode & 0o777 == 0o600
    for offset in (0, 20, 70, 8000, 8070, 8090):
        data = bytearray((tmp_path / "map").read_bytes())
        data[offset] ^= 1
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises(DamageFound):
            load_map(tmp_path / "bad")
    (tmp_path / "bad").write_bytes(b"")
    with pytest.raises(DamageFound):
        load_map(tmp_path / "bad")
    with pytest.raises(NotFound):
        load_map(tmp_path / "none")


def test_a_copy_is_a_map_of_its_own() -> None:
    page_map = PageMap(4096, np.arange(5, dtype=np.uint64))
    twin = page_map.copy()
    changes = Changes(4096)
    changes.add_pages(np.array([2], np.uint32), np.array([77], np.uint64))
    twin.apply(changes, 3)
    assert page_map.hashes.tolist() == [0, 1, 2, 3, 4]
    assert twin.hashes.tolist() == [0, 77, 2]
