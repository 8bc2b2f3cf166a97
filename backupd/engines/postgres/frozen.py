"""Replay that stands still, with a backup mode around it, and a way out that opens by itself."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from backupd.engines.postgres.backup_mode import BackupEnd, BackupMode
from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.connect import Server, connect
from backupd.engines.postgres.guard import Guard
from backupd.engines.postgres.pauses import HELD, PauseKind, PauseMarker, let_go, new_marker, not_ours, write_marker
from backupd.engines.postgres.prepare import Checkpoint, last_checkpoint, take_checkpoint, wait_replayed
from backupd.engines.postgres.replay_pause import Replay, ReplayNow, look, role_changed, wait_paused
from backupd.errors import BackupdError, NotHealthy
from backupd.model.position import Position
from backupd.ports import FreezeEnd, Place
from backupd.steps import step

Places = Callable[[], Sequence[Place]]

_TRIES = 3
_IDLE_SECONDS = 0.2  # how long a checkpointer that was just at work may take to sit down again
_LAST_WORD_SECONDS = 0.2  # what a killed guardian had sent is done by the server after so long


class PgFreeze:
    """See ``ports.Freeze``.  Replay stands, no page waits in memory to be written, and the server is in backup mode.

    ``end`` is set by the thaw of a freeze that held: the log that the files need,
    and the label.  ``because`` says why a freeze did not hold.
    """

    def __init__(self, passive: PgCopy, state_dir: Path, limit_seconds: float) -> None:
        self.position = Position("0", 0)
        self.last_commit_at: datetime | None = None
        self.places: Sequence[Place] = ()
        self.end: BackupEnd | None = None
        self.because = ""
        self._passive, self._state_dir, self._limit_seconds = passive, state_dir, limit_seconds
        self._lock = threading.RLock()
        self._answer: FreezeEnd | None = None
        self._marker: PauseMarker | None = None  # while replay stands by our will
        self._asked_at = self._resumed_at = 0.0
        self._ways_out = contextlib.ExitStack()
        try:
            self._guard = Guard(passive, state_dir, on_ended=self._was_ended, on_lost=self._guard_is_lost)
            self._ways_out.callback(self._guard.close)
            self._control = self._ways_out.enter_context(connect(passive.conninfo, copy=passive.name))
            self._mode = BackupMode.open(passive.conninfo, copy=passive.name)
            self._ways_out.callback(self._mode.close)
        except BaseException:
            self._ways_out.close()
            raise

    # --- the way in ---------------------------------------------------------

    def begin(self, active: Server, label: str, places: Places, seconds_max: float) -> None:
        """Freeze; when this raises, nothing is left paused.

        ``seconds_max`` bounds each try to bring the passive to a moment that is fit for the pause.

        Raises:
            Refused: somebody else has paused replay.
            NotHealthy: it cannot be done; ``role_change`` when the passive was promoted meanwhile.
        """
        try:
            now = look(self._control)
            if now.replay is Replay.ENDED:
                raise role_changed(self._control.words)
            if now.stands:
                raise not_ours(self._control.words)
            self._guard.wait_ready()
            reached = self._stand_still(active, seconds_max)
            left = self._asked_at + self._limit_seconds - time.monotonic()
            self._mode.start(label, seconds_max=max(0.5, left))
            self.places = places()  # only now: until the pause replay may have made files
            self._look_around(reached)
        except BaseException:
            with contextlib.suppress(BackupdError):
                self._let_replay_go()
            self._ways_out.close()
            raise

    def _stand_still(self, active: Server, seconds_max: float) -> Checkpoint:
        """Pause at a moment in which the next restartpoint writes out all that replay has changed.

        A standby takes a restartpoint only at a checkpoint that it has replayed and
        not used yet.  Without one, changed pages would stay in memory, and be written
        at any time during the freeze.
        """
        for _ in range(_TRIES):
            deadline = time.monotonic() + seconds_max
            step("pg.freeze.restartpoint")
            with self._control.patient(seconds_max):
                self._control.run("CHECKPOINT")  # takes the mass away, and ends one that is under way
            checkpoint = take_checkpoint(active, deadline)
            now = wait_replayed(self._control, checkpoint.lsn + 1, deadline, lambda _: None)
            self._pause(now)
            if self._checkpointer_is_idle() and last_checkpoint(self._control).redo < checkpoint.redo:
                return checkpoint
            self._let_replay_go()
        raise NotHealthy(
            f"{self._control.words} cannot be frozen with all its pages on disk",
            because=f"it took a restartpoint of its own just before the pause, {_TRIES} times in turn",
            next_step="raise max_wal_size or checkpoint_timeout on the passive, and run the backup again",
        )

    def _pause(self, now: ReplayNow) -> None:
        name, limit = self._passive.name, self._limit_seconds
        marker = new_marker(self._control, name, now, PauseKind.FREEZE, limit_seconds=limit)
        HELD.add(marker.token)
        self._marker = marker
        write_marker(self._state_dir, marker)
        self._asked_at = time.monotonic()
        self._guard.pause(marker.token, limit, self._mode.backend_pid)
        wait_paused(self._control, self._asked_at + limit)

    def _checkpointer_is_idle(self) -> bool:
        until = time.monotonic() + _IDLE_SECONDS
        while True:
            rows = self._control.rows("SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
            if not rows:
                raise NotHealthy(
                    f"what the checkpointer of {self._control.words} does is not to be seen",
                    because="our role may not see the server's own processes in pg_stat_activity",
                    next_step="GRANT pg_monitor to the role of the conninfo",
                )
            if rows[0]["wait_event"] == "CheckpointerMain":
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.005)

    def _look_around(self, wanted: Checkpoint) -> None:
        row = self._control.row(
            "SELECT timeline_id, full_page_writes, (redo_lsn - '0/0')::bigint AS redo,"
            " pg_last_xact_replay_timestamp() AS last_commit_at FROM pg_control_checkpoint()"
        )
        now = look(self._control)
        if now.replay is Replay.ENDED:
            raise role_changed(self._control.words)
        wrong = {
            "replay went on": now.replay is not Replay.PAUSED,
            "its pages were not written out": int(row["redo"]) < wanted.redo,
            "full_page_writes is off on the active": not row["full_page_writes"],
        }
        if any(wrong.values()):
            raise NotHealthy(
                f"the freeze of {self._control.words} is not sound",
                because=self.because or next(words for words, so in wrong.items() if so),
                next_step="leave replay alone, set full_page_writes = on, and run the backup again",
            )
        self.position = Position(str(row["timeline_id"]), now.replayed)
        self.last_commit_at = row["last_commit_at"]

    # --- the way out --------------------------------------------------------

    def still_held(self) -> bool:
        """Whether replay stands where it stood, seen now: for those who read for long. False when it cannot be seen."""
        with self._lock, contextlib.suppress(BackupdError):
            return self._answer is None and self._stands_where_it_stood()
        return False

    def thaw(self) -> FreezeEnd:
        """Leave the backup mode, and let replay go on; it goes on whatever happens in here.

        Raises:
            NotHealthy: the files are no backup, and not because time was up: the server was
                promoted (``role_change``), or a connection was lost.  A second call answers.
        """
        with self._lock:
            if self._answer is not None:
                return self._answer
            try:
                if self._stands_where_it_stood():
                    self.end = self._mode.stop()
            except BackupdError as error:
                self.because = error.because
                raise
            finally:
                try:
                    self._let_replay_go()
                finally:
                    self._answer = FreezeEnd(
                        self._resumed_at - self._asked_at, held=self.end is not None, because=self.because
                    )
                    self._ways_out.close()
            return self._answer

    def stop(self) -> BackupEnd:
        """How the backup mode ended, after the thaw. Raises NotHealthy: the freeze did not hold."""
        if self.end is None:
            raise NotHealthy(
                f"the freeze of {self._passive.name} is no backup",
                because=self.because or "it was not thawed yet",
                next_step="run the backup again",
            )
        return self.end

    def close(self) -> None:
        """The same as a thaw, for those who gave up."""
        self.thaw()

    def _stands_where_it_stood(self) -> bool:
        if self._marker is None:
            return False
        now = look(self._control)
        if now.replay is Replay.ENDED:
            raise role_changed(self._control.words)
        stands = now.replay is Replay.PAUSED and now.replayed == self.position.offset
        if not stands:
            self.because = self.because or "somebody let replay go on"
        return stands

    def _let_replay_go(self, *, afresh: bool = False) -> None:
        with self._lock:
            marker = self._marker
            if marker is None:
                return
            try:
                try:
                    if not afresh:
                        let_go(self._control, self._state_dir, marker)
                except BackupdError:
                    afresh = True
                if afresh:
                    with connect(self._passive.conninfo, copy=self._passive.name) as fresh:
                        let_go(fresh, self._state_dir, marker)
            except BaseException:
                self._guard.abandon()  # which makes it end the pause
                raise
            finally:
                self._no_longer_ours(marker)
            self._guard.disarm()

    def _no_longer_ours(self, marker: PauseMarker) -> None:
        self._marker = None
        self._resumed_at = time.monotonic()
        HELD.discard(marker.token)

    # --- said by the guard, in a thread of its own ---------------------------

    def _was_ended(self, why: str) -> None:
        # Replay runs already, and a pause that stands from now on is not ours.
        with self._lock:
            if self._marker is not None:
                self.because = why
                self._no_longer_ours(self._marker)

    def _guard_is_lost(self, why: str) -> None:
        time.sleep(_LAST_WORD_SECONDS)
        with self._lock:
            if self._marker is not None:
                self.because = why
                with contextlib.suppress(BackupdError):
                    self._let_replay_go(afresh=True)
