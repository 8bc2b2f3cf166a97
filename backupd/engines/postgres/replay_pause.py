"""What replay on a standby is doing, and the two words that stop it and let it go on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from backupd.engines.postgres.connect import Server
from backupd.errors import NotHealthy
from backupd.steps import step

NOT_IN_THIS_STATE = "55000"  # object_not_in_prerequisite_state: not in recovery, or a promotion is under way

_POLL_SECONDS = 0.005


class Replay(StrEnum):
    """What replay is doing."""

    RUNNING = "running"
    PAUSING = "pausing"  # asked to, and between two records it will
    PAUSED = "paused"
    ENDED = "ended"  # the server is no standby (any more)


_STATES = {"not paused": Replay.RUNNING, "pause requested": Replay.PAUSING, "paused": Replay.PAUSED}


@dataclass(frozen=True, slots=True)
class ReplayNow:
    """Replay as it was seen; LSNs as numbers, 0 where there is none.

    ``received`` is how far the log is safely on the standby's disk.  A pause does
    not outlive the server, so ``server_started_at`` says whose pause it may be.
    """

    replay: Replay
    replayed: int
    received: int
    server_started_at: datetime

    @property
    def stands(self) -> bool:
        """Whether replay is paused, or about to be."""
        return self.replay in {Replay.PAUSED, Replay.PAUSING}


def look(server: Server) -> ReplayNow:
    """What replay is doing now. Raises NotHealthy."""
    row = server.row(
        "SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() END AS state,"
        " coalesce(pg_last_wal_replay_lsn() - '0/0', 0)::bigint AS replayed,"
        " coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(),"
        " (SELECT flushed_lsn FROM pg_stat_wal_receiver)) - '0/0', 0)::bigint AS received,"
        " pg_postmaster_start_time() AS started"
    )
    replay = _STATES.get(str(row["state"]), Replay.ENDED)
    return ReplayNow(replay, int(row["replayed"]), int(row["received"]), row["started"])


def ask_for_pause(server: Server) -> None:
    """Ask for a pause; replay stands a little later. Raises NotHealthy (``role_change``: it is no standby)."""
    step("pg.freeze.pause")
    try:
        server.run("SELECT pg_wal_replay_pause()")
    except NotHealthy as error:
        if error.details.get("sqlstate") == NOT_IN_THIS_STATE:
            raise role_changed(server.words) from error
        raise


def wait_paused(server: Server, deadline: float) -> ReplayNow:
    """Until replay really stands, which was asked for; at the latest until ``deadline`` (monotonic).

    Raises:
        NotHealthy: it does not stand in time, it was resumed, or the server was promoted.
    """
    while (now := look(server)).replay is not Replay.PAUSED:
        if now.replay is Replay.ENDED:
            raise role_changed(server.words)
        if now.replay is Replay.RUNNING or time.monotonic() > deadline:
            raise NotHealthy(
                f"replay of {server.words} does not pause",
                because="it was resumed at once" if now.replay is Replay.RUNNING else "it did not stand in time",
                next_step="look at what replay waits for: pg_stat_activity, backend_type 'startup'",
            )
        time.sleep(_POLL_SECONDS)
    return now


def resume(server: Server) -> None:
    """Let replay go on; where it runs, or where there is none since a promotion, nothing happens. Raises NotHealthy."""
    step("pg.freeze.resume")
    try:
        server.run("SELECT pg_wal_replay_resume()")
    except NotHealthy as error:
        # A server that is no standby, or is just ceasing to be one, holds no pause.
        if error.details.get("sqlstate") != NOT_IN_THIS_STATE:
            raise


def role_changed(words: str, *, was: str = "standby") -> NotHealthy:
    """Why a run ends when the server called ``words`` is no longer what it ``was``; ``details`` say role_change."""
    return NotHealthy(
        "the roles changed during the run",
        because=f"{words} is no longer the {was}",
        next_step="nothing: the next run follows the new roles",
        role_change=True,
    )
