"""Before a backup: close the active's log, and bring the passive past it, with its pages on its disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from backupd.engines.postgres.connect import Server
from backupd.engines.postgres.replay_pause import NOT_IN_THIS_STATE, Replay, ReplayNow, look, role_changed
from backupd.engines.postgres.wal_names import lsn_text, segment_end
from backupd.errors import NotHealthy
from backupd.model.position import Position
from backupd.model.records import Progress
from backupd.ports import Prepared, ReportProgress
from backupd.steps import step

COMMIT_SETTLES_SECONDS = 0.05  # from a commit's taking of its time to its record being in the log
_LONG_PAGE_HEADER_BYTES = 40  # xlog_internal.h: SizeOfXLogLongPHD, at the head of every segment
_POLL_SECONDS = 0.05
_REPORT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ClosedAt:
    """Where the active's log was closed: the end of a whole segment; every commit until ``at`` is before it."""

    lsn_end: int
    timeline: int
    at: datetime

    @property
    def position(self) -> Position:
        """The same as a position."""
        return Position(str(self.timeline), self.lsn_end)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint: where its record lies, and from where on recovery needs the log."""

    lsn: int
    redo: int


def close_log(active: Server, name: str) -> ClosedAt:
    """Close the segment that the active writes, also when nothing happens there; ``name`` is the restore point's.

    Raises:
        NotHealthy: the server does not do it; with ``role_change`` when it is a standby by now.
    """
    at = active.value("SELECT clock_timestamp()")
    # A commit takes its time before its record is in the log; one that was earlier than ``at`` gets in now.
    time.sleep(COMMIT_SETTLES_SECONDS)
    step("pg.prepare.close_log")
    try:
        # Where nothing was written since the last switch there is nothing to switch: the restore point is something.
        active.run("SELECT pg_create_restore_point(%s)", name)
        row = active.row(
            "SELECT (pg_switch_wal() - '0/0')::bigint AS lsn,"
            " ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int AS timeline,"
            " (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size') AS segment_bytes"
        )
    except NotHealthy as error:
        if error.details.get("sqlstate") == NOT_IN_THIS_STATE:
            raise role_changed(active.words, was="active") from error
        raise
    return ClosedAt(closed_end(int(row["lsn"]), int(row["segment_bytes"])), int(row["timeline"]), at)


def closed_end(switched: int, segment_bytes: int) -> int:
    """The end of the segment that a pg_switch_wal closed which answered ``switched``.

    It answers with the end of its own record.  Where that record ends with its
    segment the answer has skipped the next segment's header already, and where
    there was nothing to switch the answer is the boundary itself.
    """
    into_segment = switched % segment_bytes
    if into_segment <= _LONG_PAGE_HEADER_BYTES:
        return switched - into_segment
    return segment_end(switched, segment_bytes)


def prepare(
    active: Server, passive: Server, *, name: str, checkpoint: bool, seconds_max: float, report: ReportProgress
) -> Prepared:
    """Close the active's log and wait until the passive has replayed it, and has its pages on disk.

    With ``checkpoint`` both take one: the active's gives the passive a place to
    restart from, the passive's brings its pages out while replay runs on, so that
    little is left to do in the freeze.

    Raises:
        NotHealthy: the passive does not get there within ``seconds_max``, its replay
            stands still by somebody else's will, or a role changed.
    """
    deadline = time.monotonic() + seconds_max
    taken = take_checkpoint(active, deadline) if checkpoint else None
    closed = close_log(active, name)
    wait_replayed(passive, closed.lsn_end, deadline, report)
    if taken is not None:
        _take_restartpoint(passive, taken, deadline)
    return Prepared(closed.position, closed.at)


def take_checkpoint(server: Server, deadline: float) -> Checkpoint:
    """A CHECKPOINT of the active, and where it lies. Raises NotHealthy."""
    step("pg.prepare.checkpoint")
    with server.patient(max(1.0, deadline - time.monotonic())):
        server.run("CHECKPOINT")
    return last_checkpoint(server)


def last_checkpoint(server: Server) -> Checkpoint:
    """The checkpoint that this server's control file names: the active's last, the passive's last restartpoint."""
    row = server.row(
        "SELECT (checkpoint_lsn - '0/0')::bigint AS lsn, (redo_lsn - '0/0')::bigint AS redo"
        " FROM pg_control_checkpoint()"
    )
    return Checkpoint(int(row["lsn"]), int(row["redo"]))


def wait_replayed(passive: Server, lsn: int, deadline: float, report: ReportProgress) -> ReplayNow:
    """Until the passive has replayed all log before ``lsn``, at the latest until ``deadline`` (monotonic).

    Raises:
        NotHealthy: not in time (says where it stands), replay is paused, or the passive was promoted.
    """
    began: int | None = None
    told_at = 0.0
    while True:
        now = look(passive)
        if now.replay is Replay.ENDED:
            raise role_changed(passive.words)
        if now.replayed >= lsn:
            return now
        if now.stands:
            raise NotHealthy(
                f"{passive.words} does not replay",
                because=f"somebody paused its replay at {lsn_text(now.replayed)}",
                next_step="let it go on there: SELECT pg_wal_replay_resume()",
            )
        began = now.replayed if began is None else began
        if time.monotonic() - told_at >= _REPORT_SECONDS:
            told_at = time.monotonic()
            report(Progress("replaying the log on the passive", now.replayed - began, lsn - began))
        if time.monotonic() > deadline:
            _give_up(passive, "replayed", now.replayed, lsn)
        time.sleep(_POLL_SECONDS)


def wait_received(passive: Server, lsn: int, seconds_max: float) -> None:
    """Until all log before ``lsn`` is on the passive's disk, replayed or not.

    Raises:
        NotHealthy: not within ``seconds_max``, or the passive was promoted.
    """
    deadline = time.monotonic() + seconds_max
    while (now := look(passive)).received < lsn:
        if now.replay is Replay.ENDED:
            raise role_changed(passive.words)
        if time.monotonic() > deadline:
            _give_up(passive, "received", now.received, lsn)
        time.sleep(_POLL_SECONDS)
    if now.replay is Replay.ENDED:
        raise role_changed(passive.words)


def _take_restartpoint(passive: Server, wanted: Checkpoint, deadline: float) -> None:
    step("pg.prepare.restartpoint")
    while True:
        with passive.patient(max(1.0, deadline - time.monotonic())):
            passive.run("CHECKPOINT")
        if (stands := last_checkpoint(passive)).redo >= wanted.redo:
            return
        if look(passive).replay is Replay.ENDED:
            raise role_changed(passive.words)
        if time.monotonic() > deadline:
            raise NotHealthy(
                f"{passive.words} takes no restartpoint",
                because=f"it would still restart from {lsn_text(stands.redo)}, and not from {lsn_text(wanted.redo)}",
                next_step="look at the server's log, for what it says of restartpoints",
            )
        time.sleep(_POLL_SECONDS)


def _give_up(passive: Server, did: str, stands: int, lsn: int) -> NoReturn:
    raise NotHealthy(
        f"{passive.words} has not {did} the log in time",
        because=f"it stands at {lsn_text(stands)}, {lsn - stands} bytes before {lsn_text(lsn)}",
        next_step="look at its replication (backupctl status), or raise prepare.timeout_seconds in the policy",
    )
