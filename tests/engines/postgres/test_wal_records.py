"""What pg_waldump's lines mean: who changed what, what was dropped, and how each transaction ended."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupd.engines.postgres import waldump
from backupd.engines.postgres.wal_records import Ended, commit_of, ended, numbers_in
from backupd.engines.postgres.waldump import Parsed
from backupd.errors import NotFound

HEAD = "rmgr: {rmgr:11} len (rec/tot):     54/  1958, tx: {xid:>10}, lsn: {lsn}, prev 0/00A00078, desc: "


def line(rmgr: str, xid: int, what: str, lsn: str = "0/00A28A30") -> bytes:
    return (HEAD.format(rmgr=rmgr, xid=xid, lsn=lsn) + what + "\n").encode()


def all_of(*lines: bytes) -> list[Ended]:
    return list(ended(iter(lines)))


COMMIT = "COMMIT 2026-11-23 00:33:14.255105 UTC"
REL = ", blkref #0: rel 1663/5/16384 blk 3"


# The same records as 14, 15 and 18 write them.
@pytest.mark.parametrize(
    ("rmgr", "words", "rows"),
    [
        ("Heap", "INSERT off 10 flags 0x01", 1),
        ("Heap", "INSERT+INIT off: 1, flags: 0x00", 1),
        ("Heap", "DELETE off 3 flags 0x00 KEYS_UPDATED ", -1),
        ("Heap", "DELETE xmax: 745, off: 3, infobits: [KEYS_UPDATED], flags: 0x00", -1),
        ("Heap", "UPDATE off 3 xmax 745 flags 0x00 ; new off 4 xmax 0", 0),
        ("Heap", "HOT_UPDATE old_xmax: 745, old_off: 3, flags: 0x10, new_xmax: 0, new_off: 4", 0),
        ("Heap2", "MULTI_INSERT 61 tuples flags 0x02", 61),
        ("Heap2", "MULTI_INSERT+INIT ntuples: 61, flags: 0x02, offsets: [26, 27]", 61),
    ],
)
def test_rows_are_counted_in_the_words_of_every_version(rmgr: str, words: str, rows: int) -> None:
    [end] = all_of(line(rmgr, 745, words + REL), line("Transaction", 745, COMMIT, "0/00A29000"))
    assert end.doing.rows == {(5, 16384): rows}
    assert (end.xid, end.lsn, end.committed) == (745, 0xA29000, True)
    assert end.at == datetime(2026, 11, 23, 0, 33, 14, 255105, UTC)


def test_a_subtransaction_counts_with_its_transaction_and_one_that_was_rolled_back_does_not() -> None:
    found = all_of(
        line("Heap", 730, "INSERT off 1 flags 0x00" + REL),
        line("Transaction", 730, "ABORT 2026-11-23 00:33:14.661149 UTC"),
        line("Heap", 731, "DELETE off 1 flags 0x00" + REL),
        line("Transaction", 729, f"{COMMIT}; subxacts: 731 732"),
    )
    assert [(one.xid, one.committed) for one in found] == [(730, False), (729, True)]
    assert found[1].doing.rows == {(5, 16384): -1}
    assert found[1].subxacts == (731, 732)


def test_a_prepared_transaction_is_ended_by_another() -> None:
    [end] = all_of(
        line("Heap", 740, "DELETE off 1 flags 0x00" + REL),
        line("Transaction", 0, "COMMIT_PREPARED 740: 2026-11-23 00:33:14.1 UTC"),
    )
    assert (end.xid, end.doing.rows) == (740, {(5, 16384): -1})


def test_removed_files_and_changed_relations_are_read_off_the_commit() -> None:
    words = (
        f"{COMMIT}; rels: base/5/16391 pg_tblspc/16400/PG_15_202209061/5/16392; dropped stats: 2/5/16389; "
        "inval msgs: catcache 32 relcache 16384 relcache 1259 relcache 16384"
    )
    [end] = all_of(
        line("Storage", 733, "CREATE base/5/16395"),
        line("Heap", 733, "UPDATE off 3, blkref #0: rel 1663/5/1259 blk 0"),
        line("Transaction", 733, words),
    )
    assert end.removed == ((5, 16391), (5, 16392))
    assert end.changed_oids == (16384,)
    assert (end.doing.made_files, end.doing.catalog, end.doing.rows) == (1, True, {})


def test_a_restore_point_has_its_name_with_every_blank() -> None:
    [point] = all_of(line("XLOG", 0, "RESTORE_POINT before the  drop", "0/00A33108"))
    assert (point.name, point.lsn, point.at) == ("before the  drop", 0xA33108, None)


def test_a_transaction_is_found_by_its_number_or_its_parts_and_one_rolled_back_is_refused() -> None:
    lines = [
        line("Transaction", 729, f"{COMMIT}; subxacts: 731 732", "0/00A29000"),
        line("Transaction", 734, "ABORT 2026-11-23 00:33:14.748997 UTC"),
    ]
    for xid in (729, 732):
        found = commit_of(iter(lines), xid)
        assert found is not None
        assert found.lsn == 0xA29000
    assert commit_of(iter(lines), 700) is None
    with pytest.raises(NotFound, match="734 was never committed"):
        commit_of(iter(lines), 734)


def test_numbers_are_the_least_and_the_greatest_and_none_is_no_number() -> None:
    lines = [line("Heap", 733, "LOCK off 3"), line("XLOG", 0, "CHECKPOINT_ONLINE"), line("Transaction", 729, COMMIT)]
    assert numbers_in(iter(lines)) == (729, 733)
    assert numbers_in(iter(lines[1:2])) is None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a loaded machine is no fault
@given(st.lists(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)), max_size=20))
def test_a_line_of_anything_is_passed_over(noise: list[bytes]) -> None:
    good = [line("Heap", 745, "INSERT off 1" + REL), line("Transaction", 745, COMMIT)]
    mixed = [good[0], *(each.replace(b"\n", b"") + b"\n" for each in noise), good[1]]
    assert [end.doing.rows for end in ended(iter(mixed))] == [{(5, 16384): 1}]


def test_a_line_that_names_no_place_in_the_log_is_nobody_s() -> None:
    """People's texts in the log have new lines in them; what looks like a line may say anything."""
    forged = line("Transaction", 745, COMMIT, "123456789/0"), line("XLOG", 0, "RESTORE_POINT x", "0/123456789")
    assert all_of(*forged) == []
    assert numbers_in(iter(forged)) is None
    parsed = Parsed()
    waldump._take(forged, 1 << 24, parsed)
    assert (parsed.commits, parsed.points) == ({}, {})
