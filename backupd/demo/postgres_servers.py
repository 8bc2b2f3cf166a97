"""A primary and its streaming standby on one host, for the demo and for tests: started in a few seconds."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from backupd.demo.postgres_binaries import Person, choose_binaries, find_binaries, within_reach
from backupd.demo.postgres_server import PgServer, until
from backupd.errors import BackupdError

__all__ = ["PgPair", "PgServer", "find_binaries"]

_SOCKET_DIRECTORY_MAX = 80  # a unix socket's path holds 107 bytes, and its name takes its part


@dataclass(slots=True)
class PgPair:
    """Two servers, ``a`` and ``b``; who is active is asked of their files. A context manager that strikes them."""

    directory: Path
    a: PgServer
    b: PgServer
    _scratch: list[Path] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        directory: Path,
        bin_directory: Path | None = None,
        *,
        checksums: bool = True,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
        primary_home: Path | None = None,
        standby_home: Path | None = None,
        segment_mib: int = 16,
        standby: bool = True,
    ) -> PgPair:
        """Make and start ``a`` as primary and ``b`` as its standby below ``directory``.

        Args:
            directory: where their homes are (``directory/a/data`` and so on), made if missing.
            bin_directory: which PostgreSQL; None: the one that the demo likes best.
            checksums: page checksums.
            fsync: off makes tests faster, and only a power cut tells.
            settings: more lines for ``postgresql.conf`` of both.
            primary_home: where ``a``'s home is instead, on another mount; its data directory is ``data`` in it.
            standby_home: the same for ``b``.
            segment_mib: WAL segment size.
            standby: False: only ``a`` is made; ``b`` can be seeded later.

        Raises:
            NotHealthy: there are no programs, or a server does not start.
        """
        person = Person()
        directory = directory.absolute()
        person.own(directory)
        programs = within_reach(person, bin_directory or choose_binaries(), directory)
        scratch: list[Path] = []
        sockets = directory / "s"
        if len(str(sockets)) > _SOCKET_DIRECTORY_MAX:
            scratch.append(Path(tempfile.mkdtemp(prefix="pgs-", dir="/tmp")))
            sockets = scratch[0]
        person.own(sockets)
        a, b = (
            PgServer(name, (home or directory / name).absolute(), programs, sockets, person)
            for name, home in (("a", primary_home), ("b", standby_home))
        )
        pair = cls(directory, a, b, scratch)
        try:
            all_settings = {**({} if fsync else {"fsync": "off"}), **(settings or {})}
            a.initialize(checksums=checksums, settings=all_settings, initdb=(f"--wal-segsize={segment_mib}",))
            a.start()
            if standby:
                pair.seed(b, a)
        except BaseException:
            pair.strike()
            raise
        return pair

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.strike()

    @property
    def servers(self) -> tuple[PgServer, PgServer]:
        """Both, by name."""
        return (self.a, self.b)

    @property
    def active(self) -> PgServer:
        """The one that is no standby."""
        return self.b if self.a.in_recovery else self.a

    @property
    def passive(self) -> PgServer:
        """The other one."""
        return self.a if self.active is self.b else self.b

    def seed(self, standby: PgServer, primary: PgServer) -> None:
        """Make ``standby`` anew from ``primary`` by pg_basebackup, start it, and wait until it streams."""
        standby.stop("immediate")
        standby.seed_from(primary)
        standby.start()
        self.wait_streaming()

    def add_tablespace(self, name: str) -> None:
        """Make a tablespace on the active, and the passive anew with a place of its own for it."""
        active, passive = self.active, self.passive
        passive.stop("immediate")
        active.add_tablespace(name)
        self.seed(passive, active)

    def wait_streaming(self, seconds_max: float = 60.0) -> None:
        """Until the active streams to the passive. Raises NotHealthy when it does not in time."""
        name, active = self.passive.name, self.active
        asked = f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'"
        until(lambda: active.psql(asked) == "1", f"{name} does not stream from {active.name}", seconds_max)

    def wait_caught_up(self, seconds_max: float = 60.0) -> None:
        """Until the passive has replayed all that the active has flushed now. Raises NotHealthy in vain."""
        goal = self.active.psql("SELECT pg_current_wal_flush_lsn()")
        asked = f"SELECT pg_last_wal_replay_lsn() >= '{goal}'"
        until(lambda: self.passive.psql(asked) == "t", f"{self.passive.name} does not replay up to {goal}", seconds_max)

    def fail_over(self, *, kill: bool = False) -> PgServer:
        """Stop (or kill) the active and promote the passive; answers with the new active. The old one stays down."""
        old, new = self.active, self.passive
        if kill:
            old.kill()
        else:
            old.stop()
        new.promote()
        # What is down now is the standby to be: its files say so, and `seed` makes it true.
        old.follows = new
        old.person.write(old.data / "standby.signal", "")
        return new

    def strike(self) -> None:
        """End both servers, at once; the files stay."""
        for server in self.servers:
            with contextlib.suppress(BackupdError, OSError):
                server.end()
        for directory in self._scratch:
            shutil.rmtree(directory, ignore_errors=True)
