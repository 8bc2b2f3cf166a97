"""A restore in place: the relation files of the active become the stage, so that only what differs is written.

No room for a second copy is needed.  The price is the way back: the database that
was there is gone from the first move on, which the journal says (``given_up``), and
no server starts without ``global``.  What a crash leaves is a stage with pages in
it, as after any restore that died, and the next restore takes what it can use.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from backupd.disk_room import allocated_bytes, free_room_bytes
from backupd.durable import sync_directory
from backupd.engines.postgres.control_file import CONTROL_PATH
from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.restore_rooms import linked_tablespaces, open_room, unwritable
from backupd.engines.postgres.stage_journal import Phase, StageJournal
from backupd.engines.postgres.swap import BASE, CORE, Room
from backupd.engines.postgres.volume_table import TABLESPACES, VolumeTable
from backupd.errors import BackupdError, NotHealthy, Refused
from backupd.model.amounts import size_text
from backupd.steps import step

_BESIDE = "restore without --in-place"


def refuse_links(main: Path) -> None:
    """Raises Refused where what would move into the stage is a link: a restore does not write through one."""
    spaces = [path for place in linked_tablespaces(main).values() for path in place.glob("PG_*")]
    for path in (main / CORE, main / BASE, *sorted((main / BASE).glob("*")), *sorted(spaces)):
        if path.is_symlink() or (path in spaces and os.path.ismount(path)):
            raise Refused(
                f"the files of {main} cannot be reused",
                because=f"{path} is a {'link' if path.is_symlink() else 'mount point'}",
                next_step=_BESIDE,
            )


def refuse_newer_tablespaces(main: Path, wanted: Collection[int]) -> None:
    """Raises Refused where the active has a tablespace that the backup lacks: log would make it among its files."""
    for oid, place in sorted(linked_tablespaces(main).items()):
        if oid not in wanted and any(place.glob("PG_*")):
            raise Refused(
                f"the files of {main} cannot be reused",
                because=f"tablespace {oid} in {place} is not in the backup, so it was made later, "
                "and log that makes it again would meet its files",
                next_step=f"restore from a full that was taken after it was made, or {_BESIDE}",
            )


def refuse_no_room(main: Room, tablespaces: Mapping[int, Room], table: VolumeTable) -> None:
    """Raises NotHealthy where a filesystem has no room for what the backup has more than is there now."""
    wanted: dict[int, int] = {}
    here: dict[int, int] = {}
    places: dict[int, Path] = {}
    rooms = {f"{TABLESPACES}/{oid}/": room for oid, room in tablespaces.items()}
    devices: dict[str, int] = {}
    for prefix, room in (("", main), *rooms.items()):
        there = next(place for place in (room.place, *room.place.parents) if place.exists())
        device = devices[prefix] = there.stat().st_dev
        places.setdefault(device, there)
        live = [main.place / CORE, main.place / BASE] if room is main else [*room.place.glob(f"{room.prefix}*")]
        here[device] = here.get(device, 0) + sum(map(_bytes_below, [*live, room.stage]))
    for entry in table.entries:
        prefix = next((prefix for prefix in rooms if entry.path.startswith(prefix)), "")
        wanted[devices[prefix]] = wanted.get(devices[prefix], 0) + entry.size_bytes
    for device, size in wanted.items():
        free = free_room_bytes(places[device])
        if free is not None and size > here[device] + free:
            raise NotHealthy(
                f"there is no room for the restored files in {places[device]}",
                because=f"they take {size_text(size)}; {size_text(here[device])} are there to be reused, "
                f"and {size_text(free)} are free",
                next_step="make room there, then the same restore again; nothing was changed",
            )


def staged_bytes(rooms: Iterable[Room]) -> int:
    """What restores that were not ended have left in their stages: it is reused, or removed before pages come."""
    return sum(_bytes_below(room.stage) for room in rooms)


def _bytes_below(directory: Path) -> int:
    return sum(allocated_bytes(Path(top) / name) for top, _, names in os.walk(directory) for name in names)


def reusable_bytes(main: Path) -> int:
    """What the relation files take on the disk now, those of tablespaces too."""
    places = [main / BASE, main / CORE]
    for place in linked_tablespaces(main).values():
        places += place.glob("PG_*")
    return sum(map(_bytes_below, places))


def is_given_up(main: Room, journal: StageJournal | None) -> bool:
    """Whether the database that was there is gone and the restored one is not in place yet; ``global`` goes first."""
    begun = journal is not None and journal.given_up and journal.phase is Phase.BUILDING
    return begun and not (main.place / CONTROL_PATH).exists()


def give_up(
    main: Room,
    tablespaces: Mapping[int, Room],
    owner: Owner,
    journal: StageJournal,
    refuse_running: Callable[[], None],
) -> StageJournal:
    """Move the relation files into the stage; may be repeated until it comes back.

    Args:
        main: the data directory, whose server stands still.
        tablespaces: the rooms of those that the backup has.
        owner: whose the journal is.
        journal: of this restore; what is given up is written there before the first move.
        refuse_running: raises where a server works in the data directory, as in ``swap_moves.carry_out``: it would
            write into files that are the stage by now.

    Raises:
        NotHealthy: a place cannot be written, or a file not moved; run it again when the reason is gone.
        Refused: by ``refuse_running``; nothing was given up.
    """
    for room in tablespaces.values():
        open_room(room, owner)
    refuse_running()
    is_first = (main.place / CORE).is_dir()
    before, journal = journal, journal.but(given_up=True).write(main, owner)
    try:
        _move(main, [CORE])
        try:
            refuse_running()
        except BackupdError:
            if is_first:
                os.rename(main.stage / CORE, main.place / CORE)
                sync_directory(main.place)
                before.write(main, owner)
            raise
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
