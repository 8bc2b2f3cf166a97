"""Begins a freeze, or the backup mode alone where files are read while they change; looks first who else is there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from backupd.engines.postgres.backup_mode import BackupEnd, BackupMode
from backupd.engines.postgres.cluster import PgCopy, PgOptions
from backupd.engines.postgres.connect import Server, connect
from backupd.engines.postgres.facts import read_facts
from backupd.engines.postgres.frozen import PgFreeze, Places
from backupd.engines.postgres.pauses import PauseKind, frozen_now, read_marker, recover_pauses
from backupd.engines.postgres.replay_pause import Replay, look
from backupd.errors import Refused
from backupd.model.position import Position
from backupd.ports import FreezeEnd, Place

_SYNCHRONOUS = {"sync", "quorum", "potential"}


class PgMoving:
    """See ``ports.Freeze``: no pause at all, only the backup mode; the files are read while they change.

    It stays until ``stop``, which the thaw is not.
    """

    def __init__(self, mode: BackupMode, position: Position, places: Sequence[Place]) -> None:
        self.position = position
        self.last_commit_at: datetime | None = None
        self.places = places
        self.end: BackupEnd | None = None
        self.because = ""
        self._mode = mode

    @property
    def start_lsn(self) -> int:
        """From here on the log makes good what a page has missed."""
        return self._mode.start_lsn

    def still_held(self) -> bool:
        """Nothing was held, so nothing can be lost but the connection, and ``stop`` tells that."""
        return True

    def thaw(self) -> FreezeEnd:
        """Nothing stood still."""
        return FreezeEnd(0.0, held=True)

    def stop(self) -> BackupEnd:
        """Leave the backup mode when all files are read. Raises NotHealthy as ``BackupMode.stop`` does."""
        self.end = self._mode.stop()
        self._mode.close()
        return self.end

    def close(self) -> None:
        """Give up; without a stop there is no backup."""
        self._mode.close()


def begin_freeze(
    active: PgCopy,
    passive: PgCopy,
    options: PgOptions,
    *,
    state_dir: Path,
    label: str,
    limit_seconds: float,
    places: Places,
    moving: bool = False,
) -> PgFreeze | PgMoving:
    """Freeze the passive for at most ``limit_seconds``; with ``moving`` only put it into backup mode.

    Args:
        active: asked for one more checkpoint just before the pause; not asked when ``moving``.
        passive: the copy whose files are wanted (when ``moving`` it may be the active itself).
        options: the policy's.
        state_dir: where the marker of the pause lies.
        label: what the backup is called on the server, one line.
        limit_seconds: how long replay may stand.
        places: tells what a snapshot must be taken of; called when the files stand still.
        moving: replay goes on, and the pages are judged by those who read them.

    Raises:
        Refused: replay is paused by somebody else, suspended, or its pause would stop the active's commits.
        Busy: another run has it frozen.
        NotHealthy: it cannot be done; with ``role_change`` when a server is not what it was. Nothing is left paused.
    """
    if moving:
        return _begin_moving(passive, label, places, options.server_seconds_max)
    _refuse_our_own_pause(state_dir, passive)
    with connect(active.conninfo, copy=active.name) as server:
        _refuse_remote_apply(server, passive, options)
        freeze = PgFreeze(passive, state_dir, limit_seconds)
        freeze.begin(server, label, places, options.server_seconds_max)
    return freeze


def _begin_moving(copy: PgCopy, label: str, places: Places, seconds_max: float) -> PgMoving:
    with connect(copy.conninfo, copy=copy.name) as server:
        timeline = server.value("SELECT timeline_id FROM pg_control_checkpoint()")
        now = look(server)
        where = now.replayed
        if now.replay is Replay.ENDED:
            where = int(server.value("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint"))
    mode = BackupMode.begin(copy.conninfo, label, copy=copy.name, seconds_max=seconds_max)
    try:
        return PgMoving(mode, Position(str(timeline), where), places())
    except BaseException:
        mode.close()
        raise


def _refuse_our_own_pause(state_dir: Path, passive: PgCopy) -> None:
    marker = read_marker(state_dir)
    if marker is None:
        return
    if marker.kind is PauseKind.SUSPEND:
        raise Refused(
            f"replay of {marker.copy} is suspended",
            because=marker.comment or f"it was asked for at {marker.since:%Y-%m-%d %H:%M} UTC",
            next_step="backupctl copy resume",
        )
    if marker.process_lives:
        raise frozen_now(marker)
    recover_pauses(state_dir, [passive])


def _refuse_remote_apply(active: Server, passive: PgCopy, options: PgOptions) -> None:
    if options.allow_remote_apply:
        return
    facts = read_facts(active)
    waits = facts.synchronous_commit == "remote_apply" or facts.remote_apply_somewhere
    if waits and any(stream.sync_state in _SYNCHRONOUS for stream in facts.streams):
        raise Refused(
            f"a freeze of {passive.name} would stop commits on the active",
            because="synchronous_commit is remote_apply there, and this standby is synchronous",
            next_step="use synchronous_commit = on, or set allow_remote_apply in the policy",
        )
