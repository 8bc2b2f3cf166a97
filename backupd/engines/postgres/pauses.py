"""The durable note that replay stands still by our will: who paused it, and what a later start makes of it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from backupd.durable import cannot_write, sync_directory, write_json
from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.connect import Server, connect
from backupd.engines.postgres.replay_pause import Replay, ReplayNow, ask_for_pause, look, resume
from backupd.errors import BackupdError, Busy, NotHealthy, Refused
from backupd.process import boot_id, started_ticks, this_process
from backupd.steps import step

_NAME = "replay-paused.json"

HELD: set[str] = set()  # tokens of the freezes that this very process holds now


class PauseKind(StrEnum):
    """Why replay stands."""

    FREEZE = "freeze"  # for a snapshot, by a process that must live
    SUSPEND = "suspend"  # by a person's word, until that is taken back


@dataclass(frozen=True, slots=True)
class PauseMarker:
    """One pause of ours; it lies on disk before the server is asked for it, and until replay runs again.

    ``server_started_at`` is the server's, for a pause does not outlive it.  The
    process that froze is named by ``pid``, its start (clock ticks) and the boot.
    """

    copy: str
    system_identifier: str
    server_started_at: datetime
    kind: PauseKind
    since: datetime
    limit_seconds: float
    comment: str
    pid: int
    started_ticks: int
    boot_id: str
    token: str

    @property
    def process_lives(self) -> bool:
        """Whether the process that paused still runs on this machine; of our own process: whether it holds it still."""
        if self.pid == os.getpid():
            return self.token in HELD
        return self.boot_id == boot_id() and started_ticks(self.pid) == self.started_ticks


def new_marker(
    server: Server, copy: str, now: ReplayNow, kind: PauseKind, *, limit_seconds: float = 0.0, comment: str = ""
) -> PauseMarker:
    """A marker of a pause that this process is about to ask ``server`` for. Raises NotHealthy."""
    us = this_process()
    return PauseMarker(
        copy=copy,
        system_identifier=_system_identifier(server),
        server_started_at=now.server_started_at,
        kind=kind,
        since=datetime.now(UTC),
        limit_seconds=limit_seconds,
        comment=comment,
        pid=us.pid,
        started_ticks=us.started_ticks,
        boot_id=us.boot_id,
        token=secrets.token_hex(8),
    )


def marker_path(state_dir: Path) -> Path:
    """Where the marker of this database lies."""
    return state_dir / _NAME


def read_marker(state_dir: Path) -> PauseMarker | None:
    """The marker; None when replay does not stand by our will. Raises NotHealthy when it cannot be read."""
    path = marker_path(state_dir)
    try:
        stored = json.loads(path.read_bytes())
        times = {name: datetime.fromisoformat(stored.pop(name)) for name in ("since", "server_started_at")}
        return PauseMarker(**{**stored, **times, "kind": PauseKind(stored["kind"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotHealthy(
            f"cannot read {path}, which says whether backupd has paused replay",
            because=str(error) or type(error).__name__,
            next_step="look whether replay is paused; let it go on by hand, and remove the file",
        ) from None


def write_marker(state_dir: Path, marker: PauseMarker) -> None:
    """Make the marker durable, for its owner only. Raises NotHealthy: the disk refuses."""
    stored = asdict(marker)
    stored |= {name: stored[name].isoformat() for name in ("since", "server_started_at")}
    path = marker_path(state_dir)
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
    write_json(path, stored, step_name="pg.pauses.write_marker")


def remove_marker(state_dir: Path, token: str) -> None:
    """Remove that very marker; another one, or none, is left as it is. Raises NotHealthy."""
    path = marker_path(state_dir)
    marker = read_marker(state_dir)
    if marker is None or marker.token != token:
        return
    step("pg.pauses.remove_marker")
    try:
        path.unlink(missing_ok=True)
        sync_directory(state_dir)
    except OSError as error:
        raise cannot_write(path, error) from None


def suspended(state_dir: Path) -> PauseMarker | None:
    """The marker of a suspension that a person asked for, if there is one. Raises NotHealthy."""
    marker = read_marker(state_dir)
    return marker if marker is not None and marker.kind is PauseKind.SUSPEND else None


def let_go(server: Server, state_dir: Path, marker: PauseMarker) -> bool:
    """End the pause of ``marker`` if it is there still, and remove the marker; answers whether replay stood.

    The server must be the one that was paused, and run since then: what stands
    there otherwise is somebody else's.  Raises NotHealthy.
    """
    now = look(server)
    ours = now.server_started_at == marker.server_started_at and _system_identifier(server) == marker.system_identifier
    stood = ours and now.stands
    if stood:
        resume(server)
    remove_marker(state_dir, marker.token)
    return stood


def recover_pauses(state_dir: Path, copies: Sequence[PgCopy]) -> list[str]:
    """End what a dead freeze has left paused, and keep what a person has suspended; says in sentences what was done.

    Never touches a pause that has no marker of ours, nor one whose process lives.
    A server that does not answer is asked at the next start.  Raises NotHealthy:
    the marker cannot be read or removed.
    """
    marker = read_marker(state_dir)
    if marker is None or (marker.kind is PauseKind.FREEZE and marker.process_lives):
        return []
    copy = next((each for each in copies if each.name == marker.copy), None)
    if copy is None:
        return [f"replay of {marker.copy} was paused by backupd, and the policy has no such copy any more"]
    try:
        server = connect(copy.conninfo, copy=copy.name)
    except BackupdError as error:
        return [f"whether replay of {copy.name} is still paused by a dead run is not known: {error.because}"]
    with server:
        if marker.kind is PauseKind.SUSPEND:
            return _suspend_again(server, state_dir, marker)
        if let_go(server, state_dir, marker):
            return [f"let replay of {copy.name} go on, which a run that died had left paused"]
        return [f"a run that died had paused replay of {copy.name}; it is not paused any more"]


def suspend(copy: PgCopy, state_dir: Path, comment: str) -> None:
    """Pause replay of ``copy`` until ``resume_suspended``; may be repeated.

    Raises:
        Refused: it is no standby, or somebody else has paused it.
        Busy: a backup has it frozen right now.
        NotHealthy: the server does not do it.
    """
    marker = read_marker(state_dir)
    if marker is not None and marker.kind is PauseKind.FREEZE:
        raise frozen_now(marker)
    with connect(copy.conninfo, copy=copy.name) as server:
        now = look(server)
        if now.replay is Replay.ENDED:
            raise Refused(
                f"{copy.name} cannot be suspended",
                because="it is the active, which replays nothing",
                next_step="name the passive (backupctl status)",
            )
        if marker is None and now.stands:
            raise not_ours(server.words)
        write_marker(state_dir, new_marker(server, copy.name, now, PauseKind.SUSPEND, comment=comment))
        ask_for_pause(server)


def resume_suspended(copy: PgCopy, state_dir: Path) -> bool:
    """End a suspension; answers whether there was one.

    Raises:
        Refused: replay is paused, and not by us.
        NotHealthy: the server does not do it.
    """
    marker = suspended(state_dir)
    with connect(copy.conninfo, copy=copy.name) as server:
        if marker is not None and marker.copy == copy.name:
            let_go(server, state_dir, marker)
            return True
        if read_marker(state_dir) is None and look(server).stands:
            raise not_ours(server.words)
        return False


def not_ours(words: str) -> Refused:
    """Replay stands, and nothing says that we paused it."""
    return Refused(
        f"replay of {words} is paused",
        because="somebody else paused it, and backupd ends no pause but its own",
        next_step="let it go on there: SELECT pg_wal_replay_resume()",
    )


def frozen_now(marker: PauseMarker) -> Busy:
    """A freeze of another run is under way."""
    return Busy(
        f"replay of {marker.copy} is frozen right now",
        because=f"process {marker.pid} froze it at {marker.since:%H:%M:%S} UTC for {marker.limit_seconds:g} s at most",
        next_step="try again when that backup is done; after a crash: backupctl recover",
    )


def _suspend_again(server: Server, state_dir: Path, marker: PauseMarker) -> list[str]:
    now = look(server)
    if now.replay is Replay.ENDED or _system_identifier(server) != marker.system_identifier:
        remove_marker(state_dir, marker.token)
        return [f"{marker.copy} was suspended and is the active by now: it is suspended no more"]
    if now.stands:
        return []
    kept = new_marker(server, marker.copy, now, PauseKind.SUSPEND, comment=marker.comment)
    write_marker(state_dir, kept)
    ask_for_pause(server)
    return [f"paused replay of {marker.copy} again: it is suspended, and its server had started anew"]


def _system_identifier(server: Server) -> str:
    return str(server.value("SELECT system_identifier FROM pg_control_system()"))
