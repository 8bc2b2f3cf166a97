"""The new data directory that a restore builds inside the one it will replace: pages, log, label, control file last.

It lies in ``.backupd-restore`` below its target: the same filesystem, no rights in
the directory above needed, and one place to look at after a crash.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.engines.postgres import restore_rooms as places
from backupd.engines.postgres.cluster import CONTROL, TABLE, VOLUME
from backupd.engines.postgres.control_file import CONTROL_PATH, read_control
from backupd.engines.postgres.owner import Owner, sync_tree
from backupd.engines.postgres.staged_log import StagedLog, used_histories
from backupd.engines.postgres.swap import WAL, Room
from backupd.engines.postgres.volume_table import ClusterFacts, VolumeTable, decode
from backupd.errors import DamageFound
from backupd.model.records import LogFile, StoredFile
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.engines.postgres.volume_files import VolumeFiles

LABEL = "backup_label"
_SMALL_BYTES_MAX = 256 << 20  # a table of two million files
# Directories that a server needs and that a backup leaves empty or out.
_NEEDED = (
    "pg_commit_ts", "pg_dynshmem", "pg_logical/mappings", "pg_logical/snapshots", "pg_notify", "pg_replslot",
    "pg_serial", "pg_snapshots", "pg_stat", "pg_stat_tmp", "pg_subtrans", "pg_tblspc", "pg_twophase", "global",
    "pg_wal/archive_status",
)  # fmt: skip


class RestoreStage:
    """One staged cluster.

    Args:
        main: the data directory that it will become; the stage is inside.
        owner: whom its files will belong to.
    """

    def __init__(self, main: Room, owner: Owner) -> None:
        self.main, self.owner = main, owner
        self.path = main.stage
        self.tablespaces: dict[int, Room] = {}
        self.wal: Room | None = None
        self.log = StagedLog(self.path / WAL, owner, lambda: self.header)
        self._table: VolumeTable | None = None

    @property
    def rooms(self) -> tuple[Room, ...]:
        """All places of the cluster, the data directory first."""
        more = [*self.tablespaces.values(), *([self.wal] if self.wal else [])]
        return (self.main, *more)

    @property
    def control_path(self) -> Path:
        """Where pg_control waits until everything else is in place."""
        return self.main.own / CONTROL

    def table(self) -> VolumeTable:
        """The fetched table. Raises DamageFound when it is not there or not whole."""
        if self._table is None:
            try:
                self._table = decode((self.main.own / TABLE).read_bytes())
            except OSError as error:
                raise DamageFound(
                    "the table of the cluster's files is not in the stage",
                    because=f"{self.main.own / TABLE}: {error.strerror or error}",
                    next_step="run the same restore again",
                ) from None
        return self._table

    @property
    def header(self) -> ClusterFacts:
        """What the backup says of its cluster. Raises DamageFound."""
        return self.table().header

    @property
    def major(self) -> int:
        """The major version of the backed up server."""
        return self.header.major

    # --- pages --------------------------------------------------------------

    def known_table(self, stored: StoredFile) -> VolumeTable | None:
        """The table in the stage, if it fits the stored volume; a plan is made before anything is fetched."""
        try:
            table = self.table()
        except DamageFound:
            return None
        return table if table.size_bytes == stored.size_bytes else None

    def small_file(self, stored: StoredFile) -> Path | None:
        """Where the table or the control file is fetched to; None for the volume."""
        if stored.path == TABLE:
            self._table = None
        if stored.path in (TABLE, CONTROL) and stored.size_bytes > _SMALL_BYTES_MAX:
            raise DamageFound(
                f"the record of the backup cannot be right about {stored.path}",
                because=f"it says that this file has {stored.size_bytes} bytes, and {_SMALL_BYTES_MAX} is the most",
                next_step="backupctl verify --level data, then restore from another full",
            )
        return self.main.own / stored.path if stored.path in (TABLE, CONTROL) else None

    def refuse_table(self, stored: StoredFile) -> None:
        """The table was fetched, and the volume is not the one that it describes. Raises DamageFound."""
        raise DamageFound(
            "the backup's pages do not fit its table of files",
            because=f"the table is of {self.table().size_bytes} bytes, and {stored.path} has {stored.size_bytes}",
            next_step="backupctl verify --level data, then restore from another full",
        )

    def no_volume(self) -> Path:
        """A place where nothing is: what stands for the volume while its table is not known."""
        return self.main.own / VOLUME

    def open_volume(self) -> VolumeFiles:
        """The stage as one file; what an earlier try had left that the table does not name goes first.

        Raises:
            NotHealthy: a place cannot be written.
        """
        for room in self.rooms:
            places.open_room(room, self.owner)
        places.link_staged(self.path, self.tablespaces, self.owner, staged=True)
        try:
            self.log.forget()
            if (self.path / WAL).is_symlink():
                (self.path / WAL).unlink()
        except OSError as error:
            raise places.unwritable(self.main.place, error) from None
        volume = self.volume()
        try:
            for stray in sorted(volume.strays(), reverse=True):
                self._remove_stray(stray)
        except OSError as error:
            raise places.unwritable(self.main.place, error) from None
        return volume

    def volume(self) -> VolumeFiles:
        """The stage as one file, as it is. Raises DamageFound when the table is not there."""
        from backupd.engines.postgres.volume_files import VolumeFiles

        staged = {oid: room.stage for oid, room in self.tablespaces.items()}
        return VolumeFiles(self.path, self.table(), tablespaces=staged, owner=self.owner)

    def _remove_stray(self, path: Path) -> None:
        if path.name == WAL or path.parent.name == "pg_tblspc" or not os.path.lexists(path):
            return
        step("pg.restore.stray")
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    # --- the end ------------------------------------------------------------

    def place_log(self, log: LogFile) -> Path:
        """Where a segment goes: where ``pg_wal`` really is. Raises NotHealthy."""
        if self.wal is not None:
            places.link_wal(self.path, self.wal)
        return self.log.place(log)

    def complete(self, *, beside: Iterable[Path] = ()) -> None:
        """Put in place what is no page: directories, history files, label, and pg_control at the very last.

        Args:
            beside: ``pg_wal`` directories whose histories are used already, so that recovery begins none of them.

        Raises:
            DamageFound: the backup has no label, or log between its start and stop is missing.
            NotHealthy: the disk refuses.
        """
        facts = self.header
        self.check_label()
        self.log.check_whole()
        try:
            for name in _NEEDED:
                self.owner.make_directory(self.path / name)
            for name, text in used_histories(self.log.stories(), beside, self.log.newest_used).items():
                self.owner.write_file(self.path / WAL / name, text.encode())
            step("pg.restore.label")
            self.owner.write_file(self.path / LABEL, facts.backup_label.encode())
            for room in self.rooms:
                self.owner.give_tree(room.stage)
            if (self.path / LABEL).read_bytes() != facts.backup_label.encode():
                raise _no_label("what was written is not what is there")
            if self.control_path.exists():
                self._check_control()
                sync_tree(self.path / "global")
                step("pg.restore.control")
                os.replace(self.control_path, self.path / CONTROL_PATH)
                self.owner.give(self.path / CONTROL_PATH)
                (self.path / CONTROL_PATH).chmod(self.owner.file_mode)
        except OSError as error:
            raise places.unwritable(self.main.place, error) from None

    def check_label(self) -> None:
        """Raises DamageFound when the table holds no label: a copy without it starts as well, from the wrong place."""
        facts = self.header
        if "START WAL LOCATION:" not in facts.backup_label or "CHECKPOINT LOCATION:" not in facts.backup_label:
            raise _no_label("the backup's table holds none")

    def _check_control(self) -> None:
        found = read_control(self.control_path).system_identifier
        if str(found) != self.header.system_identifier:
            raise DamageFound(
                "the restored control file is of another cluster",
                because=f"it says {found}, and the table says {self.header.system_identifier}",
                next_step="backupctl verify --level data",
            )


def _no_label(because: str) -> DamageFound:
    return DamageFound(
        "the restored cluster has no backup_label",
        because=because,
        next_step="restore from another full: without the label a server starts from the wrong place",
    )
