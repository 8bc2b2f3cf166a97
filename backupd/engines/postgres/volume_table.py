"""The table of a stored cluster: which file lies where in the volume, and what a restore must know.

Byte by byte (``cluster.files``; FORMAT.md shows how to split a volume by hand): ASCII text,
one JSON object a line, each line ended by one newline, and newlines at the
end until the size is a multiple of 8192.  The first line is the header, the
others are entries in the order of their paths (compared as text).

Header: ``{"format": 1, "what": "backupd postgres files", "pages": N, "entries": N, "cluster": {...}}``.
``pages`` counts the volume's pages, ``entries`` the lines that follow.  ``cluster``
has the fields of ``ClusterFacts``; LSNs are text as PostgreSQL writes them.

Entry: ``{"path": "base/5/16384", "kind": "relation", "size": 8192, "mode": "600", "page": 7, "block": 0}``.
``path`` is relative to the data directory, and ``.`` is that directory itself; a
tablespace's files are below ``pg_tblspc/<oid>/``.  ``kind`` is ``directory``, ``relation``
(pages with checksums, if the cluster has them), ``paged`` (pages without) or ``plain``.  ``mode`` is octal.
Directories end there.  A file's ``size`` bytes begin at byte ``page * 8192`` of the
volume; what lies between two files are zeros.  ``block``, of relations only, is the
number in the relation of the file's first page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from backupd.engines.postgres.cluster import PAGE_BYTES, TABLE
from backupd.engines.postgres.volume_bounds import check_facts, check_path
from backupd.engines.postgres.wal_names import lsn_text, parse_lsn
from backupd.errors import DamageFound

_FORMAT = 1
_WHAT = "backupd postgres files"
TABLESPACES = "pg_tblspc"


class Kind(StrEnum):
    """What a path of a cluster is."""

    DIRECTORY = "directory"
    RELATION = "relation"
    PAGED = "paged"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or directory of a cluster; ``first_page`` counts in the volume, ``first_block`` in the relation."""

    path: str
    kind: Kind
    size_bytes: int = 0
    mode: int = 0o600
    first_page: int = 0
    first_block: int = 0

    @property
    def page_count(self) -> int:
        """Pages that it takes in the volume; 0 for a directory."""
        return -(-self.size_bytes // PAGE_BYTES)

    @property
    def offset(self) -> int:
        """Where it begins in the volume, in bytes."""
        return self.first_page * PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Tablespace:
    """A tablespace outside of the data directory: its number, and where it was on the copy that was read."""

    oid: int
    location: str


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What a restore must know about the cluster that was read; ``mode`` is ``frozen`` or ``moving``."""

    server_version_num: int
    system_identifier: str
    timeline: int
    start_lsn: int
    stop_lsn: int
    backup_label: str
    tablespace_map: str = ""
    page_bytes: int = PAGE_BYTES
    wal_segment_bytes: int = 16 << 20
    data_checksums: bool = True
    tablespaces: tuple[Tablespace, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    history_files: dict[str, str] = field(default_factory=dict)
    provider: str = ""
    mode: str = "frozen"

    @property
    def major(self) -> int:
        """The major version of the server."""
        return self.server_version_num // 10000


@dataclass(frozen=True, slots=True)
class VolumeTable:
    """All that ``cluster.files`` says."""

    header: ClusterFacts
    entries: tuple[Entry, ...]
    page_count: int

    @property
    def size_bytes(self) -> int:
        """The volume's size."""
        return self.page_count * PAGE_BYTES


def lay_out(entries: Iterable[Entry]) -> tuple[tuple[Entry, ...], int]:
    """The entries by path, each file from the next free page on, and how many pages that makes."""
    page = 0
    laid: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: entry.path):
        laid.append(replace(entry, first_page=page) if entry.kind != Kind.DIRECTORY else entry)
        page += entry.page_count
    return tuple(laid), page


def encode(table: VolumeTable) -> bytes:
    """The table as whole pages."""
    header = {
        "format": _FORMAT,
        "what": _WHAT,
        "pages": table.page_count,
        "entries": len(table.entries),
        "cluster": _facts_out(table.header),
    }
    lines = [json.dumps(header), *(json.dumps(_entry_out(entry)) for entry in table.entries), ""]
    data = "\n".join(lines).encode("ascii")
    return data + b"\n" * (-len(data) % PAGE_BYTES)


def decode(data: bytes) -> VolumeTable:
    """The table that ``encode`` made.

    Raises:
        DamageFound: it is not whole, is of another format, or says what cannot be.
    """
    if not data or len(data) % PAGE_BYTES:
        raise _damage("it is not made of whole pages")
    lines = data.rstrip(b"\n").split(b"\n")
    number = 1
    try:
        header = _object(lines[0])
        if header["format"] != _FORMAT or header["what"] != _WHAT:
            raise ValueError(f"its format is {header['format']!r}, and this backupd knows {_FORMAT}")
        if len(lines) != header["entries"] + 1:
            raise ValueError(f"it has {len(lines) - 1} entries, and says it has {header['entries']}")
        facts = _facts_in(header["cluster"])
        entries = []
        for line in lines[1:]:
            number += 1
            entries.append(_entry_in(_object(line)))
        number = 0
        table = VolumeTable(facts, tuple(entries), _whole(header["pages"]))
        _check(table)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as problem:
        what = f"{problem} is missing" if isinstance(problem, KeyError) else str(problem)
        raise _damage(f"line {number}: {what}" if number else what) from problem
    return table


def _check(table: VolumeTable) -> None:
    """Every path once, in order, below a directory that is named before it; no two files on one page."""
    check_facts(table.header)
    directories = {"."}
    before, page = "", 0
    for entry in table.entries:
        check_path(entry.path)
        if entry.path <= before:
            raise ValueError(f"{entry.path!r} stands after {before!r}")
        before = entry.path
        parent = entry.path.rpartition("/")[0] or "."
        if parent not in directories:
            raise ValueError(f"the directory of {entry.path!r} is not in it")
        if entry.kind == Kind.DIRECTORY:
            directories.add(entry.path)
            continue
        if entry.first_page < page or entry.first_page + entry.page_count > table.page_count:
            raise ValueError(f"{entry.path!r} does not lie where it can")
        page = entry.first_page + entry.page_count


def _entry_out(entry: Entry) -> dict[str, object]:
    out: dict[str, object] = {"path": entry.path, "kind": entry.kind.value, "mode": f"{entry.mode:o}"}
    if entry.kind == Kind.DIRECTORY:
        return out
    out |= {"size": entry.size_bytes, "page": entry.first_page}
    return out | {"block": entry.first_block} if entry.kind == Kind.RELATION else out


def _entry_in(found: dict[str, Any]) -> Entry:
    kind, mode = Kind(found["kind"]), int(_text(found["mode"]), 8)
    if not 0 <= mode <= 0o7777:
        raise ValueError(f"{found['mode']!r} is not a mode")
    if kind == Kind.DIRECTORY:
        return Entry(_text(found["path"]), kind, mode=mode)
    size, page = _whole(found["size"]), _whole(found["page"])
    block = _whole(found["block"]) if kind == Kind.RELATION else 0
    return Entry(_text(found["path"]), kind, size, mode, page, block)


def _facts_out(facts: ClusterFacts) -> dict[str, object]:
    out: dict[str, object] = {name: getattr(facts, name) for name in ClusterFacts.__slots__}
    return out | {
        "start_lsn": lsn_text(facts.start_lsn),
        "stop_lsn": lsn_text(facts.stop_lsn),
        "tablespaces": [{"oid": it.oid, "location": it.location} for it in facts.tablespaces],
    }


def _facts_in(found: dict[str, Any]) -> ClusterFacts:
    if found["page_bytes"] != PAGE_BYTES:
        raise ValueError(f"its pages have {found['page_bytes']!r} bytes")
    if not isinstance(found["data_checksums"], bool):
        raise TypeError("data_checksums is neither true nor false")
    return ClusterFacts(
        server_version_num=_whole(found["server_version_num"]),
        system_identifier=_text(found["system_identifier"]),
        timeline=_whole(found["timeline"]),
        start_lsn=parse_lsn(_text(found["start_lsn"])),
        stop_lsn=parse_lsn(_text(found["stop_lsn"])),
        backup_label=_text(found["backup_label"]),
        tablespace_map=_text(found["tablespace_map"]),
        wal_segment_bytes=_whole(found["wal_segment_bytes"]),
        data_checksums=found["data_checksums"],
        tablespaces=tuple(Tablespace(_whole(it["oid"]), _text(it["location"])) for it in found["tablespaces"]),
        settings={name: _text(value) for name, value in found["settings"].items()},
        history_files={name: _text(value) for name, value in found["history_files"].items()},
        provider=_text(found["provider"]),
        mode=_text(found["mode"]),
    )


def _object(line: bytes) -> dict[str, Any]:
    value = json.loads(line.decode("ascii"))
    if not isinstance(value, dict):
        raise TypeError("it is not a JSON object")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _damage(because: str) -> DamageFound:
    return DamageFound(
        f"the table of the cluster's files is damaged ({TABLE})",
        because=because,
        next_step="restore another backup, and verify this one: backupctl verify --level data",
    )
