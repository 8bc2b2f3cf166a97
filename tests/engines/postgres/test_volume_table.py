"""The table of a volume says the same after a trip through bytes, and damage in it is told."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.engines.postgres.volume_layout import VolumeLayout
from backupd.engines.postgres.volume_table import (
    ClusterFacts,
    Entry,
    Kind,
    Tablespace,
    VolumeTable,
    decode,
    encode,
    lay_out,
)
from backupd.errors import DamageFound

PAGE = 8192

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda it: it not in {".", ".."}
)
LSNS = st.integers(0, 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
WORDS = st.text("abc_", min_size=1, max_size=8)
PLACES = st.lists(WORDS, max_size=3).map(lambda parts: "/" + "/".join(parts))
SETTINGS = st.dictionaries(WORDS, WORDS, max_size=3)
HISTORIES = st.dictionaries(st.integers(2, 2**32 - 1).map(lambda number: f"{number:08X}.history"), TEXTS, max_size=3)


@st.composite
def tables(draw: st.DrawFn) -> VolumeTable:
    directories = draw(st.lists(NAMES, max_size=4, unique=True))
    entries = [Entry(name, Kind.DIRECTORY, mode=draw(st.integers(0, 0o777))) for name in directories]
    for parent in ["", *directories]:
        for name in draw(st.lists(NAMES, max_size=4, unique=True)):
            path = f"{parent}/{name}" if parent else name
            if path not in directories:
                kind = draw(st.sampled_from([Kind.RELATION, Kind.PAGED, Kind.PLAIN]))
                size = draw(st.one_of(st.integers(0, 5 * PAGE), st.integers(0, 5).map(lambda it: it * PAGE)))
                block = draw(st.sampled_from([0, 131072])) if kind == Kind.RELATION else 0
                entries.append(Entry(path, kind, size, draw(st.integers(0, 0o777)), 0, block))
    facts = ClusterFacts(
        server_version_num=draw(st.integers(140000, 189999)),
        system_identifier=str(draw(LSNS)),
        timeline=draw(st.integers(1, 2**32 - 1)),
        start_lsn=draw(LSNS),
        stop_lsn=draw(LSNS),
        backup_label=draw(TEXTS),
        tablespace_map=draw(TEXTS),
        data_checksums=draw(st.booleans()),
        tablespaces=tuple(
            Tablespace(oid, draw(PLACES)) for oid in draw(st.sets(st.integers(1, 2**32 - 1), max_size=3))
        ),
        settings=draw(SETTINGS),
        history_files=draw(HISTORIES),
        provider=draw(TEXTS),
        mode=draw(st.sampled_from(["frozen", "moving"])),
    )
    laid, count = lay_out(entries)
    return VolumeTable(facts, laid, count + draw(st.integers(0, 2)))


FACTS = ClusterFacts(150018, "7", 1, 0x3000028, 0x3000100, "START WAL LOCATION: …\n")
SMALL = VolumeTable(
    FACTS,
    *lay_out(
        [
            Entry(".", Kind.DIRECTORY, mode=0o700),
            Entry("PG_VERSION", Kind.PLAIN, 3),
            Entry("base", Kind.DIRECTORY, mode=0o700),
            Entry("base/5", Kind.DIRECTORY, mode=0o700),
            Entry("base/5/16384", Kind.RELATION, 2 * PAGE),
            Entry("base/5/16384_vm", Kind.RELATION, PAGE),
        ]
    ),
)


@settings(max_examples=60)
@given(table=tables())
def test_a_table_survives_the_trip(table: VolumeTable) -> None:
    data = encode(table)
    assert len(data) % PAGE == 0
    assert data.isascii()
    assert decode(data) == table


def test_files_follow_each_other_by_path() -> None:
    assert [(it.path, it.first_page) for it in SMALL.entries if it.page_count] == [
        *(("PG_VERSION", 0), ("base/5/16384", 1), ("base/5/16384_vm", 3)),
    ]
    assert SMALL.page_count == 4
    assert SMALL.size_bytes == 4 * PAGE


def test_a_name_that_is_no_unicode_survives() -> None:
    name = b"caf\xe9".decode(errors="surrogateescape")
    table = VolumeTable(FACTS, *lay_out([Entry(name, Kind.PLAIN, 1)]))
    assert decode(encode(table)) == table


@settings(max_examples=300)
@given(st.data())
def test_a_changed_byte_never_ends_in_a_traceback(data: st.DataObject) -> None:
    whole = bytearray(encode(SMALL))
    at = data.draw(st.integers(0, len(whole.rstrip(b"\n"))))
    whole[at] = data.draw(st.integers(0, 255))
    with suppress(DamageFound):
        decode(bytes(whole))


def changed(number: int, **fields: object) -> bytes:
    """The small table with one line changed; None takes a field away."""
    lines = encode(SMALL).rstrip(b"\n").split(b"\n")
    value = json.loads(lines[number]) | fields
    lines[number] = json.dumps({name: it for name, it in value.items() if it is not None}).encode()
    data = b"\n".join(lines)
    return data + b"\n" * (-len(data) % PAGE)


@pytest.mark.parametrize(
    ("number", "fields", "because"),
    [
        (0, {"format": 2}, "line 1: its format is 2"),
        (0, {"what": "other"}, "line 1: its format"),
        (0, {"entries": 5}, "it has 6 entries, and says it has 5"),
        (0, {"pages": 3}, "'base/5/16384_vm' does not lie where it can"),
        (0, {"pages": -1}, "-1 is not a whole number"),
        (0, {"cluster": []}, "line 1"),
        (0, {"cluster": None}, "'cluster' is missing"),
        (2, {"path": None}, "line 3: 'path' is missing"),
        (2, {"path": "/etc/passwd"}, "not a path below"),
        (2, {"path": "../x"}, "not a path below"),
        (2, {"path": "a\0b"}, "not a path below"),
        (2, {"path": "base/./x"}, "not a path below"),
        (2, {"path": "zzz"}, "stands after"),
        (3, {"path": "PG_VERSION"}, "stands after"),
        (3, {"path": "bas"}, "the directory of 'base/5' is not in it"),
        (5, {"kind": "socket"}, "line 6: 'socket' is not a valid Kind"),
        (5, {"size": True}, "True is not a whole number"),
        (5, {"size": 3 * PAGE}, "'base/5/16384_vm' does not lie where it can"),
        (5, {"page": 0}, "'base/5/16384' does not lie where it can"),
        (5, {"mode": "rw"}, "line 6"),
        (5, {"mode": "10000000"}, "is not a mode"),
    ],
)
def test_what_cannot_be_is_told(number: int, fields: dict[str, object], because: str) -> None:
    with pytest.raises(DamageFound) as told:
        decode(changed(number, **fields))
    assert because in told.value.because


@pytest.mark.parametrize("data", [b"", b"\n" * PAGE, encode(SMALL)[:-1], encode(SMALL)[:-PAGE], b"\xff" * PAGE])
def test_half_a_table_is_told(data: bytes) -> None:
    with pytest.raises(DamageFound):
        decode(data)


@pytest.mark.parametrize("field", list(ClusterFacts.__slots__))
def test_every_fact_is_needed(field: str) -> None:
    header = json.loads(encode(SMALL).split(b"\n")[0])
    del header["cluster"][field]
    with pytest.raises(DamageFound, match=r"table of the cluster's files") as told:
        decode(changed(0, cluster=header["cluster"]))
    assert f"'{field}' is missing" in told.value.because


@settings(max_examples=60)
@given(table=tables(), data=st.data())
def test_pieces_are_the_bytes_of_a_range(table: VolumeTable, data: st.DataObject) -> None:
    layout = VolumeLayout(table.entries, table.page_count)
    offset = data.draw(st.integers(0, table.size_bytes))
    length = data.draw(st.integers(0, table.size_bytes - offset))
    found = {
        piece.entry.offset + piece.offset + at
        for piece in layout.pieces(offset, length)
        for at in (0, piece.length // 2, piece.length - 1)
    }
    assert all(offset <= it < offset + length for it in found)
    total = sum(piece.length for piece in layout.pieces(offset, length))
    expected = sum(
        max(0, min(it.offset + it.size_bytes, offset + length) - max(it.offset, offset))
        for it in table.entries
        if it.kind != Kind.DIRECTORY
    )
    assert total == expected


def test_pages_are_named_for_a_person() -> None:
    entries = [
        replace(it, first_block=131072, path="base/5/16384.1") if it.size_bytes == 2 * PAGE else it
        for it in SMALL.entries
    ]
    layout = VolumeLayout(entries, SMALL.page_count)
    assert layout.words([0]) == "block 0 of PG_VERSION"
    assert layout.words([1, 2, 3]) == (
        "blocks 0 and 1 of base/5/16384.1 (segment 1: block 0 of it is block 131072 of the relation); "
        "block 0 of base/5/16384_vm (visibility map)"
    )
    many = VolumeLayout([Entry("base/5/1", Kind.RELATION, 100 * PAGE)], 100)
    assert many.words(range(5, 30)) == "blocks 5, 6, 7, 8, 9, 10, 11, 12, 13 and 14 of base/5/1; and 15 more"
