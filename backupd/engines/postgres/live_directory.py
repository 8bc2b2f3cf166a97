"""A data directory that a restore or a seed takes over: its server stops, its files are swapped, it starts again."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from backupd.engines.postgres.cluster import PgOptions
from backupd.engines.postgres.control_file import CONTROL_PATH, ControlFacts, read_control
from backupd.engines.postgres.follow import follow
from backupd.engines.postgres.owner import Owner, sync_tree
from backupd.engines.postgres.postmaster import Postmaster, find_strangers, log_file_of
from backupd.engines.postgres.recovery import AUTO_CONF
from backupd.engines.postgres.restore_rooms import link_staged, open_room, unwritable
from backupd.engines.postgres.restore_stage import RestoreStage
from backupd.engines.postgres.server_control import PgControl
from backupd.engines.postgres.stage_journal import Phase, StageJournal
from backupd.engines.postgres.swap import (
    Room,
    SwapPlan,
    clear_rooms,
    empty,
    keep_todays_configuration,
    plan_swap,
    refuse_mounts,
)
from backupd.engines.postgres.swap_moves import carry_out, has_begun
from backupd.errors import NotHealthy, Refused

_GOING_SECONDS = 5.0
# Settings of a standby or of a recovery that a restored postgresql.auto.conf may carry.
_NOT_FOR_PRIMARY = re.compile(
    r"^\s*(primary_|recovery_|restore_command|archive_cleanup_command|promote_trigger_file|standby_mode)", re.IGNORECASE
)


def owner_for(place: Path) -> Owner:
    """Whom a data directory belongs to: its owner, else the owner of the directory above, else ``postgres``.

    Raises:
        NotHealthy: that would be root, which PostgreSQL refuses.
    """
    existing = place
    while not existing.exists():
        existing = existing.parent
    owner = Owner.of(existing)
    if existing != place:
        owner = Owner(owner.uid, owner.gid)  # the mode of a directory above says nothing about the cluster
    if owner.uid != 0 and (existing == place or os.geteuid() == 0):
        return owner
    if os.geteuid() != 0:
        return Owner(os.geteuid(), os.getegid())
    named = Owner.named("postgres")
    if named is not None:
        return named
    raise NotHealthy(
        f"nobody can run a server in {place}",
        because="PostgreSQL does not run as root, and this host has no user postgres",
        next_step=f"make {place} and give it to the user that the server shall run as",
    )


class LiveDirectory:
    """One copy's data directory, taken over for a while.

    Args:
        main: the directory.
        owner: whose it is.
        bin_directory: the policy's.
        seconds_max: how long its server may take to stop or to start.
    """

    def __init__(self, main: Room, owner: Owner, *, bin_directory: Path | None, seconds_max: float) -> None:
        self.main, self.owner = main, owner
        self._seconds_max = seconds_max
        self.control = PgControl(main.place, bin_directory=bin_directory, owner=owner)

    @classmethod
    def of(cls, place: Path, options: PgOptions) -> Self:
        """A copy's own directory, by the policy's options. Raises NotHealthy: nobody can run a server there."""
        return cls(
            Room(place),
            owner_for(place),
            bin_directory=options.bin_directory,
            seconds_max=options.server_seconds_max,
        )

    def facts(self) -> ControlFacts | None:
        """What its control file says; None when there is none that can be read."""
        try:
            return read_control(self.main.place / CONTROL_PATH)
        except NotHealthy:
            return None

    def journal(self) -> StageJournal | None:
        """What was begun here; None when nothing was."""
        return StageJournal.read(self.main)

    def settled(self) -> StageJournal | None:
        """What was begun here; a swap of which nothing was moved is noted as what it is: all of it can be undone.

        Raises:
            NotHealthy: the journal cannot be read or written.
        """
        journal = self.journal()
        if journal is None or journal.phase is not Phase.SWAPPING or has_begun(SwapPlan.from_json(journal.plan)):
            return journal
        return journal.but(phase=Phase.BUILDING, plan={}).write(self.main, self.owner)

    def claim(self, run_id: str) -> StageJournal:
        """Note how the server was started, then stop it; what an earlier try has staged stays.

        Raises:
            Refused: somebody else's server works here, or an earlier restore is half in place.
            NotHealthy: the server does not stop, or the directory cannot be written.
        """
        self.refuse_strangers()
        refuse_mounts(self.main)
        before = self.settled()
        if before is not None and before.phase is not Phase.BUILDING:
            raise Refused(
                f"cannot restore to {self.main.place}",
                because=f"an earlier restore ({before.run_id}) is half in place",
                next_step="backupctl recover (it goes on where that stopped)",
            )
        open_room(self.main, self.owner)
        running = self.control.postmaster()
        journal = self._describe(run_id, running, before)
        journal.write(self.main, self.owner)
        self.control.stop("fast", seconds_max=self._seconds_max)
        self.refuse_strangers()
        return journal

    def _describe(self, run_id: str, running: Postmaster | None, before: StageJournal | None) -> StageJournal:
        if before is not None and running is None:
            return before.but(run_id=run_id, plan={})
        log = log_file_of(running) if running else None
        known = (self.main.place / "PG_VERSION").exists()
        return StageJournal(
            run_id,
            was_running=running is not None,
            start_options=tuple(self.control.start_options()),
            log_file=str(log) if log else "",
            bin_directory=str(self.control.bin_directory()) if known else "",
            rooms=before.rooms if before is not None else (),
            given_up=before is not None and before.given_up,
        )

    def refuse_running(self) -> None:
        """Raises Refused when a server works here: what started it does not know of the restore."""
        if self.control.is_running():
            raise Refused(
                f"cannot restore to {self.main.place}",
                because="its server was started while the restore was working",
                next_step="stop it and what starts it (systemd, Patroni), then restore again",
            )
        self.refuse_strangers()

    def refuse_strangers(self) -> None:
        """Raises Refused, naming a PostgreSQL process that works here and is not this directory's server."""
        deadline = time.monotonic() + _GOING_SECONDS
        # A server that is stopped removes its postmaster.pid before its processes are gone.
        while (users := find_strangers(self.main.place)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if users:
            raise Refused(
                f"cannot restore to {self.main.place}",
                because=f"{users[0].command} (pid {users[0].pid}) works there without a running server",
                next_step=f"end that process (kill {users[0].pid}), then restore again",
                users=[user.pid for user in users],
            )

    # --- the swap -----------------------------------------------------------

    def swap_in(self, stage: RestoreStage, journal: StageJournal, more: Iterable[Room]) -> StageJournal:
        """Put the stage in place; from the first move on, only ``go_on`` can follow.

        Args:
            stage: the whole stage.
            journal: of this restore.
            more: places of the old cluster that the new one does not have (dropped tablespaces).

        Raises:
            Refused, NotHealthy: before the first move, nothing was changed; after it, the swap can be gone on with.
        """
        self.refuse_running()
        more = tuple(more)
        rooms = (*stage.rooms, *more)
        for room in rooms:
            open_room(room, self.owner)
        try:
            link_staged(stage.path, stage.tablespaces, self.owner, staged=False)
            had_auto = (self.main.place / AUTO_CONF).exists()
            keep_todays_configuration(self.main)
            if not had_auto:
                self._strip(stage.path / AUTO_CONF)
            self._keep_start_options(stage.path)
            for room in stage.rooms:
                sync_tree(room.stage)
            for room in more:
                empty(room.stage)  # what an earlier try had staged there, from a backup that has that tablespace
            for room in rooms:
                room.old.mkdir(mode=0o700, exist_ok=True)  # no room for it is no room before anything is moved
        except OSError as error:
            raise unwritable(self.main.place, error) from None
        plan = plan_swap(rooms)
        journal = journal.noting(rooms).but(phase=Phase.SWAPPING, plan=plan.to_json())
        return self.go_on(journal.write(self.main, self.owner))

    def _strip(self, path: Path) -> None:
        if path.exists():
            lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
            kept = "".join(line for line in lines if not _NOT_FOR_PRIMARY.match(line))
            self.owner.write_file(path, kept.encode("utf-8", "surrogateescape"))

    def _keep_start_options(self, stage: Path) -> None:
        try:
            self.owner.write_file(stage / "postmaster.opts", (self.main.place / "postmaster.opts").read_bytes())
        except FileNotFoundError:
            pass

    def go_on(self, journal: StageJournal) -> StageJournal:
        """Carry the moves out that are left.

        Raises:
            NotHealthy: one does not work.
            Refused: a server works there, and the first move was not made.
        """
        if journal.phase is Phase.SWAPPING:
            carry_out(SwapPlan.from_json(journal.plan), self.refuse_running)
            journal = journal.but(phase=Phase.SWAPPED).write(self.main, self.owner)
        return journal

    # --- afterwards ---------------------------------------------------------

    def start(self, journal: StageJournal) -> None:
        """Start the server as it was started before and wait until it accepts connections.

        A standby that was seeded may replay for long: of that it is only waited for that it runs.

        Raises:
            NotHealthy: it did not start.
        """
        log = Path(journal.log_file) if journal.log_file else None
        control = self.control
        if journal.bin_directory and self._chosen_is_gone():
            control = PgControl(self.main.place, bin_directory=Path(journal.bin_directory), owner=self.owner)
        seeded = bool(journal.standby) and journal.phase is Phase.SWAPPED
        if seeded:
            follow(self.main.place, self.owner, journal.standby)
        control.start(journal.start_options, log_file=log, seconds_max=self._seconds_max, starting=seeded)

    def _chosen_is_gone(self) -> bool:
        try:
            self.control.bin_directory()
        except NotHealthy:
            return True
        return False

    def clear(self, journal: StageJournal | None) -> bool:
        """Remove all that a restore has left in every place; False when there was nothing. Raises NotHealthy."""
        rooms = [self.main]
        if journal is not None:
            rooms += [Room(Path(place), prefix) for place, prefix in journal.rooms if Path(place) != self.main.place]
        there = any(os.path.lexists(room.own) for room in rooms)
        self.stop_staged()
        clear_rooms(rooms)
        return there

    def stop_staged(self) -> None:
        """End the server that a recovery which died has left on the stage. Raises NotHealthy."""
        PgControl(self.main.stage, owner=self.owner, major=0).stop("immediate", seconds_max=self._seconds_max)
