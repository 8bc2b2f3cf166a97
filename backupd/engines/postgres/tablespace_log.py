"""Tablespaces that are made by log and not by the backup: replaying that would write outside of the stage."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from backupd.engines.postgres.server_control import PgControl
from backupd.engines.postgres.volume_table import ClusterFacts
from backupd.engines.postgres.wal_names import parse_segment_name
from backupd.errors import Refused

_CREATE = re.compile(r'CREATE (\d+) "(.*)"$', re.MULTILINE)
_SECONDS_MAX = 24 * 3600.0


def refuse_new_tablespaces(control: PgControl, wal: Path, facts: ClusterFacts) -> None:
    """Refuse log that would make a tablespace where files of a cluster are, or again where it is staged already.

    The server's own replay removes what it finds in such a place.  Where
    ``pg_waldump`` is not installed, nothing can be said and nothing is refused.

    Raises:
        Refused: naming the tablespace and its place.
    """
    if control.program("pg_waldump") is None:
        return
    known = {tablespace.oid for tablespace in facts.tablespaces}
    for oid, location in sorted(set(_created(control, wal, facts.wal_segment_bytes))):
        taken = any(location.glob(f"PG_{control.major}_*")) if location.is_dir() else False
        if oid in known or taken:
            raise Refused(
                f"the log makes tablespace {oid} in {location}, after the backup's pages were read",
                because="it is one of the backup's tablespaces" if oid in known
                else "files of a cluster are there, and replaying that would remove them",
                next_step="restore from a full that was taken after it was made, or to a point before, "
                f"or move {location} away",
            )  # fmt: skip


def _created(control: PgControl, wal: Path, segment_bytes: int) -> list[tuple[int, Path]]:
    named = sorted(
        (*found, path.name) for path in wal.iterdir() if (found := parse_segment_name(path.name, segment_bytes))
    )
    made: list[tuple[int, Path]] = []
    # pg_waldump follows one timeline at a time, and stops where a record is not whole.
    for _, run in groupby(enumerate(named), key=lambda item: (item[1][0], item[1][1] - item[0])):
        names = [name for _, (_, _, name) in run]
        done = control.run(
            "pg_waldump", "--rmgr=Tablespace", str(wal / names[0]), str(wal / names[-1]), seconds_max=_SECONDS_MAX
        )
        made += [(int(oid), Path(location)) for oid, location in _CREATE.findall(done.stdout)]
    return made
