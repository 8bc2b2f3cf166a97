"""Every page that a server would take is taken, every other is refused, as its own tools have it."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.engines.postgres.data_files import find_files, real_path
from backupd.engines.postgres.page_checksum import as_pages, bad_pages, page_checksums, page_lsns, zero_pages
from backupd.engines.postgres.volume_table import Kind
from tests.engines.postgres.cluster_builders import PAGE, a_page, pages, put, slow_checksum
from tests.pg_pairs import PairFactory, all_versions

BLOCKS = st.integers(0, 2**32 - 1)


def bad_of(data: bytes, first_block: int = 0, *, checksums: bool = True) -> list[int]:
    found: list[int] = np.flatnonzero(bad_pages(as_pages(data), first_block, checksums=checksums)).tolist()
    return found


@given(seed=st.integers(0, 2**32), block=BLOCKS)
def test_it_is_the_checksum_of_the_source(seed: int, block: int) -> None:
    page = np.random.default_rng(seed).bytes(PAGE)
    assert page_checksums(page, block).tolist() == [slow_checksum(page, block)]


@pytest.mark.parametrize("count", [1, 2, 511, 512, 513, 1030])
def test_many_pages_are_as_one_by_one(count: int) -> None:
    data = np.random.default_rng(count).bytes(count * PAGE)
    at_once = page_checksums(data, 131070)
    alone = [int(page_checksums(data[at * PAGE : (at + 1) * PAGE], 131070 + at)[0]) for at in range(count)]
    assert at_once.tolist() == alone
    numbers = np.arange(131070, 131070 + count, dtype=np.uint32)
    assert page_checksums(data, numbers).tolist() == alone


def test_pages_are_only_looked_at() -> None:
    data = bytearray(pages(0, 3))
    before = bytes(data)
    assert bad_of(memoryview(data)) == []  # type: ignore[arg-type]
    assert bytes(data) == before


def test_the_checksum_knows_its_block() -> None:
    data = pages(131072, 3)
    assert bad_of(data, 131072) == []
    assert bad_of(data, 0) == [0, 1, 2]
    assert bad_of(data[PAGE : 2 * PAGE] + data[:PAGE] + data[2 * PAGE :], 131072) == [0, 1]


@given(at=st.integers(0, PAGE - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_seen(at: int, bit: int) -> None:
    page = bytearray(a_page(7))
    page[at] ^= 1 << bit
    assert bad_of(bytes(page), 7) == [0]


def test_a_page_of_zeros_is_sound_and_one_that_only_claims_to_be_new_is_not() -> None:
    new = bytearray(PAGE)
    assert bad_of(bytes(new)) == []
    for at in (0, 9, 24, PAGE - 1):
        claims = bytearray(PAGE)
        claims[at] = 1
        assert bad_of(bytes(claims)) == [0]
        assert zero_pages(as_pages(bytes(claims))).tolist() == [False]


@pytest.mark.parametrize(
    ("at", "value"), [(10, 0x0100), (12, 5000), (14, 8193), (16, 4000), (16, 8200), (16, 8187)], ids=str
)
def test_a_header_that_the_server_refuses_is_bad_with_and_without_checksums(at: int, value: int) -> None:
    page = a_page(0, checksum=False)
    page = page[:at] + struct.pack("<H", value) + page[at + 2 :]
    assert bad_of(page, checksums=False) == [0]
    page = page[:8] + struct.pack("<H", slow_checksum(page, 0)) + page[10:]
    assert bad_of(page) == [0]


def test_without_checksums_only_the_header_counts() -> None:
    page = a_page(0, checksum=False)
    assert bad_of(page, checksums=False) == []
    assert bad_of(page) == [0]


def test_lsns_are_read_as_they_are_written() -> None:
    rows = as_pages(a_page(0, lsn=0x16_B374D848) + a_page(1, lsn=1))
    assert page_lsns(rows).tolist() == [0x16_B374D848, 1]


def test_a_part_of_a_page_is_no_page() -> None:
    with pytest.raises(ValueError, match="not whole pages"):
        as_pages(b"x" * 8191)


def found_by_server(programs: Path, data: Path, person: dict[str, Any]) -> set[tuple[str, int]]:
    """What ``pg_checksums`` says: file and block in the file."""
    told = subprocess.run(
        [programs / "pg_checksums", "--check", "-D", data], capture_output=True, text=True, check=False, **person
    )
    found = re.findall(r'failed in file "([^"]+)", block (\d+)', told.stderr)
    assert told.returncode == (1 if found else 0), told.stderr
    return {(str(Path(name).relative_to(data)), int(block)) for name, block in found}


def found_by_us(data: Path) -> tuple[set[tuple[str, int]], int]:
    found = find_files(data)
    bad, count = set(), 0
    for entry in found.entries:
        if entry.kind == Kind.RELATION:
            content = real_path(entry.path, found.roots()).read_bytes()
            count += len(content) // PAGE
            bad |= {(entry.path, block) for block in bad_of(content, entry.first_block)}
    return bad, count


@pytest.mark.real
@pytest.mark.parametrize("major", all_versions())
def test_real_files_are_judged_as_the_server_s_tool_does(major: int, make_pair: PairFactory) -> None:
    server = make_pair(major, standby=False).a
    server.pgbench("-i", "-s", "2")
    server.psql("VACUUM")
    server.stop()
    data, person = server.data, server.person
    as_owner: dict[str, Any] = {"user": person.uid, "group": person.gid}
    bad, count = found_by_us(data)
    assert bad == set()
    assert count > 2000

    victim = max((data / "base/5").iterdir(), key=lambda path: path.stat().st_size)
    with victim.open("r+b") as file:
        for at in (3 * PAGE + 5000, 17 * PAGE + 4097, 17 * PAGE + 8191):
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 0x10]))
    segment = put(data, "base/5/99999.1", pages(131072, 4) + pages(131072, 1))
    person_owned(segment, person.uid, person.gid)
    name = f"base/5/{victim.name}"
    expected = {(name, 3), (name, 17), ("base/5/99999.1", 4)}
    assert found_by_server(server.bin_directory, data, as_owner) == expected
    assert found_by_us(data)[0] == expected


def person_owned(path: Path, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, uid, gid)
