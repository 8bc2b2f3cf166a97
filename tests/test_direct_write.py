"""Pieces past the page cache: what is there afterwards is what was given, whatever a filesystem or a piece refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.direct_write import DirectWriter
from backupd.pipeline.page_file import SingleFile

MIB = 1 << 20
PIECES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40), st.booleans()), min_size=1, max_size=6)


@given(pieces=PIECES, seed=st.binary(min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_a_file_is_what_was_written_whatever_the_pieces(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int, bool]], seed: bytes
) -> None:
    path = tmp_path_factory.mktemp("direct") / "f"
    size = 8 * MIB
    expected = bytearray(size)
    file = SingleFile(path)
    file.open(size)
    for number, (start, count, odd) in enumerate(pieces):
        offset = start * 64 * 1024 + (512 if odd else 0)
        data = (bytes([number + 1]) + seed) * (count * 64 * 1024 // (len(seed) + 1))
        data = data[: size - offset]
        file.write(offset, data)
        expected[offset : offset + len(data)] = data
        assert file.read(offset, len(data)) == data
    file.make_durable()
    file.close()
    assert path.read_bytes() == bytes(expected)


def test_what_fits_is_large_and_aligned() -> None:
    writer = DirectWriter()
    assert writer.fits(MIB, 8192)
    assert not writer.fits(MIB, 8192 + 512)
    assert not writer.fits(MIB + 100, 0)
    assert not writer.fits(8192, 0)


@pytest.mark.parametrize("where", ["open", "write"])
def test_a_filesystem_that_refuses_gets_common_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    real_open, real_write, refused = os.open, os.pwrite, []

    def no_open(path: str, flags: int, *more: int, **named: int) -> int:
        if flags & os.O_DIRECT and where == "open":
            refused.append(path)
            raise OSError(errno.EINVAL, "no direct writes here")
        return real_open(path, flags, *more, **named)

    def no_write(descriptor: int, data: memoryview, offset: int) -> int:
        if where == "write" and not refused:
            refused.append(str(descriptor))
            raise OSError(errno.EINVAL, "not aligned for this disk")
        return real_write(descriptor, data, offset)

    monkeypatch.setattr(os, "open", no_open)
    monkeypatch.setattr(os, "pwrite", no_write)
    data = os.urandom(3 * MIB)
    file = SingleFile(tmp_path / "f")
    file.open(len(data))
    file.write(0, data)
    file.make_durable()
    file.close()
    assert len(refused) == 1
    assert (tmp_path / "f").read_bytes() == data


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = SingleFile(tmp_path / "f")
    file.open(MIB)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        file.write(0, b"x" * MIB)
    file.close()
