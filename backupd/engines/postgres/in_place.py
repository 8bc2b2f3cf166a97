"""A restore in place: the relation files of the active become the stage, so that only what differs is written.

No room for a second copy is needed.  The price is the way back: the database that
was there is gone from the first move on, which the journal says (``given_up``), and
no server starts without ``global``.  What a crash leaves is a stage with pages in
it, as after any restore that died, and the next restore takes what it can use.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from backupd.disk_room import allocated_bytes
from backupd.durable import sync_directory
from backupd.engines.postgres.control_file import CONTROL_PATH
from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.restore_rooms import linked_tablespaces, open_room, unwritable
from backupd.engines.postgres.stage_journal import Phase, StageJournal
from backupd.engines.postgres.swap import BASE, CORE, Room
from backupd.errors import Refused
from backupd.steps import step


def refuse_links(main: Path) -> None:
    """Raises Refused where what would move into the stage is a link: a restore does not write through one."""
    for path in (main / CORE, main / BASE, *sorted((main / BASE).glob("*"))):
        if path.is_symlink():
            raise Refused(
                f"the files of {main} cannot be reused",
                because=f"{path} is a link",
                next_step="restore without --in-place",
            )


def reusable_bytes(main: Path) -> int:
    """What the relation files take on the disk now, those of tablespaces too."""
    places = [main / BASE, main / CORE]
    for place in linked_tablespaces(main).values():
        places += place.glob("PG_*")
    files = (Path(top) / name for place in places for top, _, names in os.walk(place) for name in names)
    return sum(map(allocated_bytes, files))


def is_given_up(main: Room, journal: StageJournal | None) -> bool:
    """Whether the database that was there is gone and the restored one is not in place yet; ``global`` goes first."""
    begun = journal is not None and journal.given_up and journal.phase is Phase.BUILDING
    return begun and not (main.place / CONTROL_PATH).exists()


def give_up(main: Room, tablespaces: Mapping[int, Room], owner: Owner, journal: StageJournal) -> StageJournal:
    """Move the relation files into the stage; may be repeated until it comes back.

    Args:
        main: the data directory, whose server stands still.
        tablespaces: the rooms of those that the backup has.
        owner: whose the journal is.
        journal: of this restore; what is given up is written there before the first move.

    Raises:
        NotHealthy: a place cannot be written, or a file not moved; run it again when the reason is gone.
    """
    for room in tablespaces.values():
        open_room(room, owner)
    journal = journal.but(given_up=True).write(main, owner)
    try:
        _move(main, [CORE])
        (main.stage / CONTROL_PATH).unlink(missing_ok=True)  # the stage gets one when it is whole
        _move(main, [BASE])
        for room in tablespaces.values():
            _move(room, [name for name in os.listdir(room.place) if name.startswith(room.prefix)])
    except OSError as error:
        raise unwritable(main.place, error) from None
    return journal


def _move(room: Room, names: Iterable[str]) -> None:
    for name in names:
        if (room.place / name).is_dir():
            step("pg.restore.give_up")
            if (room.stage / name).exists():  # of an earlier try: what is live is nearer to any backup
                shutil.rmtree(room.stage / name)
            os.rename(room.place / name, room.stage / name)
    for directory in (room.place, room.stage):
        sync_directory(directory)
