"""Makes the passive anew from the archive: pages and log come from there, only the rest is streamed.

It is filled like every restore target, but nothing is promoted: the new files
start as a standby, which replays the log that was put into its ``pg_wal`` and asks
the active for what comes after it.  The active pays for no page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from backupd.engines.postgres.active_target import free_bytes
from backupd.engines.postgres.cluster import VOLUME, PgCopy
from backupd.engines.postgres.facts import read_facts
from backupd.engines.postgres.postmaster import find_strangers
from backupd.engines.postgres.recover_restore import undo
from backupd.engines.postgres.restore_rooms import (
    dropped_rooms,
    linked_tablespaces,
    locate_tablespaces,
    unwritable,
    wal_room,
)
from backupd.engines.postgres.seed import finish_seed
from backupd.engines.postgres.staged_target import RestoreChoices, StagedTarget
from backupd.engines.postgres.standby_directory import STANDBY_SIGNAL, StandbyDirectory
from backupd.engines.postgres.swap import Room
from backupd.engines.postgres.timelines import Ancestry, parse_history
from backupd.engines.postgres.volume_table import Tablespace
from backupd.engines.postgres.wal_names import history_name, lsn_text
from backupd.errors import NotHealthy, Refused
from backupd.model.position import Position, rebase
from backupd.model.records import StoredFile
from backupd.ports import PageFile, TargetFacts


class SeedTarget(StagedTarget):
    """See ``ports.RestoreTarget``; only a seed uses it, for restores never go to a passive.

    Args:
        active: the copy that the seeded one will stream from; it must run.
        passive: the copy that is made anew.
        choices: what holds for every restore.
    """

    def __init__(self, active: PgCopy, passive: PgCopy, choices: RestoreChoices) -> None:
        self._standby = StandbyDirectory(active, passive, choices)
        super().__init__(self._standby.main, self._standby.owner, choices)
        self._history = "1"
        self._ancestry: Ancestry = ()

    def facts(self) -> TargetFacts:
        """See ``ports.RestoreTarget``."""
        found = self._standby.live.facts()
        return TargetFacts(
            role="passive",
            path=self.path,
            exists=found is not None,
            size_bytes=0,
            position=found.position if found is not None else None,
            users=find_strangers(self.path),
            free_bytes=free_bytes(self.path),
            keeps_log=True,
        )

    def begin(self, run_id: str, *, force: bool = False) -> None:  # noqa: ARG002 - the port's shape
        """See ``ports.RestoreTarget``: the active is asked where its log went, and gets the slots that hold it."""
        with self._standby.ask_active() as server:
            self._standby.refuse_primary(server)
            settings = self._standby.standby_settings()
            facts = read_facts(server)
            self._standby.make_slot(server, settings)
        self._history = str(facts.timeline)
        if facts.history_text:
            self._ancestry = parse_history(facts.history_text)
            self._stage.log.know(history_name(facts.timeline), facts.history_text)
        journal = self._standby.live.claim(run_id)
        self._journal = journal.but(standby=settings).write(self.main, self._owner)
        self._stage.wal = wal_room(self.path)
        self._begun = True
        self._note_rooms()

    def stage_file(self, stored: StoredFile) -> Path | PageFile:
        """See ``ports.RestoreTarget``.

        Raises:
            Refused: the backup is not an ancestor of what the active is now.
        """
        if stored.path == VOLUME and self._begun and self._stage.known_table(stored) is not None:
            facts = self._stage.header
            if self._beyond(Position(str(facts.timeline), facts.stop_lsn)):
                raise Refused(
                    "the standby cannot be seeded from this backup",
                    because=f"it ends at {lsn_text(facts.stop_lsn)} of timeline {facts.timeline}, "
                    f"and the active's timeline {self._history} does not come from there",
                    next_step="seed from an older full, or by pg_basebackup",
                )
        return super().stage_file(stored)

    def live_file(self, stored: StoredFile) -> Path | PageFile | None:
        """See ``ports.RestoreTarget``."""
        return self.live_volume(stored)

    def locate(self, tablespaces: Sequence[Tablespace]) -> Mapping[int, Path]:
        """Where the passive has each now, else where the backup's copy had it, but never where the active is."""
        return locate_tablespaces(tablespaces, linked_tablespaces(self.path), self._standby.foreign_places())

    # --- log ------------------------------------------------------------------

    def _beyond(self, position: Position) -> bool:
        """Whether the active has not come this way: it left this history before."""
        return rebase(position, self._history, self._ancestry) is None

    def apply_log(self, path: Path, *, until: Position | None, at: datetime | None) -> Position:
        """See ``ports.RestoreTarget``; a segment that goes on past where the active turned off is left out."""
        log = self._stage.log.of(path)
        if self._beyond(log.end):
            with suppress(OSError):
                path.unlink()
            return Position(log.end.history, log.number * log.size_bytes)
        return super().apply_log(path, until=until, at=at)

    # --- the end ----------------------------------------------------------------

    def check(self, until: Position | None, at: datetime | None) -> Sequence[str]:  # noqa: ARG002 - all of it
        """Label, history, standby.signal and control file are placed; it is the streaming that proves it."""
        try:
            self._stage.complete()
            self._owner.write_file(self._stage.path / STANDBY_SIGNAL, b"")
        except OSError as error:
            raise unwritable(self.path, error) from None
        return ()

    def activate(self, *, came_from: str) -> None:  # noqa: ARG002 - it begins no history
        """See ``ports.RestoreTarget``; the standby runs afterwards."""
        if self._journal is None:
            raise NotHealthy(
                f"cannot put the seeded files in place of {self.path}",
                because="the seed was not begun",
                next_step="run the seed again",
            )
        self._journal = self._standby.live.swap_in(self._stage, self._journal, self._dropped())
        self._standby.live.start(self._journal)

    def _dropped(self) -> list[Room]:
        foreign = self._standby.foreign_places()
        return dropped_rooms(self.path, self._stage.tablespaces, self._stage.major, foreign)

    def finish(self) -> None:
        """See ``ports.RestoreTarget``; it comes back when the standby streams from the active.

        Raises:
            NotHealthy: it does not (the log between the archive's end and the active's oldest may be gone).
        """
        finish_seed(self._standby)

    def abandon(self, *, keep_stage: bool = False) -> None:
        """See ``ports.RestoreTarget``."""
        undo(self._standby.live, keep_stage=keep_stage)
