"""Data directories made by hand: sound pages with checksums by a second, slow implementation, and every odd file."""

from __future__ import annotations

import struct
from pathlib import Path

from backupd.engines.postgres.data_files import ClusterFiles, find_files
from backupd.engines.postgres.volume_source import VolumeSource
from backupd.ports import PageSource

PAGE = 8192
CATALOG = "PG_15_202209061"
START_LSN = 0x5000000

# checksumBaseOffsets of checksum_impl.h, copied a second time on purpose.
OFFSETS = (
    "5B1F36E9 B8525960 02AB50AA 1DE66D2A 79FF467A 9BB9F8A3 217E7CD2 83E13D2C "
    "F8D4474F E39EB970 42C6AE16 993216FA 7B093B5D 98DAFF3C F718902A 0B1C9CDB "
    "E58F764B 187636BC 5D7B3BB1 E73DE7DE 92BEC979 CCA6C0B2 304A0979 85AA43D4 "
    "783125BB 6CA8EAA2 E407EAC6 4B5CFC3E 9FBF8C76 15CA20BE F2CA9FD3 959BD756"
)


def slow_checksum(page: bytes, block: int) -> int:
    """The checksum as ``pg_checksum_page`` computes it, one number at a time."""
    sums = [int(text, 16) for text in OFFSETS.split()]
    words = struct.unpack("<2048I", page[:8] + b"\0\0" + page[10:])

    def mixed(total: int, value: int) -> int:
        total ^= value
        return (total * 16777619 & 0xFFFFFFFF) ^ (total >> 17)

    for place, word in enumerate(words):
        sums[place % 32] = mixed(sums[place % 32], word)
    for _ in range(2):
        sums = [mixed(total, 0) for total in sums]
    folded = 0
    for total in sums:
        folded ^= total
    return (folded ^ block) % 65535 + 1


def a_page(block: int, *, lsn: int = 0x1000000, fill: bytes = b"row", checksum: bool = True) -> bytes:
    """A sound heap page as block ``block`` of its relation."""
    head = struct.pack("<IIHHHHHH", lsn >> 32, lsn & 0xFFFFFFFF, 0, 0, 28, 4096, 8192, 0x2004)
    page = (head + b"\0" * 8).ljust(4096, b"\0") + (fill * 4096)[:4096]
    if not checksum:
        return page
    return page[:8] + struct.pack("<H", slow_checksum(page, block)) + page[10:]


def pages(first: int, count: int, **how: object) -> bytes:
    """Sound pages from that block on, each with its own content."""
    return b"".join(a_page(block, fill=b"%d " % block, **how) for block in range(first, first + count))  # type: ignore[arg-type]


def put(top: Path, path: str, data: bytes = b"") -> Path:
    """A file below ``top``, with its directories."""
    place = top / path
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    place.write_bytes(data)
    place.chmod(0o600)
    return place


def a_data_directory(top: Path) -> Path:
    """A small one that has one of everything, in ``top/data``, with a tablespace in ``top/space``."""
    data = top / "data"
    data.mkdir(mode=0o700)
    put(data, "PG_VERSION", b"15\n")
    put(data, "postgresql.conf", b"port = 5432\n")
    put(data, "global/pg_control", struct.pack("=QII", 77, 1300, 202209061).ljust(PAGE, b"\0"))
    put(data, "global/pg_filenode.map", b"m" * 512)
    put(data, "global/1262", pages(0, 1))
    put(data, "base/5/PG_VERSION", b"15\n")
    put(data, "base/5/16384", pages(0, 5))
    put(data, "base/5/16384.1", pages(131072, 3))
    put(data, "base/5/16384_fsm", pages(0, 3))
    put(data, "base/5/16384_vm", pages(0, 1))
    put(data, "base/5/16390", b"")
    put(data, "base/5/16400", b"unlogged, and not even pages")
    put(data, "base/5/16400_init", pages(0, 1))
    put(data, "pg_xact/0000", b"\x55" * PAGE)
    put(data, "pg_multixact/members/0000", b"\0" * PAGE)
    for empty in ("pg_wal/archive_status", "pg_wal/summaries", "pg_replslot/node_b", "pg_stat_tmp", "pg_twophase"):
        (data / empty).mkdir(parents=True, mode=0o700)
    put(data, "pg_wal/000000010000000000000001", b"log")
    put(data, "pg_replslot/node_b/state", b"slot")
    put(data, "pg_subtrans/0000", b"\0" * PAGE)
    put(data, "log/server.log", b"LOG: hello\n")
    space = top / "space"
    put(space, f"{CATALOG}/5/16500", pages(0, 2))
    put(space, "PG_14_202107181/5/16500", b"of the version before")
    (data / "pg_tblspc").mkdir(mode=0o700)
    (data / "pg_tblspc/16499").symlink_to(space)
    return data


def paths_of(found: ClusterFiles) -> list[str]:
    return [entry.path for entry in found.entries]


def read_all(source: PageSource, block_pages: int = 128) -> tuple[bytes, list[int]]:
    """The whole volume as the pipeline reads it, and its bad pages."""
    volume, bad = bytearray(), list[int]()
    for first in range(0, source.page_count, block_pages):
        count = min(block_pages, source.page_count - first)
        view = memoryview(bytearray(b"\xaa" * (count * PAGE)))
        source.read_into(view, first * PAGE)
        bad.extend(source.bad_pages(first, view, None))  # type: ignore[arg-type]
        source.forget(first * PAGE, count * PAGE)
        volume += view
    return bytes(volume), bad


def frozen(data: Path, **how: bool) -> VolumeSource:
    """The source over a directory that stands still."""
    found = find_files(data)
    return VolumeSource(found, found.roots(), data_checksums=how.get("data_checksums", True))
