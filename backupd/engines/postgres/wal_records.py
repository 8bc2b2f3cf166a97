"""What pg_waldump says of transactions, line by line: which rows each changed, what it dropped, and how it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from backupd.engines.postgres.wal_names import parse_lsn
from backupd.errors import NotFound

RMGRS = ("Transaction", "Heap", "Heap2", "Storage", "XLOG")
FIRST_OWN_OID = 16384  # what is below belongs to the server itself
_PG_CLASS, _PG_ATTRIBUTE = 1259, 1249

_LINE = re.compile(
    rb"rmgr: (\w+) +len .*?tx: +(\d+), lsn: ([0-9A-F]{1,8}/[0-9A-F]{1,8}), prev [0-9A-F]+/[0-9A-F]+, "
    rb"desc: ([A-Z_+]+) ?(.*)"
)
_REL = re.compile(rb"blkref #0: rel (\d+)/(\d+)/(\d+)")
_TUPLES = re.compile(rb"(?:ntuples: )?(\d+)")
_ENDED = re.compile(rb"(?:(\d+): )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC")
_REMOVED = re.compile(rb"; rels: ([^;]+)")
_FILE = re.compile(rb"(?:base/(\d+)|pg_tblspc/\d+/[^/ ]+/(\d+))/(\d+)")
_SUBXACTS = re.compile(rb"; subxacts: ([\d ]+)")
_RELCACHE = re.compile(rb"relcache (\d+)")
_ROWS = {b"INSERT": 1, b"DELETE": -1, b"UPDATE": 0, b"HOT_UPDATE": 0}

Relation = tuple[int, int]  # the oid of its database and the number of its file


@dataclass(slots=True)
class Doing:
    """What a transaction has done so far: for each relation rows more (or fewer) and records; files made; catalogs."""

    rows: dict[Relation, int] = field(default_factory=dict)
    records: dict[Relation, int] = field(default_factory=dict)
    made_files: int = 0
    catalog: bool = False
    truncated: int = 0

    def add(self, other: Doing) -> None:
        """Take over what a subtransaction did."""
        for relation, count in other.records.items():
            self.records[relation] = self.records.get(relation, 0) + count
            self.rows[relation] = self.rows.get(relation, 0) + other.rows[relation]
        self.made_files += other.made_files
        self.truncated += other.truncated
        self.catalog |= other.catalog


@dataclass(frozen=True, slots=True)
class Ended:
    """A transaction that was committed, or rolled back, by the record at ``lsn``; or a restore point (``name``)."""

    lsn: int
    xid: int
    committed: bool
    at: datetime | None
    doing: Doing
    subxacts: tuple[int, ...] = ()
    removed: tuple[Relation, ...] = ()
    changed_oids: tuple[int, ...] = ()
    name: str = ""


def ended(lines: Iterator[bytes]) -> Iterator[Ended]:
    """Every end of a transaction and every restore point in pg_waldump's lines, in the log's order.

    What is kept is what the open transactions have done; a line that is none of ours is passed over.
    """
    open_ones: dict[int, Doing] = {}
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            continue
        rmgr, xid, lsn, what, rest = found[1], int(found[2]), found[3], found[4], found[5]
        if rmgr == b"Transaction":
            end = _end(xid, lsn, what, rest, open_ones)
            if end is not None:
                yield end
        elif rmgr == b"XLOG":
            if what == b"RESTORE_POINT":
                yield Ended(parse_lsn(lsn.decode()), 0, True, None, Doing(), name=rest.decode("utf-8", "replace"))
        elif xid:
            _note(open_ones.setdefault(xid, Doing()), rmgr, what, rest)


def _note(doing: Doing, rmgr: bytes, what: bytes, rest: bytes) -> None:
    if rmgr == b"Storage":
        doing.made_files += what == b"CREATE"
        return
    kind = what.partition(b"+")[0]
    if kind == b"TRUNCATE":
        doing.truncated += 1
        return
    rows = _ROWS.get(kind)
    if kind == b"MULTI_INSERT":
        tuples = _TUPLES.match(rest)
        rows = int(tuples[1]) if tuples else 1
    found = _REL.search(rest)
    if rows is None or found is None:
        return
    relation = (int(found[2]), int(found[3]))
    if relation[1] < FIRST_OWN_OID:
        doing.catalog |= relation[1] in {_PG_CLASS, _PG_ATTRIBUTE}
        return
    doing.rows[relation] = doing.rows.get(relation, 0) + rows
    doing.records[relation] = doing.records.get(relation, 0) + 1


def _end(xid: int, lsn: bytes, what: bytes, rest: bytes, open_ones: dict[int, Doing]) -> Ended | None:
    committed = what.startswith(b"COMMIT")
    if not committed and not what.startswith(b"ABORT"):
        return None
    when = _ENDED.match(rest)
    if when is not None and when[1]:
        xid = int(when[1])  # a prepared transaction is ended by another one
    subxacts = _SUBXACTS.search(rest)
    numbers = tuple(int(each) for each in subxacts[1].split()) if subxacts else ()
    doing = open_ones.pop(xid, Doing())
    for each in numbers:
        doing.add(open_ones.pop(each, Doing()))
    removed = _REMOVED.search(rest)
    oids = dict.fromkeys(int(each) for each in _RELCACHE.findall(rest))
    return Ended(
        lsn=parse_lsn(lsn.decode()),
        xid=xid,
        committed=committed,
        at=datetime.fromisoformat(when[2].decode()).replace(tzinfo=UTC) if when else None,
        doing=doing,
        subxacts=numbers,
        removed=tuple((int(one or other), int(file)) for one, other, file in _FILE.findall(removed[1]))
        if removed
        else (),
        changed_oids=tuple(oid for oid in oids if oid >= FIRST_OWN_OID),
    )


def numbers_in(lines: Iterator[bytes]) -> tuple[int, int] | None:
    """The least and the greatest transaction number of the lines; None when there is none."""
    least, greatest = 0, 0
    for line in lines:
        found = _LINE.match(line)
        if found is None or (xid := int(found[2])) == 0:
            continue
        least, greatest = min(least or xid, xid), max(greatest, xid)
    return (least, greatest) if greatest else None


def commit_of(lines: Iterator[bytes], xid: int) -> Ended | None:
    """The commit of ``xid``, or of the transaction that it was a part of. Raises NotFound: it was rolled back."""
    for end in ended(lines):
        if end.name or (end.xid != xid and xid not in end.subxacts):
            continue
        if not end.committed:
            raise NotFound(
                f"transaction {xid} was never committed",
                because=f"it was rolled back{f' at {end.at.isoformat()}' if end.at else ''}",
                next_step="look at the transactions of that time: backupctl timeline DATABASE --commits --near TIME",
            )
        return end
    return None
