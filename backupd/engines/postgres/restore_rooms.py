"""Where a cluster's files lie outside of its data directory: tablespaces, and a ``pg_wal`` of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.swap import WAL, Room
from backupd.engines.postgres.volume_table import TABLESPACES, Tablespace
from backupd.errors import BackupdError, NotHealthy, Refused
from backupd.steps import step


def linked_tablespaces(data_directory: Path) -> dict[int, Path]:
    """Where the tablespaces of a data directory are, by the links that it has now."""
    found = {}
    try:
        names = os.listdir(data_directory / TABLESPACES)
    except OSError:
        return {}
    for name in names:
        link = data_directory / TABLESPACES / name
        if name.isdigit() and link.is_symlink():
            found[int(name)] = Path(os.readlink(link))
    return found


def locate_tablespaces(
    wanted: Iterable[Tablespace], here: Mapping[int, Path], foreign: Iterable[Path]
) -> dict[int, Path]:
    """Where each stored tablespace belongs: where this copy has it now, else where the backed up copy had it.

    Args:
        wanted: the backup's.
        here: of the copy that is restored to.
        foreign: places that belong to the other copy, when that is on this host too.

    Raises:
        Refused: the only place that is known for one is the other copy's, or holds other things.
    """
    taken = {os.path.realpath(place) for place in foreign}
    found = {}
    for tablespace in wanted:
        place = here.get(tablespace.oid, Path(tablespace.location))
        if tablespace.oid not in here:
            _refuse_odd(tablespace.oid, place)
        if os.path.realpath(place) in taken:
            raise Refused(
                f"tablespace {tablespace.oid} has no place on the active",
                because=f"the backup has it in {place}, and that is the passive's",
                next_step=f"make a directory for it and the link {TABLESPACES}/{tablespace.oid} "
                "in the active's data directory, then restore again",
            )
        found[tablespace.oid] = place
    return found


def _refuse_odd(oid: int, place: Path) -> None:
    """A place that only the backup names holds tablespaces only, or is not there. Raises Refused."""
    try:
        others = sorted(name for name in os.listdir(place) if not name.startswith(("PG_", "lost+found", ".backupd")))
    except FileNotFoundError:
        return
    except OSError as error:
        others = [error.strerror or str(error)]
    if others:
        raise Refused(
            f"tablespace {oid} has no place on the active",
            because=f"the backup has it in {place}, and other things are there: {others[0]}",
            next_step=f"make a directory for it and the link {TABLESPACES}/{oid} "
            "in the active's data directory, then restore again",
        )


def tablespace_room(place: Path, major: int) -> Room:
    """The room of one tablespace; other versions' directories in it are left alone."""
    return Room(place, f"PG_{major}_")


def dropped_rooms(data_directory: Path, kept: Collection[int], major: int, foreign: Iterable[Path]) -> list[Room]:
    """Tablespaces that a copy has and its new files have not: what is in them goes with the old files."""
    theirs = {os.path.realpath(place) for place in foreign}
    return [
        tablespace_room(place, major)
        for oid, place in linked_tablespaces(data_directory).items()
        if oid not in kept and place.is_dir() and os.path.realpath(place) not in theirs
    ]


def wal_room(data_directory: Path) -> Room | None:
    """The room of a ``pg_wal`` that is a link or a mount point; None when it is a plain directory or not there."""
    path = data_directory / WAL
    if path.is_symlink() or os.path.ismount(path):
        return Room(Path(os.path.realpath(path)))
    return None


def open_room(room: Room, owner: Owner) -> None:
    """Make our directories in a room, for the owner only.

    Raises:
        NotHealthy: it cannot be written.
    """
    step("pg.restore.room")
    try:
        if not room.place.exists():
            owner.make_directory(room.place)
        for directory in (room.own, room.stage):
            if directory.is_symlink():
                raise Refused(
                    f"cannot restore to {room.place}",
                    because=f"{directory} is a symbolic link, and backupd makes directories there",
                    next_step=f"remove {directory}, then restore again",
                )
            directory.mkdir(mode=0o700, exist_ok=True)
            owner.give(directory)
            directory.chmod(owner.directory_mode if directory == room.stage else 0o700)
    except OSError as error:
        raise unwritable(room.place, error) from None


def link_staged(stage: Path, rooms: Mapping[int, Room], owner: Owner, *, staged: bool) -> None:
    """Point the stage's tablespace links to what is staged, or (before the swap) to where it will be."""
    try:
        directory = stage / TABLESPACES
        owner.make_directory(directory)
        for oid, room in rooms.items():
            target = room.stage if staged else room.place
            link, beside = directory / str(oid), directory / f".{oid}.new"
            if link.is_symlink() and os.readlink(link) == str(target):
                continue
            step("pg.restore.link")
            beside.unlink(missing_ok=True)
            beside.symlink_to(target)
            owner.give(beside)
            os.replace(beside, link)
    except OSError as error:
        raise unwritable(stage, error) from None


def link_wal(stage: Path, room: Room) -> None:
    """Let the stage's ``pg_wal`` be what is staged on the filesystem where log lies."""
    link = stage / WAL
    try:
        if not link.is_symlink():
            if link.is_dir():
                shutil.rmtree(link)  # what a backup has of it: empty directories
            link.symlink_to(room.stage)
    except OSError as error:
        raise unwritable(stage, error) from None


def unwritable(place: Path, error: OSError) -> BackupdError:
    """The restore cannot write there."""
    return NotHealthy(
        f"cannot restore to {place}",
        because=f"{error.filename or place}: {error.strerror or error}",
        next_step=f"make room at {place} or fix its rights, then run the same restore again",
    )
