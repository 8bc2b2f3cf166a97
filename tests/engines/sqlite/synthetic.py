"""WAL frames made by hand, with sums computed one word at a time: what no SQLite on this machine would write."""

from __future__ import annotations

import struct

from backupd.engines.sqlite.wal import MAGIC_BIG, MAGIC_LITTLE, Sums


def slow_sums(data: bytes, sums: Sums, big_endian: bool) -> Sums:
    """The definition of https://www.sqlite.org/fileformat2.html#checksum_algorithm, word by word."""
    sum0, sum1 = sums
    for first, second in struct.iter_unpack(">II" if big_endian else "<II", data):
        sum0 = (sum0 + first + sum1) & 0xFFFFFFFF
        sum1 = (sum1 + second + sum0) & 0xFFFFFFFF
    return sum0, sum1


def wal_header(page_bytes: int, salts: tuple[int, int], big_endian: bool) -> tuple[bytes, Sums]:
    """A header, and the sums that its frames go on from."""
    magic = MAGIC_BIG if big_endian else MAGIC_LITTLE
    head = struct.pack(">6I", magic, 3007000, 1 if page_bytes == 65536 else page_bytes, 0, *salts)
    sums = slow_sums(head, (0, 0), big_endian)
    return head + struct.pack(">2I", *sums), sums


def frames(
    pages: list[tuple[int, int, bytes]], salts: tuple[int, int], sums: Sums, big_endian: bool
) -> tuple[bytes, Sums]:
    """Frames of (page number, commit size, bytes) that go on from ``sums``."""
    made = []
    for number, commit, page in pages:
        head = struct.pack(">2I", number, commit)
        sums = slow_sums(head + page, sums, big_endian)
        made.append(head + struct.pack(">4I", *salts, *sums) + page)
    return b"".join(made), sums
