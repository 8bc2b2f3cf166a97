"""What the kernel keeps of a file in its cache, seen by mincore(2), before and after reads of ours."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from backupd.engines.uncached_reads import UncachedReads

SIZE = 8 << 20
HALF = SIZE // 2


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    """A file that is on the disk, and not in the cache."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    opened = os.open(path, os.O_RDONLY)
    os.fsync(opened)
    os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
    # Read-ahead would bring in more than was asked for.
    os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_RANDOM)
    yield opened
    os.close(opened)


def cached(descriptor: int) -> tuple[float, float]:
    """How much of each half of the file is in the page cache, from 0 to 1."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    at = libc.mmap(None, SIZE, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    pages = (ctypes.c_ubyte * (SIZE // mmap.PAGESIZE))()
    assert libc.mincore(ctypes.c_void_p(at), ctypes.c_size_t(SIZE), pages) == 0
    libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(SIZE))
    there = [page & 1 for page in pages]
    return 2 * sum(there[: len(there) // 2]) / len(there), 2 * sum(there[len(there) // 2 :]) / len(there)


def read_all(reads: UncachedReads, descriptor: int) -> bytes:
    """Read the file in pieces, as a source does."""
    piece, found = bytearray(1 << 20), b""
    for offset in range(0, SIZE, len(piece)):
        assert reads.read_into(descriptor, memoryview(piece), offset) == len(piece)
        reads.forget(descriptor, offset, len(piece))
        found += piece
    return found


def test_what_was_not_cached_is_not_cached_after(descriptor: int) -> None:
    if cached(descriptor) != (0, 0):
        pytest.skip("this filesystem keeps its files in memory")
    found = read_all(UncachedReads(), descriptor)
    assert max(cached(descriptor)) < 0.1
    assert found == os.pread(descriptor, SIZE, 0)


def test_what_the_database_had_in_the_cache_stays(descriptor: int) -> None:
    reads = UncachedReads()
    os.pread(descriptor, HALF, 0)
    read_all(reads, descriptor)
    if not reads._flags:
        pytest.skip("this kernel, or this filesystem, does not know RWF_DONTCACHE")
    first, second = cached(descriptor)
    assert first > 0.9
    assert second < 0.1


@pytest.mark.parametrize(
    ("release", "flags"), [("6.14.11-amd64", 0), ("6.15", 0), ("6.16.1", 0x80), ("7.0-rc1", 0x80), ("what", 0)]
)
def test_only_kernels_that_do_it_right_are_asked(monkeypatch: pytest.MonkeyPatch, release: str, flags: int) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", release, "", "x86_64")))
    assert UncachedReads()._flags == flags


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_filesystem_that_cannot_is_asked_once(descriptor: int, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    asked, real = [], os.preadv

    def preadv(fd: int, views: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        asked.append(flags)
        if flags:
            raise OSError(number, os.strerror(number))
        return real(fd, views, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    reads = UncachedReads()
    reads._flags = 0x80
    read_all(reads, descriptor)
    assert [flags for flags in asked if flags] == [0x80]
    assert max(cached(descriptor)) < 0.1


def test_a_disk_that_fails_is_an_error(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def preadv(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(OSError, match="Input/output"):
        UncachedReads().read_into(descriptor, memoryview(bytearray(8)), 0)
