"""The container: what is packed is unpacked, and nothing else is."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.errors import DamageFound
from backupd.pipeline.compress import BadFrame, Compressor, Decompressor
from backupd.pipeline.container import head_of, parse_block, read_table, table_bytes_max, unpack
from backupd.pipeline.stream import pack_stream, unpack_stream

HEAD = head_of("x", "log", "u")


def cut(data: bytes, piece: int) -> list[bytes]:
    return [data[start : start + piece] for start in range(0, len(data), piece)]


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.integers(1, 200))
def test_a_stream_comes_back_however_it_is_cut(plain: list[bytes], piece: int) -> None:
    packed = b"".join(pack_stream(HEAD, plain))
    head, pieces = unpack_stream("x", cut(packed, piece), "log")
    assert head["repository"] == "u"
    assert list(pieces) == plain


@settings(max_examples=300)
@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=3), st.data())
def test_any_change_is_found(plain: list[bytes], data: st.DataObject) -> None:
    packed = b"".join(pack_stream(HEAD, plain))
    start = data.draw(st.integers(0, len(packed) - 1))
    end = data.draw(st.integers(start, min(len(packed), start + 20)))
    changed = packed[:start] + data.draw(st.binary(max_size=20)) + packed[end:]
    if changed == packed:
        return
    with pytest.raises(DamageFound):
        list(unpack_stream("x", [changed], "log")[1])


def test_zstd_itself_reads_it() -> None:
    if shutil.which("zstd") is None:
        pytest.skip("no zstd program here")
    plain = [b"one " * 1000, b"two " * 1000]
    packed = b"".join(pack_stream(HEAD, plain))
    done = subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, check=True)
    assert done.stdout == b"".join(plain)


def test_single_blocks_by_the_table() -> None:
    plain = [bytes([number]) * 500 for number in range(20)]
    packed = b"".join(pack_stream(HEAD, plain))
    rows = read_table("x", packed[-table_bytes_max(20) :])
    assert len(rows) == 20
    row = rows[7]
    block = parse_block("x", row, packed[row.offset : row.offset + row.length])
    assert Decompressor().decompress(block.frame, 500) == plain[7]
    with pytest.raises(DamageFound):
        parse_block("x", row, packed[row.offset + 1 : row.offset + 1 + row.length])
    for tail in (b"", packed[-10:], packed[:-1], packed[-100:-1] + b"\0"):
        with pytest.raises(DamageFound):
            read_table("x", tail)


def test_another_object_is_not_taken_for_this_one() -> None:
    packed = b"".join(pack_stream(HEAD, [b"1"]))
    for name, kind in (("y", "log"), ("x", "map")):
        with pytest.raises(DamageFound, match=name):
            unpack(name, [packed], kind)


def test_frames_of_another_size_are_refused_before_they_are_expanded() -> None:
    bomb = Compressor(1).compress(bytes(100_000))
    with pytest.raises(BadFrame, match="100000"):
        Decompressor().decompress(bomb, 10)
    for junk in (b"", b"junk", bomb[:-1], bomb + b"x"):
        with pytest.raises(BadFrame):
            Decompressor().decompress(junk, 100_000)
    with pytest.raises(ValueError, match="level"):
        Compressor(0)
