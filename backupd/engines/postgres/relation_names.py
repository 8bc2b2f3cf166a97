"""Names of tables for the numbers that the log knows them by, as a server that answers has them today."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.connect import connect
from backupd.errors import BackupdError

_TABLES = """
SELECT t.oid::bigint AS oid, t.relfilenode::bigint AS file, coalesce(p.oid, t.oid)::regclass::text AS name,
       p.oid IS NOT NULL AS toast
FROM pg_class t LEFT JOIN pg_class p ON p.reltoastrelid = t.oid
WHERE t.relkind IN ('r', 't', 'm') AND t.oid >= 16384
"""
_CONNECT_SECONDS = 5.0


@dataclass(slots=True)
class RelationNames:
    """By database: each table's name by its file's number and by its oid; ``toast`` are files that only hold parts."""

    by_file: dict[tuple[int, int], str] = field(default_factory=dict)
    by_oid: dict[tuple[int, int], str] = field(default_factory=dict)
    toast: set[tuple[int, int]] = field(default_factory=set)
    asked: bool = False

    def update(self, other: RelationNames) -> None:
        """Take over what another asking has found."""
        self.by_file.update(other.by_file)
        self.by_oid.update(other.by_oid)
        self.toast |= other.toast
        self.asked |= other.asked


def ask_names(copies: Iterable[PgCopy], databases: Collection[int]) -> RelationNames:
    """Ask the first server that answers; where none does, or it does not let us in, the names stay unknown."""
    names = RelationNames()
    for copy in copies:
        try:
            with connect(copy.conninfo, copy=copy.name, seconds_max=_CONNECT_SECONDS) as server:
                known = server.rows("SELECT oid::bigint AS oid, datname FROM pg_database WHERE datallowconn")
        except BackupdError:
            continue
        names.asked = True
        for row in known:
            if row["oid"] in databases:
                _ask_database(copy, int(row["oid"]), str(row["datname"]), names)
        break
    return names


def _ask_database(copy: PgCopy, oid: int, database: str, names: RelationNames) -> None:
    try:
        with connect(copy.conninfo, dbname=database, copy=copy.name, seconds_max=_CONNECT_SECONDS) as server:
            rows = server.rows(_TABLES)
    except BackupdError:
        return
    for row in rows:
        name = f"{database}.{row['name']}"
        names.by_file[oid, int(row["file"])] = name
        if row["toast"]:
            names.toast.add((oid, int(row["file"])))
        else:
            names.by_oid[oid, int(row["oid"])] = name
