"""Puts a staged cluster in place of the one that is there, by renames that can all be repeated after a crash.

Every place that holds files of the cluster (the data directory, each tablespace,
a ``pg_wal`` that is a link or a mount of its own) has a directory
``.backupd-restore`` with ``stage`` (what comes) and ``old`` (what goes), so each
move is a rename inside one filesystem.  The order makes a half swapped data
directory one that no server starts: ``global`` leaves first and comes last.

What is replaced is the database.  What is about this host stays as it is today:
configuration, certificates and logs of the data directory are kept where they
exist, and a restored file of the same name that differs lies beside it as
``NAME.restored``.  Where they do not exist, the restored ones are used.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backupd.durable import sync_directory
from backupd.errors import NotHealthy, Refused
from backupd.steps import step

RESTORE_DIRECTORY = ".backupd-restore"
RESTORED_SUFFIX = ".restored"
CORE = "global"  # without it no server starts
BASE = "base"
WAL = "pg_wal"

# Entries of a data directory that are the database, or belong to one run of its server.
_DATA = frozenset(
    {
        "PG_VERSION", "base", "global", "pg_commit_ts", "pg_dynshmem", "pg_logical", "pg_multixact", "pg_notify",
        "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat", "pg_stat_tmp", "pg_subtrans", "pg_tblspc",
        "pg_twophase", "pg_wal", "pg_xact", "backup_label", "backup_label.old", "tablespace_map",
        "tablespace_map.old", "backup_manifest", "recovery.signal", "recovery.done", "standby.signal", "promote",
        "recovery.conf", "postmaster.opts", "current_logfiles", "pg_internal.init",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Room:
    """One place of the cluster's files; ``prefix`` limits which entries are the cluster's (a tablespace's PG_15_)."""

    place: Path
    prefix: str = ""

    @property
    def own(self) -> Path:
        """Our directory in it."""
        return self.place / RESTORE_DIRECTORY

    @property
    def stage(self) -> Path:
        """What comes."""
        return self.own / "stage"

    @property
    def old(self) -> Path:
        """What goes."""
        return self.own / "old"


Move = tuple[int, str]  # which room, which entry


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """All moves of one swap, fixed before the first: the data directory is the first room."""

    rooms: tuple[Room, ...]
    leaves: tuple[Move, ...]
    comes: tuple[Move, ...]

    def to_json(self) -> dict[str, object]:
        """The form that the journal of a restore keeps."""
        return {
            "rooms": [[str(room.place), room.prefix] for room in self.rooms],
            "leaves": [list(move) for move in self.leaves],
            "comes": [list(move) for move in self.comes],
        }

    @classmethod
    def from_json(cls, value: dict[str, list[list[str]]]) -> SwapPlan:
        """Read ``to_json`` again."""
        return cls(
            tuple(Room(Path(place), prefix) for place, prefix in value["rooms"]),
            tuple((int(room), name) for room, name in value["leaves"]),
            tuple((int(room), name) for room, name in value["comes"]),
        )


def plan_swap(rooms: Sequence[Room]) -> SwapPlan:
    """Decide every move; changes nothing.

    Raises:
        Refused: an entry that would have to move is a mount point.
        NotHealthy: a place cannot be read.
    """
    leaves: list[Move] = []
    comes: list[Move] = []
    try:
        for index, room in enumerate(rooms):
            coming = sorted(_names(room.stage))
            going = [name for name in sorted(_names(room.place)) if _is_replaced(room, name, coming, main=index == 0)]
            if index == 0:
                coming, going = [_without_wal_room(rooms, names) for names in (coming, going)]
            for name in going:
                if os.path.ismount(room.place / name):
                    raise _mounted(room.place / name)
            leaves += [(index, name) for name in going]
            comes += [(index, name) for name in coming]
    except OSError as error:
        raise NotHealthy(
            f"cannot plan how {rooms[0].place} is replaced",
            because=f"{error.filename}: {error.strerror or error}",
            next_step="fix the rights of that directory, then run the same restore again",
        ) from None
    core = (0, CORE)
    return SwapPlan(
        tuple(rooms),
        tuple([move for move in leaves if move == core] + [move for move in leaves if move != core]),
        tuple([move for move in comes if move != core] + [move for move in comes if move == core]),
    )


def _names(directory: Path) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if name != RESTORE_DIRECTORY]
    except FileNotFoundError:
        return []


def _is_replaced(room: Room, name: str, coming: Sequence[str], *, main: bool) -> bool:
    if room.prefix:
        return name.startswith(room.prefix)
    return not main or name in _DATA or name in coming


def _without_wal_room(rooms: Sequence[Room], names: list[str]) -> list[str]:
    """A ``pg_wal`` with a room of its own stays: its link or its mount is not the database."""
    main = rooms[0].place / WAL
    own_room = any(os.path.realpath(room.place) == os.path.realpath(main) for room in rooms[1:])
    return [name for name in names if name != WAL] if own_room else names


def _mounted(path: Path) -> Refused:
    return Refused(
        f"cannot restore to {path.parent}",
        because=f"{path} is a mount point, which cannot be renamed",
        next_step="unmount it or put a link to a directory of that filesystem in its place, then restore again",
    )


def keep_todays_configuration(main: Room) -> list[str]:
    """Let the live directory's own files win over the staged ones; answers with the names that lie beside.

    May be repeated.  Raises OSError.
    """
    beside = []
    for name in sorted(_names(main.stage)):
        staged, live = main.stage / name, main.place / name
        if name in _DATA or name.endswith(RESTORED_SUFFIX) or not os.path.lexists(live):
            continue
        step("pg.swap.keep")
        if staged.is_file() and not staged.is_symlink():
            if live.is_file() and filecmp.cmp(staged, live, shallow=False):
                staged.unlink()
            else:
                os.replace(staged, staged.with_name(name + RESTORED_SUFFIX))
                beside.append(name + RESTORED_SUFFIX)
        elif staged.is_symlink():
            staged.unlink()
        else:
            shutil.rmtree(staged)
    return beside


def empty(directory: Path) -> None:
    """Remove what is in a directory of ours; it may not be there. Raises OSError."""
    for name in _names(directory):
        step("pg.swap.empty")
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def clear_rooms(rooms: Iterable[Room]) -> None:
    """Remove our directory from every room, the data directory's last (its journal names the others).

    May be repeated.  Raises NotHealthy.
    """
    ordered = list(rooms)
    for room in [*ordered[1:], *ordered[:1]]:
        if not os.path.lexists(room.own):
            continue
        try:
            for part in sorted(room.own.iterdir(), key=lambda path: path.name == "journal.json"):
                step("pg.swap.remove")
                if part.is_dir() and not part.is_symlink():
                    shutil.rmtree(part)
                else:
                    part.unlink(missing_ok=True)
            room.own.rmdir()
            sync_directory(room.place)
        except OSError as error:
            raise NotHealthy(
                f"what a restore had left in {room.own} could not be removed",
                because=f"{error.filename}: {error.strerror or error}",
                next_step=f"remove {room.own} by hand when no restore runs",
            ) from None


def refuse_mounts(main: Room) -> None:
    """Raises Refused when an entry of the data directory that would have to move is a mount point."""
    for name in sorted(_DATA - {WAL}):
        if os.path.ismount(main.place / name):
            raise _mounted(main.place / name)
