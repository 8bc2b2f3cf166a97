"""What every restore target of this engine does with its stage; where it may be put is the target's own matter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backupd.engines.postgres.cluster import VOLUME, PgOptions
from backupd.engines.postgres.cluster_check import Looked, check_cluster
from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.recovery import Recovered, Recovery, RecoveryWish
from backupd.engines.postgres.restore_rooms import linked_tablespaces, tablespace_room, unwritable
from backupd.engines.postgres.restore_stage import LABEL, RestoreStage
from backupd.engines.postgres.server_control import PgControl
from backupd.engines.postgres.stage_journal import StageJournal
from backupd.engines.postgres.staged_log import seal_log_status
from backupd.engines.postgres.swap import WAL, Room
from backupd.engines.postgres.tablespace_log import refuse_new_tablespaces
from backupd.engines.postgres.volume_table import Tablespace
from backupd.errors import Refused
from backupd.model.position import Position
from backupd.model.records import LogFile, StoredFile
from backupd.ports import PageFile, ReportProgress


@dataclass(frozen=True, slots=True)
class RestoreChoices:
    """What the policy and the pair say about every restore.

    Args:
        options: the policy's.
        state_dir: of the database; the marker that the passive must be seeded goes there.
        integrity: the policy's check.integrity: none, quick or full.
        started_by_policy: the policy has a restore.start_command, which starts the server.
        system_identifier: of the pair; None when neither server could be asked.
        roles: names of roles to ask the restored server with.
        report: is told how far recovery is.
    """

    options: PgOptions
    state_dir: Path
    integrity: str = "quick"
    started_by_policy: bool = False
    system_identifier: str | None = None
    roles: tuple[str, ...] = ()
    report: ReportProgress | None = field(default=None, compare=False)


class StagedTarget:
    """See ``ports.RestoreTarget``."""

    def __init__(self, main: Room, owner: Owner, choices: RestoreChoices) -> None:
        self._choices = choices
        self._owner = owner
        self._stage = RestoreStage(main, owner)
        self._begun = False
        self._journal: StageJournal | None = None
        self._recovered: Recovered | None = None
        self.notes: tuple[str, ...] = ()

    @property
    def main(self) -> Room:
        """The data directory."""
        return self._stage.main

    @property
    def path(self) -> Path:
        """The data directory's path."""
        return self._stage.main.place

    # --- what the targets differ in ------------------------------------------

    writes_elsewhere = True  # a cluster may have tablespaces anywhere

    def locate(self, tablespaces: Sequence[Tablespace]) -> Mapping[int, Path]:
        """Where each tablespace of the backup belongs. Raises Refused."""
        raise NotImplementedError

    def used_wal(self) -> Sequence[Path]:
        """Directories with history files whose numbers are taken."""
        return ()

    def commits_after(self, position: Position, at: datetime | None) -> int | None:  # noqa: ARG002 - nothing is here
        """See ``ports.RestoreTarget``."""
        return None

    # --- pages and log --------------------------------------------------------

    def stage_file(self, stored: StoredFile) -> Path | PageFile:
        """See ``ports.RestoreTarget``."""
        small = self._stage.small_file(stored)
        if small is not None:
            return small
        table = self._stage.known_table(stored)
        if table is None:
            if self._begun:
                self._stage.refuse_table(stored)
            return self._stage.no_volume()
        if not self._begun:
            return self._stage.volume()
        self.control().bin_directory()  # a host without these programs is told so before all is fetched
        located = self.locate(table.header.tablespaces)
        self._refuse_shared(located)
        self._stage.tablespaces = {oid: self._tablespace_room(place) for oid, place in located.items()}
        self._note_rooms()
        self.before_pages()
        return self._stage.open_volume()

    def before_pages(self) -> None:
        """All places are known, and no page was fetched yet."""

    def _tablespace_room(self, place: Path) -> Room:
        return tablespace_room(place, self._stage.major)

    def _refuse_shared(self, located: Mapping[int, Path]) -> None:
        for oid, place in located.items():
            if not place.is_absolute() or place.resolve().is_relative_to(self.path.resolve() / "base"):
                raise Refused(
                    f"cannot restore to {self.path}",
                    because=f"tablespace {oid} would lie in {place}",
                    next_step="give it a directory outside of the data directory",
                )

    def _note_rooms(self) -> None:
        """The places are known now; they are written down before anything is there, so that recovery finds it."""
        if self._journal is not None:
            self._journal = self._journal.noting(self._stage.rooms).write(self.main, self._owner)

    def live_volume(self, stored: StoredFile) -> PageFile | None:
        """The cluster that is there now as the same volume, for a delta; None for other files, and where none is."""
        table = self._stage.known_table(stored) if stored.path == VOLUME else None
        if table is None or not (self.path / "PG_VERSION").exists():
            return None
        from backupd.engines.postgres.volume_files import VolumeFiles

        return VolumeFiles(self.path, table, tablespaces=linked_tablespaces(self.path))

    def live_file(self, stored: StoredFile) -> Path | PageFile | None:  # noqa: ARG002 - the port's shape
        """See ``ports.RestoreTarget``."""
        return None

    def reserve(self, histories: Collection[str]) -> None:
        """See ``ports.RestoreTarget``: timelines that the archive has seen are not begun a second time."""
        self._stage.log.newest_used = max((int(history) for history in histories), default=1)

    def log_path(self, log: LogFile) -> Path | None:
        """See ``ports.RestoreTarget``: straight into the staged ``pg_wal``."""
        return self._stage.place_log(log)

    def read_log(self, path: Path) -> LogFile:
        """See ``ports.RestoreTarget``."""
        return self._stage.log.read(path)

    def apply_log(self, path: Path, *, until: Position | None, at: datetime | None) -> Position:  # noqa: ARG002
        """See ``ports.RestoreTarget``: recovery replays it in ``check``."""
        return self._stage.log.take(path)

    # --- recovery -------------------------------------------------------------

    def control(self) -> PgControl:
        """Starts the staged server."""
        return PgControl(
            self._stage.path,
            bin_directory=self._bin_directory(),
            major=self._stage.major,
            owner=self._owner,
        )

    def _bin_directory(self) -> Path | None:
        return self._choices.options.bin_directory

    def check(self, until: Position | None, at: datetime | None) -> Sequence[str]:
        """See ``ports.RestoreTarget``: recovery runs here, on a private socket, and the result is looked at."""
        stage, facts = self._stage, self._stage.header
        stage.complete(beside=self.used_wal())
        control = self.control()
        refuse_new_tablespaces(control, stage.path / WAL, facts, elsewhere=self.writes_elsewhere)
        wish = RecoveryWish(
            history=until.history if until is not None else stage.log.last_history,
            until=until,
            at=at,
            log_end=stage.log.end,
            segment_bytes=facts.wal_segment_bytes,
            settings=facts.settings,
        )
        with Recovery(stage.path, control, stage.main.own, wish, self._choices.report).recovered() as found:
            self.on_promotion(found)
            looked = self._look(control, found)
        self._recovered = found
        self.notes = (*self.notes, *looked.notes)
        self._tidy(found)
        return looked.findings

    def on_promotion(self, found: Recovered) -> None:
        """The private server has begun its timeline and not written anything there yet."""

    @property
    def roles_to_ask(self) -> tuple[str, ...]:
        """Names of roles that the private server may know."""
        return (*self._choices.roles, "postgres", self._owner.name)

    def _look(self, control: PgControl, found: Recovered) -> Looked:
        return check_cluster(
            control,
            found.socket_directory,
            system_identifier=self._stage.header.system_identifier,
            integrity=self._choices.integrity,
            roles=self.roles_to_ask,
        )

    def _tidy(self, found: Recovered) -> None:
        try:
            seal_log_status(self._stage.path / WAL, self._owner, int(found.position.history))
            for name in (f"{LABEL}.old", "tablespace_map.old", "current_logfiles"):
                (self._stage.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from None

    def reached(self) -> Position | None:
        """See ``ports.RestoreTarget``: the new timeline, and where it began."""
        return self._recovered.position if self._recovered else None
