"""What a restore or a seed that died has left in a data directory: taken back, or brought to its end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from backupd.engines.postgres.in_place import is_given_up
from backupd.engines.postgres.live_directory import LiveDirectory
from backupd.engines.postgres.must_seed import note_must_seed
from backupd.engines.postgres.stage_journal import Phase, StageJournal
from backupd.engines.postgres.staged_target import RestoreChoices
from backupd.engines.postgres.swap import CORE, Room
from backupd.errors import NotHealthy


def start_swapped(live: LiveDirectory, choices: RestoreChoices, journal: StageJournal) -> None:
    """Start what was put in place, or wait until the policy's command has started it. Raises NotHealthy."""
    if journal.was_running or journal.standby or not choices.started_by_policy:
        live.start(journal)
    elif live.control.is_running():
        live.control.wait_ready(choices.options.server_seconds_max)


def finish_swap(live: LiveDirectory, choices: RestoreChoices) -> None:
    """The last part of a restore, which recovery does too: the server runs, and what was there before goes."""
    journal = live.journal()
    if journal is not None:
        start_swapped(live, choices, journal)
        live.clear(journal)


def undo(live: LiveDirectory, *, keep_stage: bool) -> list[str]:
    """Take back what was begun before the swap; answers with what was done, in sentences."""
    journal, done = live.settled(), []
    if journal is not None and journal.phase is not Phase.BUILDING:
        raise NotHealthy(
            f"the restore to {live.main.place} cannot be undone",
            because="its files are partly in place already",
            next_step="backupctl recover (it goes on where that stopped)",
        )
    if journal is None:
        _refuse_orphans(live.main)
    live.stop_staged()
    if is_given_up(live.main, journal):
        return [f"left {live.main.own}: a restore in place has died, and only a restore ends it"]
    if not keep_stage and live.clear(journal):
        done.append(f"removed {live.main.own}, which an unfinished restore had left")
    if journal is not None and journal.was_running and not live.control.is_running():
        try:
            live.start(journal)
        except NotHealthy as error:
            # A standby that had to be seeded may be one that cannot start.
            if not journal.standby:
                raise
            done.append(f"the server of {live.main.place} does not start: {error.because}")
        else:
            done.append(f"started the server of {live.main.place} again: {journal.run_id} is dead")
    return done


def _refuse_orphans(main: Room) -> None:
    """Raises NotHealthy when files of a cluster are in our directory, and no journal says what they are."""
    for part in (main.old, main.stage if not (main.place / CORE).exists() else main.old):
        if part.is_dir() and os.listdir(part):
            raise NotHealthy(
                f"what a restore has begun in {main.place} is not known",
                because=f"{part} holds files of a cluster, and there is no journal beside it",
                next_step=f"look whether they are needed; when they are not: rm -r {main.own}",
            )


def recover_active(place: Path, choices: RestoreChoices, *, keep_stage: bool = False) -> Sequence[str]:
    """Clear or finish what a restore (or a seed) that died has left in a copy's data directory.

    The caller holds the lease, so none is running.  Answers with sentences.  May be repeated.

    Raises:
        NotHealthy: it cannot be done now (a disk refuses, the server does not start).
    """
    if not was_left(place):
        return ()
    live = LiveDirectory.of(place, choices.options)
    journal = live.settled()
    if journal is None or journal.phase is Phase.BUILDING:
        return undo(live, keep_stage=keep_stage)
    live.go_on(journal)
    if journal.must_seed:
        note_must_seed(choices.state_dir, journal.must_seed)
    finish_swap(live, choices)
    return [f"put the restored files in place in {place}: restore {journal.run_id} had died while it did so"]


def was_left(place: Path) -> bool:
    """Whether a restore or a seed has left anything in a data directory."""
    return os.path.lexists(Room(place).own)
