"""The WAL as bytes: sums of both byte orders, every page size, and where the first bad frame is."""

from __future__ import annotations

import mmap
import random
from pathlib import Path

import pytest

from backupd.engines.sqlite import wal, walindex
from tests.engines.sqlite.cutting import Active
from tests.engines.sqlite.synthetic import frames, wal_header

PAGE_SIZES = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]


def made(page_bytes: int, big_endian: bool, count: int = 7) -> tuple[bytes, bytes, wal.Sums]:
    source = random.Random(page_bytes)
    header, sums = wal_header(page_bytes, (11, 22), big_endian)
    pages = [(n + 1, count if n == count - 1 else 0, source.randbytes(page_bytes)) for n in range(count)]
    body, last = frames(pages, (11, 22), sums, big_endian)
    return header, body, last


@pytest.mark.parametrize("page_bytes", PAGE_SIZES)
@pytest.mark.parametrize("big_endian", [False, True])
def test_17_19_sums_of_every_page_size_in_both_byte_orders(page_bytes: int, big_endian: bool) -> None:
    header, body, last = made(page_bytes, big_endian)
    top = wal.parse_header(header)
    assert top is not None
    assert (top.page_bytes, top.big_endian, top.salt1, top.salt2) == (page_bytes, big_endian, 11, 22)
    assert wal.verify_frames(body, page_bytes, top.sums, big_endian) == (7, last)
    assert wal.verify_frames(body, page_bytes, top.sums, not big_endian)[0] == 0
    assert wal.verify_frames(body, page_bytes, (1, 2), big_endian) == (0, (1, 2))


@pytest.mark.parametrize("frame", [0, 3, 6])
@pytest.mark.parametrize("where", [0, 5, 16, 24, 500, 535])
def test_a_flipped_bit_is_found_at_its_frame(frame: int, where: int) -> None:
    header, body, _ = made(512, False)
    top = wal.parse_header(header)
    assert top is not None
    changed = bytearray(body)
    changed[frame * wal.frame_bytes(512) + where] ^= 4
    good, sums = wal.verify_frames(changed, 512, top.sums, False)
    assert good == frame
    assert sums == wal.verify_frames(body[: frame * wal.frame_bytes(512)], 512, top.sums, False)[1]


def test_11_a_torn_tail_is_not_a_frame() -> None:
    header, body, _ = made(512, False)
    top = wal.parse_header(header)
    assert top is not None
    assert wal.verify_frames(body[:-1], 512, top.sums, False)[0] == 6
    assert wal.verify_frames(b"", 512, top.sums, False) == (0, top.sums)
    for cut in range(32):
        assert wal.parse_header(header[:cut]) is None
    assert wal.parse_header(bytes(32)) is None


def test_salts_tell_where_another_log_begins() -> None:
    _, body, last = made(512, False)
    other, _ = frames([(1, 1, bytes(512))], (12, 22), last, False)
    assert wal.salts_count(body + other + body, 512, 11, 22) == 7
    assert wal.salts_count(body, 512, 11, 22) == 7


def test_views_are_the_pages(tmp_path: Path) -> None:
    _, body, _ = made(512, False)
    assert [int(n) for n in wal.frame_headers(body, 512)["page"]] == [1, 2, 3, 4, 5, 6, 7]
    assert wal.pages_view(body, 512)[2].tobytes() == body[2 * 536 + 24 : 3 * 536]


@pytest.mark.parametrize("page_bytes", PAGE_SIZES)
def test_the_wal_index_of_a_real_database(tmp_path: Path, page_bytes: int) -> None:
    active = Active(tmp_path, page_bytes=page_bytes)
    active.write()
    data = (tmp_path / "app.db-wal").read_bytes()
    top = wal.parse_header(data)
    with open(tmp_path / "app.db-shm", "rb") as file:
        index = walindex.read_index(mmap.mmap(file.fileno(), walindex.INDEX_BYTES, prot=mmap.PROT_READ))
    assert top is not None
    assert index is not None
    assert index.page_bytes == page_bytes
    assert (index.salt1, index.salt2) == (top.salt1, top.salt2)
    good, sums = wal.verify_frames(data[32:], page_bytes, top.sums, top.big_endian)
    assert (good, sums) == (index.max_frame, index.frame_sums)
    assert index.page_count == active.db.execute("PRAGMA page_count").fetchone()[0]
    assert index.backfilled == 0
    assert active.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone() == (0, good, good)
    again = walindex.read_index((tmp_path / "app.db-shm").read_bytes())
    assert again is not None
    assert again.backfilled == good


def test_a_torn_or_empty_wal_index_is_none(tmp_path: Path) -> None:
    active = Active(tmp_path)
    active.write()
    data = bytearray((tmp_path / "app.db-shm").read_bytes()[:136])
    assert walindex.read_index(data) is not None
    data[16] ^= 1  # mxFrame of the first copy only
    assert walindex.read_index(data) is None
    data[64] ^= 1  # both copies equal, but their own sum is wrong
    assert walindex.read_index(data) is None
    assert walindex.read_index(bytes(136)) is None
    assert walindex.read_index(b"") is None


def test_a_header_that_is_being_published_is_none(tmp_path: Path) -> None:
    active = Active(tmp_path)
    active.write()
    before = (tmp_path / "app.db-shm").read_bytes()[:136]
    active.write()
    after = (tmp_path / "app.db-shm").read_bytes()[:136]
    assert walindex.read_index(before[:48] + after[48:]) is None  # the second copy is written first
    assert walindex.read_index(after) is not None
