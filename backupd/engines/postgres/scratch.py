"""A restored cluster that is started for a drill, asked, and thrown away: no port, no archiving, it reaches nobody.

The administrator's own questions are asked by a role that is made for it in the
scratch cluster: it may read all data and do nothing else, so that what a policy
asks can neither write nor run a program, whatever it says.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backupd.engines.postgres.cluster import PgOptions
from backupd.engines.postgres.cluster_check import check_cluster, superuser
from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.private_sockets import PORT, connect_private, socket_directory, stop_private
from backupd.engines.postgres.server_control import PgControl
from backupd.engines.scratch_directory import remove_scratch
from backupd.errors import Refused
from backupd.ports import EngineLook
from backupd.steps import step

_STOP_SECONDS_MAX = 60.0
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "archive_mode": "off",
    "shared_preload_libraries": "",
    "max_logical_replication_workers": "0",
    "primary_conninfo": "",
    "autovacuum": "off",
    "ssl": "off",
    "jit": "off",
    "logging_collector": "off",
    "lc_messages": "C",
}


@dataclass(frozen=True, slots=True)
class OpenedCluster:
    """See ``ports.OpenedScratch``; ``reader`` is the role that asks the administrator's questions."""

    control: PgControl
    sockets: Path
    system_identifier: str
    roles: tuple[str, ...]
    reader: str

    def look(self) -> EngineLook:
        """See ``ports.OpenedScratch``: every database opens, and pg_amcheck looks at every table and index."""
        step("pg.drill.look")
        looked = check_cluster(
            self.control,
            self.sockets,
            system_identifier=self.system_identifier,
            integrity="full",
            roles=self.roles,
        )
        asked = ["every database opens"]
        if not looked.notes and not any("does not open" in finding for finding in looked.findings):
            asked.append("pg_amcheck --heapallindexed")
        return EngineLook(tuple(asked), looked.findings, looked.notes)

    def ask(self, sql: str, *, dbname: str | None, seconds_max: float) -> Sequence[Sequence[object]]:
        """See ``ports.OpenedScratch``: a cursor takes nothing but a question, and holds no more rows than are read."""
        step("pg.drill.ask")
        question = sql.strip().rstrip(";").rstrip()
        database = dbname or "postgres"
        with connect_private(self.sockets, self.reader, database, seconds_max=seconds_max) as server:
            server.run("RESET search_path; BEGIN READ ONLY")
            server.run(f"DECLARE backupd_drill NO SCROLL CURSOR FOR\n{question}\n")
            return [tuple(row.values()) for row in server.rows("FETCH 2 FROM backupd_drill")]


@dataclass(frozen=True, slots=True)
class ScratchCluster:
    """A cluster that was restored into a directory of its own."""

    directory: Path
    owner: Owner
    options: PgOptions

    @contextmanager
    def opened(self, system_identifier: str, roles: tuple[str, ...]) -> Iterator[OpenedCluster]:
        """Start it; at the end it is stopped without ceremony, for it is thrown away. Raises NotHealthy."""
        control = self._control(self.directory)
        sockets = socket_directory(self.directory, self.owner)
        settings = {**_SETTINGS, "unix_socket_directories": str(sockets)}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        try:
            step("pg.drill.start")
            control.start(words, seconds_max=self.options.server_seconds_max)
            reader = self._reader(sockets, roles)
            yield OpenedCluster(control, sockets, system_identifier, roles, reader)
        finally:
            stop_private(control, "immediate", seconds_max=_STOP_SECONDS_MAX)

    def _reader(self, sockets: Path, roles: tuple[str, ...]) -> str:
        """A role that may read everything and that was in no backup."""
        name = f"backupd_drill_{secrets.token_hex(4)}"
        with connect_private(sockets, superuser(sockets, roles)) as server:
            server.run(f"CREATE ROLE {name} LOGIN")
            server.run(f"GRANT pg_read_all_data TO {name}")
            server.run(f"ALTER ROLE {name} SET default_transaction_read_only = on")
        return name

    def discard(self, stage: Path) -> None:
        """Stop what runs in the directory or in ``stage``, where recovery works, and remove all. Raises NotHealthy."""
        for place in (stage, self.directory):
            stop_private(self._control(place), "immediate", seconds_max=_STOP_SECONDS_MAX)
        step("pg.drill.discard")
        remove_scratch(self.directory)

    def _control(self, place: Path) -> PgControl:
        return PgControl(place, bin_directory=self.options.bin_directory, owner=self.owner)


def refuse_out_of_reach(directory: Path, owner: Owner) -> None:
    """A server runs as its owner, and must be let into every directory above its own.

    Raises:
        Refused: it is not, and we are root, who is let in everywhere.
    """
    if os.geteuid() == owner.uid:
        return
    groups = {owner.gid, *owner.groups()}
    for place in directory.parents:
        try:
            found = place.stat()
        except OSError:
            continue  # it is made later, for the owner
        if found.st_uid == owner.uid:
            may = found.st_mode & stat.S_IXUSR
        else:
            may = found.st_mode & (stat.S_IXGRP if found.st_gid in groups else stat.S_IXOTH)
        if not may:
            raise Refused(
                f"cannot restore to {directory}",
                because=f"its server will run as {owner.name}, who may not enter {place}",
                next_step=f"name a directory that {owner.name} can reach (a drill: drill.directory in the policy)",
            )
