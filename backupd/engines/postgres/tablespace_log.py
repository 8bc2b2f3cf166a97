"""Tablespaces that are made by log and not by the backup: replaying that would write outside of the stage."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from backupd.engines.postgres.server_control import PgControl
from backupd.engines.postgres.volume_table import ClusterFacts
from backupd.engines.postgres.wal_names import parse_segment_name
from backupd.errors import NotHealthy, Refused

_CREATE = re.compile(r'CREATE (\d+) "(.*?)"$', re.MULTILINE | re.DOTALL)  # a place's name may have a new line in it
_BIN_DIRECTORY = "its bin_directory in the policy"
_SECONDS_MAX = 24 * 3600.0


def refuse_new_tablespaces(control: PgControl, wal: Path, facts: ClusterFacts, *, elsewhere: bool) -> None:
    """Refuse log that would make a tablespace where a restore may not write.

    That is where files of a cluster are, or again where it is staged already: the server's own replay removes
    what it finds there.  Where ``pg_waldump`` is not installed, nothing can be said of it.

    Args:
        control: has the programs.
        wal: the staged ``pg_wal``.
        facts: of the backup.
        elsewhere: whether the restore may write outside of its target at all.

    Raises:
        Refused: naming the tablespace and its place.
        NotHealthy: nothing may be written elsewhere, and nobody can look what the log would do.
    """
    if control.program("pg_waldump") is None:
        if elsewhere:
            return
        raise NotHealthy(
            "the log cannot be looked through before it is replayed",
            because=f"pg_waldump of PostgreSQL {facts.major} is not installed, "
            "and log may make a tablespace outside of the directory",
            next_step=f"install it (it comes with the server's package), or name {_BIN_DIRECTORY}",
        )
    known = {tablespace.oid for tablespace in facts.tablespaces}
    for oid, location in sorted(set(_created(control, wal, facts.wal_segment_bytes))):
        if not elsewhere:
            raise Refused(
                f"the log makes tablespace {oid} in {location}, outside of the directory",
                because="a restore to a directory writes nothing anywhere else",
                next_step="restore to a point before it was made, or from a full that was taken after it",
            )
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
