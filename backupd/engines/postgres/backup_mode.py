"""The server's own backup mode: begun and ended on one connection, and the label that it answers with."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Self

from backupd.engines.postgres.connect import Server, connect
from backupd.engines.postgres.replay_pause import role_changed
from backupd.engines.postgres.wal_names import lsn_text, parse_lsn
from backupd.errors import BackupdError, NotHealthy
from backupd.steps import step

_NEW_NAMES = 150000  # pg_backup_start and pg_backup_stop; before, the words stood the other way round
_LINES = {
    "start": re.compile(r"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) \(file ([0-9A-F]{24})\)$", re.MULTILINE),
    "checkpoint": re.compile(r"^CHECKPOINT LOCATION: ([0-9A-F]+/[0-9A-F]+)$", re.MULTILINE),
    "from": re.compile(r"^BACKUP FROM: (primary|standby)$", re.MULTILINE),
    "timeline": re.compile(r"^START TIMELINE: (\d+)$", re.MULTILINE),
}


@dataclass(frozen=True, slots=True)
class Label:
    """What a backup_label says."""

    start_lsn: int
    checkpoint_lsn: int
    start_timeline: int
    from_standby: bool


@dataclass(frozen=True, slots=True)
class BackupEnd:
    """A backup that the server calls good: the log it needs, and two texts that a restore puts back byte for byte.

    Recovery begins at ``start_lsn`` and must come to ``stop_lsn``.  ``tablespace_map`` is empty where there are none.
    """

    start_lsn: int
    checkpoint_lsn: int
    stop_lsn: int
    start_timeline: int
    from_standby: bool
    backup_label: str
    tablespace_map: str


class BackupMode:
    """A server in backup mode for as long as this connection stands; a backup that was not stopped is none."""

    def __init__(self, server: Server, conninfo: str, copy: str) -> None:
        self._server = server
        self._conninfo = conninfo
        self._copy = copy
        self._standby = False
        self._end: BackupEnd | None = None
        self.start_lsn = 0  # known when it was started

    @classmethod
    def open(cls, conninfo: str, *, copy: str = "") -> Self:
        """Only connect, so that ``start`` is quick. Raises NotHealthy, ConfigInvalid."""
        return cls(connect(conninfo, copy=copy), conninfo, copy)

    @classmethod
    def begin(cls, conninfo: str, label: str, *, copy: str = "", seconds_max: float = 60.0) -> Self:
        """Connect and start. Raises NotHealthy, ConfigInvalid."""
        mode = cls.open(conninfo, copy=copy)
        try:
            mode.start(label, seconds_max=seconds_max)
        except BaseException:
            mode.close()
            raise
        return mode

    @property
    def backend_pid(self) -> int:
        """The server's process that holds the backup mode."""
        return self._server.backend_pid

    def start(self, label: str, *, seconds_max: float) -> None:
        """Enter backup mode by a quick checkpoint (on a standby: a restartpoint, where there is a new place for one).

        Raises:
            NotHealthy: the server refuses (full_page_writes was off lately), or is not done within ``seconds_max``.
        """
        self._standby = bool(self._server.value("SELECT pg_is_in_recovery()"))
        new = self._server.version_number >= _NEW_NAMES
        step("pg.backup_mode.start")
        call = "pg_backup_start(%s, true)" if new else "pg_start_backup(%s, true, false)"
        with self._server.patient(seconds_max):
            self.start_lsn = int(self._server.value(f"SELECT ({call} - '0/0')::bigint", label))

    def stop(self) -> BackupEnd:
        """Leave backup mode; a second call answers the same.

        Raises:
            NotHealthy: the copy is not to be used: the connection was lost, the log of the
                time in between was written with full_page_writes=off, or the server was
                promoted (``details["role_change"]``).
        """
        if self._end is None:
            new = self._server.version_number >= _NEW_NAMES
            step("pg.backup_mode.stop")
            try:
                row = self._server.row(
                    "SELECT (lsn - '0/0')::bigint AS lsn, labelfile AS label, coalesce(spcmapfile, '') AS map FROM "
                    + ("pg_backup_stop(false)" if new else "pg_stop_backup(false, false)")
                )
            except NotHealthy as error:
                if self._promoted():
                    raise role_changed(self._server.words) from error
                raise
            self._end = self._checked(int(row["lsn"]), str(row["label"]), str(row["map"]))
        return self._end

    def close(self) -> None:
        """Hang up; a backup that was not stopped is none."""
        self._server.close()

    def _checked(self, stop_lsn: int, text: str, tablespace_map: str) -> BackupEnd:
        label = read_label(text, self._server.words)
        if label.from_standby != self._standby:
            raise role_changed(self._server.words, was="standby" if self._standby else "active")
        if not label.start_lsn <= label.checkpoint_lsn <= stop_lsn:
            raise _odd(
                self._server.words,
                f"start {lsn_text(label.start_lsn)}, checkpoint {lsn_text(label.checkpoint_lsn)} and "
                f"stop {lsn_text(stop_lsn)} are not in order",
            )
        return BackupEnd(
            label.start_lsn,
            label.checkpoint_lsn,
            stop_lsn,
            label.start_timeline,
            label.from_standby,
            text,
            tablespace_map,
        )

    def _promoted(self) -> bool:
        if not self._standby:
            return False
        with contextlib.suppress(BackupdError):
            if self._server.alive:
                return not self._server.value("SELECT pg_is_in_recovery()")
            with connect(self._conninfo, copy=self._copy) as again:
                return not again.value("SELECT pg_is_in_recovery()")
        return False


def read_label(text: str, words: str = "the server") -> Label:
    """Read a backup_label. Raises NotHealthy when a line is missing or says what it may not."""
    found = {name: pattern.search(text) for name, pattern in _LINES.items()}
    start, checkpoint, came_from, timeline = (found[name] for name in ("start", "checkpoint", "from", "timeline"))
    if start is None or checkpoint is None or came_from is None or timeline is None:
        missing = ", ".join(name for name, match in found.items() if match is None)
        raise _odd(words, f"its label has no line for: {missing}")
    if int(start[2][:8], 16) != int(timeline[1]):
        raise _odd(words, f"its label says timeline {timeline[1]}, and the file {start[2]}")
    return Label(parse_lsn(start[1]), parse_lsn(checkpoint[1]), int(timeline[1]), came_from[1] == "standby")


def _odd(words: str, because: str) -> NotHealthy:
    return NotHealthy(
        f"the backup label of {words} cannot be used",
        because=because,
        next_step="run the backup again; if it stays so, tell us the server's version",
    )
