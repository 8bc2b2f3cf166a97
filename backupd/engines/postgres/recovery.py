"""Recovers a staged cluster: a private server replays its log to the wished point, is promoted, and is looked at.

The server sees nothing of the cluster's own configuration and nobody sees the
server: it listens on one socket in a directory of mode 0700, archives nothing,
and runs with the settings that a recovery needs and no others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from backupd.engines.postgres import recovery_words as words
from backupd.engines.postgres.postmaster import complaint, read_tail, work_done
from backupd.engines.postgres.private_sockets import PORT, remove_made, socket_directory
from backupd.engines.postgres.server_control import PgControl
from backupd.engines.postgres.timelines import parse_history
from backupd.engines.postgres.wal_names import history_name, lsn_text
from backupd.errors import DamageFound, NotHealthy
from backupd.model.position import Position
from backupd.model.records import Progress
from backupd.ports import ReportProgress
from backupd.steps import step

RECOVERY_SIGNAL = "recovery.signal"
AUTO_CONF = "postgresql.auto.conf"
STALL_SECONDS = 300.0
_POLL_SECONDS = 0.1
_QUICK_POLL_SECONDS = 0.02  # a recovery with little log takes a tenth of a second in all
_QUICK_SECONDS = 3.0
_LOOK_SECONDS = 5.0

# Recovery of prepared transactions and their locks needs room for as many as the old server had.
_NOT_SMALLER = (
    "max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions",
    "max_locks_per_transaction", "track_commit_timestamp", "wal_level",
)  # fmt: skip

_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "archive_mode": "off",
    "hot_standby": "off",
    "restore_command": "false",  # all log that there is lies in pg_wal
    "recovery_target_action": "promote",
    "recovery_init_sync_method": "syncfs",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "autovacuum": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_min_messages": "info",
    "shared_preload_libraries": "",
    "max_logical_replication_workers": "0",  # a subscription would go on with its publisher, in the active's name
    "ssl": "off",
    "synchronous_standby_names": "",
    "update_process_title": "off",
    "jit": "off",
}


@dataclass(frozen=True, slots=True)
class RecoveryWish:
    """How far to recover: to ``until`` or ``at`` or (both None) all log that is there, along ``history``.

    ``log_end`` is where the log ends that was put into pg_wal, by the archive's
    records (0: not known): a recovery that ends a whole segment before it has met
    a gap.
    """

    history: str
    until: Position | None = None
    at: datetime | None = None
    log_end: int = 0
    segment_bytes: int = 16 << 20
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recovered:
    """Where recovery came to: the new timeline and where it began; ``last_commit`` is the server's own words."""

    position: Position
    ended: Position
    last_commit: str
    stopped: str
    socket_directory: Path
    port: int = PORT


class Recovery:
    """One private server over one stage.

    Args:
        stage: the data directory that was built; backup_label is in place.
        control: starts its server.
        room: our directory beside it, for configuration and log.
        wish: how far.
        report: is told how far replay is.
    """

    def __init__(
        self, stage: Path, control: PgControl, room: Path, wish: RecoveryWish, report: ReportProgress | None = None
    ) -> None:
        self._stage, self._control, self._room = stage, control, room
        self._wish, self._report = wish, report
        self._config = room / "recovery"
        self._log = room / "recovery.log"
        self._aside = room / f"{AUTO_CONF}.aside"
        self._sockets = room / "s"

    @contextmanager
    def recovered(self) -> Iterator[Recovered]:
        """Recover and promote; inside, the server runs and can be asked; afterwards it is stopped cleanly.

        Raises:
            NotFound: the point is before the end of the backup.
            DamageFound: log is missing, damaged, or ends before the point.
            NotHealthy: the server did not come up, or stood still for too long.
        """
        self._sockets = socket_directory(self._room / "s", self._control.owner)
        try:
            self._set_aside()
            yield self._recover()
            self._control.stop("fast", seconds_max=STALL_SECONDS)
        finally:
            if self._control.is_running():
                self._control.stop("immediate", seconds_max=30.0)
            self._put_back()
            remove_made(self._sockets)

    def _set_aside(self) -> None:
        """ALTER SYSTEM's file would win over ours."""
        step("pg.recovery.set_aside")
        if (self._stage / AUTO_CONF).exists():
            os.replace(self._stage / AUTO_CONF, self._aside)

    def _put_back(self) -> None:
        if self._aside.exists():
            os.replace(self._aside, self._stage / AUTO_CONF)
        for name in (RECOVERY_SIGNAL, "postmaster.opts"):
            (self._stage / name).unlink(missing_ok=True)

    def _recover(self) -> Recovered:
        target = self._target()
        log = self._run(target)
        if log is None and target:
            # The log is whole and holds nothing after the point: all of it is what was wished.
            log = self._run({})
        if log is None:
            raise DamageFound(
                "recovery ended before the wished point",
                because=words.ENDED_BEFORE_TARGET,
                next_step="backupctl verify --level data, then restore from another full",
            )
        return self._judge(log)

    def _target(self) -> dict[str, str]:
        wish = self._wish
        if wish.at is not None:
            moment = wish.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
            return {"recovery_target_time": moment, "recovery_target_inclusive": "on"}
        if wish.until is not None and not (wish.log_end and wish.until.offset >= wish.log_end):
            # A position stands after its last record, so the record that begins there is one too many.
            return {"recovery_target_lsn": lsn_text(wish.until.offset), "recovery_target_inclusive": "off"}
        return {}

    def _run(self, target: Mapping[str, str]) -> str | None:
        """Start and watch until it is promoted; its log, or None when all log was replayed before the target came."""
        self._configure(target)
        owner = self._control.owner
        (self._stage / RECOVERY_SIGNAL).touch(mode=0o600)
        owner.give(self._stage / RECOVERY_SIGNAL)
        self._log.unlink(missing_ok=True)
        self._log.touch(mode=0o600)
        owner.give(self._log)
        step("pg.recovery.start")
        self._control.start([f"--config_file={self._config / 'postgresql.conf'}"], log_file=self._log, wait=False)
        return self._watch(bool(target))

    def _configure(self, target: Mapping[str, str]) -> None:
        wish, owner = self._wish, self._control.owner
        settings = {**_SETTINGS, "unix_socket_directories": str(self._sockets), "shared_buffers": _buffers()}
        settings |= {name: wish.settings[name] for name in _NOT_SMALLER if name in wish.settings}
        settings |= {"recovery_target_timeline": wish.history, **target}
        settings["hba_file"] = str(self._config / "pg_hba.conf")
        settings["ident_file"] = str(self._config / "pg_ident.conf")
        lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
        try:
            for directory in (self._config, self._sockets):
                directory.mkdir(mode=0o700, exist_ok=True)
                owner.give(directory)
            for name, text in (
                ("postgresql.conf", "".join(lines)),
                ("pg_hba.conf", "local all all trust\n"),
                ("pg_ident.conf", ""),
            ):
                owner.write_file(self._config / name, text.encode())
        except OSError as error:
            raise NotHealthy(
                "the recovery of the restored files could not be prepared",
                because=f"{error.filename}: {error.strerror or error}",
                next_step=f"make room at {self._room} or fix its rights, then run the same restore again",
            ) from None

    def _watch(self, targeted: bool) -> str | None:
        began = changed = looked = time.monotonic()
        seen: tuple[int, int] = (-1, -1)
        while True:
            running = self._control.postmaster()
            log = read_tail(self._log)
            now = time.monotonic()
            if running is not None and running.ready:
                return log
            if running is None and (now - began > 10.0 or "shut down" in log or complaint(log)):
                if targeted and words.ENDED_BEFORE_TARGET in log:
                    return None
                raise words.translate(log, self._stage)
            if running is not None and now - looked >= _LOOK_SECONDS:
                looked = now
                done = (self._log.stat().st_size, work_done(running.pid))
                seen, changed = (done, now) if done != seen else (seen, changed)
                if now - changed > STALL_SECONDS:
                    raise NotHealthy(
                        "the recovery of the restored files stands still",
                        because=f"nothing has moved for {STALL_SECONDS:g} s; "
                        f"replay is at {words.replayed_lsn(log) or 'its beginning'}",
                        next_step="look at the disk, then run the same restore again",
                    )
                if self._report is not None:
                    self._report(Progress(f"replaying log, at {words.replayed_lsn(log) or 'its beginning'}", 0, 0))
            time.sleep(_QUICK_POLL_SECONDS if now - began < _QUICK_SECONDS else _POLL_SECONDS)

    def _judge(self, log: str) -> Recovered:
        timeline = words.new_timeline(log)
        if timeline is None:
            raise DamageFound(
                "the restored cluster came up without a recovery",
                because="its server began no new timeline, so it has not seen its recovery.signal",
                next_step="run the same restore again; if it comes again, report it with the server's version",
            )
        path = self._stage / "pg_wal" / history_name(timeline)
        ended = parse_history(path.read_text(encoding="utf-8"), path.name)[-1]
        wish = self._wish
        if not words.stopped_where(log) and wish.log_end and ended.offset <= wish.log_end - wish.segment_bytes:
            raise DamageFound(
                f"the restored log breaks off at {lsn_text(ended.offset)}",
                because=f"the archive's records say that it goes on to {lsn_text(wish.log_end)}",
                next_step="backupctl verify --level data, then restore from another full",
            )
        return Recovered(
            position=Position(str(timeline), ended.offset),
            ended=ended,
            last_commit=words.last_commit(log),
            stopped=words.stopped_where(log),
            socket_directory=self._sockets,
        )


def _buffers() -> str:
    """Memory for pages: an eighth of what is free now, between 128 MB and 2 GB."""
    free_kilobytes = 0
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free_kilobytes = int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass  # the least is right where nobody says
    return f"{min(max(free_kilobytes >> 13, 128), 2048)}MB"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
