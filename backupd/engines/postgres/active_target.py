"""A restore onto the active copy: its server stands still, the new files come by renames, ``global`` last.

What survives a crash at any moment: until the first rename the old cluster is
whole and is started again; from then on the journal in ``.backupd-restore`` says
which moves are left, no server starts in between, and ``recover_active`` makes
them.  Configuration, certificates and logs of the data directory stay as they
are today (see ``swap``).  Replication slots do not come back: backupd's own is made as
the new timeline begins, the standby's when the standby is seeded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.cluster_check import hold_log
from backupd.engines.postgres.connect import connect
from backupd.engines.postgres.in_place import (
    give_up,
    is_given_up,
    refuse_links,
    refuse_newer_tablespaces,
    refuse_no_room,
    reusable_bytes,
    staged_bytes,
)
from backupd.engines.postgres.live_directory import LiveDirectory
from backupd.engines.postgres.lost_commits import commits_after
from backupd.engines.postgres.must_seed import note_must_seed
from backupd.engines.postgres.postmaster import find_strangers
from backupd.engines.postgres.recover_restore import start_swapped, undo
from backupd.engines.postgres.recovery import Recovered
from backupd.engines.postgres.restore_rooms import dropped_rooms, linked_tablespaces, locate_tablespaces, wal_room
from backupd.engines.postgres.slots import ensure_slots
from backupd.engines.postgres.stage_journal import Phase
from backupd.engines.postgres.staged_target import RestoreChoices, StagedTarget
from backupd.engines.postgres.swap import WAL, Room
from backupd.engines.postgres.volume_table import Tablespace
from backupd.errors import BackupdError, NotHealthy, Refused
from backupd.model.position import Position
from backupd.model.records import StoredFile
from backupd.ports import PageFile, TargetFacts


class ActiveTarget(StagedTarget):
    """See ``ports.RestoreTarget``.

    Args:
        active: the copy that is restored to.
        passive: the other one; None when it is not known. Its places are never written to.
        choices: what holds for every restore.
    """

    def __init__(self, active: PgCopy, passive: PgCopy | None, choices: RestoreChoices) -> None:
        self._live = LiveDirectory.of(active.data_directory, choices.options)
        super().__init__(self._live.main, self._live.owner, choices)
        self._active, self._passive = active, passive
        self._in_place = False

    # --- before -------------------------------------------------------------

    def facts(self) -> TargetFacts:
        """See ``ports.RestoreTarget``; ``users`` are only processes that no server of the directory stands behind."""
        found = self._live.facts()
        return TargetFacts(
            role="active",
            path=self.path,
            exists=found is not None,
            size_bytes=directory_bytes(self.path) if found is not None else 0,
            position=found.position if found is not None else None,
            users=find_strangers(self.path),
            free_bytes=free_bytes(self.path),
            keeps_log=True,
            given_up=is_given_up(self.main, self._live.journal()),
        )

    def reusable_bytes(self) -> int:
        """See ``ports.ReusesLive``: of relation files, the log and what a restore has begun are not."""
        return reusable_bytes(self.path)

    def left_bytes(self) -> int:
        """See ``ports.ReusesLive``: also of another backup, and what was given up and is in no table."""
        journal = self._live.journal()
        rooms = [Room(Path(place), prefix) for place, prefix in (journal.rooms if journal else ())]
        return staged_bytes([self.main, *(room for room in rooms if room.place != self.path)])

    def reuse_live(self) -> None:
        """See ``ports.ReusesLive``."""
        refuse_links(self.path)
        self._in_place = True

    def begin(self, run_id: str, *, force: bool = False) -> None:
        """See ``ports.RestoreTarget``; ``force`` allows a data directory of another cluster to be replaced."""
        if (self.path / "standby.signal").exists():
            raise Refused(
                f"cannot restore to {self.path}",
                because="it is a standby's (standby.signal is there), and restores go to the active only",
                next_step="promote the standby that shall be the active, or restore to the other copy",
            )
        found = self._live.facts()
        expected = self._choices.system_identifier
        if found and expected and str(found.system_identifier) != expected and not force:
            raise Refused(
                f"cannot restore to {self.path}",
                because=f"the cluster {found.system_identifier} is there, and the pair is {expected}",
                next_step="correct the data_directory in the policy, or move that cluster away",
            )
        self._journal = self._live.claim(run_id)
        self._stage.wal = wal_room(self.path)
        self._note_rooms()
        self._begun = True

    def commits_after(self, position: Position, at: datetime | None) -> int | None:
        """See ``ports.RestoreTarget``."""
        try:
            waldump = self._live.control.program("pg_waldump")
        except NotHealthy:
            return None
        return commits_after(waldump, self.path / WAL, position, at) if waldump is not None else None

    # --- the stage ----------------------------------------------------------

    def before_pages(self) -> None:
        """In place: what is there becomes the stage now."""
        if self._journal is not None and (self._in_place or is_given_up(self.main, self._journal)):
            if not is_given_up(self.main, self._journal):
                self._refuse_beforehand()
            self._journal = give_up(
                self.main, self._stage.tablespaces, self._owner, self._journal, self._live.refuse_running
            )

    def _refuse_beforehand(self) -> None:
        """All that can be known before anything is given up. Raises Refused, DamageFound, NotHealthy."""
        self._stage.check_label()
        refuse_newer_tablespaces(self.path, self._stage.tablespaces)
        refuse_no_room(self.main, self._stage.tablespaces, self._stage.table())

    def live_file(self, stored: StoredFile) -> Path | PageFile | None:
        """See ``ports.RestoreTarget``."""
        return None if is_given_up(self.main, self._journal) else self.live_volume(stored)

    def locate(self, tablespaces: Sequence[Tablespace]) -> Mapping[int, Path]:
        """Where the active has each now, else where the backup's copy had it, but never where the passive is."""
        foreign: list[Path] = []
        if self._passive is not None:
            foreign = [*linked_tablespaces(self._passive.data_directory).values(), self._passive.data_directory]
        return locate_tablespaces(tablespaces, linked_tablespaces(self.path), foreign)

    def used_wal(self) -> Sequence[Path]:
        """Timelines that either copy knows are used."""
        passive = [self._passive.data_directory / WAL] if self._passive is not None else []
        return [self.path / WAL, *passive]

    def _bin_directory(self) -> Path | None:
        chosen = self._choices.options.bin_directory
        if chosen is None and self._journal is not None and self._journal.bin_directory:
            found = Path(self._journal.bin_directory)
            return found if self._serves(found) else None
        return chosen

    def _serves(self, found: Path) -> bool:
        from backupd.engines.postgres.binaries import version_of

        return version_of(found / "postgres") == self._stage.major

    def on_promotion(self, found: Recovered) -> None:
        """The new timeline's log is held from its first record on, or what the look writes could push it out."""
        try:
            hold_log(found.socket_directory, self._choices.options.slot, self.roles_to_ask)
        except BackupdError as error:
            self._note_no_slot(error)

    # --- the change ---------------------------------------------------------

    def activate(self, *, came_from: str) -> None:
        """See ``ports.RestoreTarget``; a server that ``begin`` had stopped runs again afterwards."""
        if self._journal is None or self._recovered is None:
            raise NotHealthy(
                f"cannot put the restored cluster in place of {self.path}",
                because="it was not recovered and checked",
                next_step="run the same restore again",
            )
        ended = self._recovered.ended
        self._journal = self._journal.but(
            must_seed={
                "reason": f"backup {came_from} was restored to the active, which began timeline "
                f"{self._recovered.position.history} at {ended}",
                "history": self._recovered.position.history,
                "position": str(ended),
                "at": datetime.now(UTC).isoformat(),
            }
        )
        try:
            self._journal = self._live.swap_in(self._stage, self._journal, self._dropped())
        except BackupdError:
            journal = self._live.settled()
            if journal is None or journal.phase is Phase.BUILDING:
                self.abandon(keep_stage=True)
            raise
        note_must_seed(self._choices.state_dir, self._journal.must_seed)
        if self._journal.was_running:
            self._live.start(self._journal)
            self._hold_log()

    def _dropped(self) -> list[Room]:
        major = self._live.control.major if (self.path / "PG_VERSION").exists() else self._stage.major
        passive = linked_tablespaces(self._passive.data_directory) if self._passive is not None else {}
        return dropped_rooms(self.path, self._stage.tablespaces, major, passive.values())

    def _hold_log(self) -> None:
        """Log since the restore must not go before the standby was seeded with it; its absence costs only a copy."""
        try:
            with connect(self._active.conninfo, copy=self._active.name) as server:
                ensure_slots(server, server, self._choices.options.slot)
        except BackupdError as error:
            self._note_no_slot(error)

    def _note_no_slot(self, error: BackupdError) -> None:
        self.notes = (*self.notes, f"the slot {self._choices.options.slot} was not made: {error.because}")

    def finish(self) -> None:
        """See ``ports.RestoreTarget``; the old cluster is removed when the new one accepts connections."""
        journal = self._live.journal()
        if journal is not None:
            start_swapped(self._live, self._choices, journal)
            self._hold_log()
            self._live.clear(journal)

    def abandon(self, *, keep_stage: bool = False) -> None:
        """See ``ports.RestoreTarget``; a server that ``begin`` had stopped runs again."""
        undo(self._live, keep_stage=keep_stage)


def free_bytes(place: Path) -> int:
    """Free space where ``place`` is or will be."""
    while not place.exists():
        place = place.parent
    room = os.statvfs(place)
    return room.f_bavail * room.f_frsize


def directory_bytes(place: Path) -> int:
    """What the files of a directory take; what cannot be seen is not counted."""
    total = 0
    for top, _, files in os.walk(place):
        for name in files:
            try:
                total += os.lstat(os.path.join(top, name)).st_size
            except OSError:
                continue
    return total
