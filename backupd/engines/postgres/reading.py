"""The files of a cluster in the order in which a backup reads them: all, then its control file, then the table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from backupd.engines.postgres.backup_mode import BackupEnd
from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.connect import connect
from backupd.engines.postgres.data_files import SERVER_LOGS, ClusterFiles, find_files, unreadable
from backupd.engines.postgres.facts import ServerFacts
from backupd.engines.postgres.freeze import PgMoving
from backupd.engines.postgres.frozen import PgFreeze
from backupd.engines.postgres.settling import Moving
from backupd.engines.postgres.small_sources import ControlSource, TableSource
from backupd.engines.postgres.timelines import story_told_by, timeline_story
from backupd.engines.postgres.volume_source import VolumeSource
from backupd.engines.postgres.volume_table import ClusterFacts, encode
from backupd.engines.postgres.wal_names import history_name, parse_lsn
from backupd.errors import FreezeBroken
from backupd.ports import PageSource, Place, Snapshot

_LOG_ROOM_BYTES = 256 << 20  # log that comes while a backup runs


class Reading:
    """One full or copy on its way through the cluster's files.

    Args:
        copy: the copy that is read.
        facts: what its server said before the freeze.
    """

    def __init__(self, copy: PgCopy, facts: ServerFacts) -> None:
        self._copy, self._facts = copy, facts
        self._files: ClusterFiles | None = None
        self._freeze: PgFreeze | PgMoving | None = None
        self.notes: list[str] = []

    @property
    def source(self) -> str:
        """The copy's name."""
        return self._copy.name

    def places(self) -> Sequence[Place]:
        """Look which files there are; called by the freeze, when they stand still."""
        own_log = {*SERVER_LOGS, *([] if self._facts.log_directory.startswith("/") else [self._facts.log_directory])}
        self._files = find_files(self._copy.data_directory, emptied=own_log)
        return self._files.places()

    def began(self, freeze: PgFreeze | PgMoving) -> None:
        """The freeze stands, or the backup mode does."""
        self._freeze = freeze

    def sources(self, snapshots: Sequence[Snapshot]) -> Iterator[PageSource]:
        """Each file as the archive stores it; what comes next is made when the one before was read.

        Raises:
            DamageFound: a file is not what it must be.
            FreezeBroken: replay resumed while the files of a frozen cluster were read in place.
            NotHealthy: a file cannot be read, or not all of it was.
        """
        files, freeze = self._files, self._freeze
        if files is None or freeze is None:
            raise FreezeBroken(
                "there is no snapshot of this cluster",
                because="it was not frozen by this run",
                next_step="run the backup again",
            )
        moving = self._moving(freeze)
        roots = files.roots([snapshot.directory for snapshot in snapshots])
        volume = VolumeSource(files, roots, data_checksums=self._facts.data_checksums, moving=moving)
        yield volume
        checked = volume.finish()
        unchecked = f", {checked.unchecked_pages} of them without a checksum" if checked.unchecked_pages else ""
        self.notes += [f"{checked.relation_pages} pages of relations were checked{unchecked}", *checked.notes]
        yield ControlSource(roots[""], moving=moving is not None)
        end = self._end(freeze)
        table = volume.table(self._cluster_facts(files, end, snapshots[0].provider, moving is not None))
        yield TableSource(encode(table))

    def _moving(self, freeze: PgFreeze | PgMoving) -> Moving | None:
        if not isinstance(freeze, PgMoving):
            return None
        return Moving(start_lsn=freeze.start_lsn, newest_lsn=self._newest_lsn)

    def _newest_lsn(self) -> int:
        """How far the log goes that a page of the moving copy may come from."""
        with connect(self._copy.conninfo, copy=self._copy.name) as server:
            place = "coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"
            wanted = f"CASE WHEN pg_is_in_recovery() THEN {place} ELSE pg_current_wal_insert_lsn() END"
            return parse_lsn(str(server.value(f"SELECT ({wanted})::text")))

    def _end(self, freeze: PgFreeze | PgMoving) -> BackupEnd:
        if isinstance(freeze, PgMoving):
            return freeze.stop()
        freeze.thaw()  # it was thawed when the snapshot was taken; or the files were read in place, all of them by now
        if freeze.end is None:
            raise FreezeBroken(
                f"the files of {self._copy.name} did not stand still while they were read",
                because=freeze.because or "replay resumed by itself",
                next_step="raise freeze.seconds_max in the policy, or give the passive a filesystem with snapshots",
            )
        return freeze.end

    def end(self) -> BackupEnd:
        """The label and the log that the files need; known when the table was read."""
        if self._freeze is None or self._freeze.end is None:
            raise FreezeBroken(
                "the end of the backup is not known",
                because="its files were not read to the end",
                next_step="run the backup again",
            )
        return self._freeze.end

    def _cluster_facts(self, files: ClusterFiles, end: BackupEnd, provider: str, moving: bool) -> ClusterFacts:
        facts = self._facts
        return ClusterFacts(
            server_version_num=facts.version_num,
            system_identifier=facts.system_identifier,
            timeline=end.start_timeline,
            start_lsn=end.start_lsn,
            stop_lsn=end.stop_lsn,
            backup_label=end.backup_label,
            tablespace_map=end.tablespace_map,
            page_bytes=facts.block_bytes,
            wal_segment_bytes=facts.wal_segment_bytes,
            data_checksums=facts.data_checksums,
            tablespaces=files.tablespaces,
            settings=dict(facts.restore_settings),
            history_files=_history_files(end.start_timeline, self._copy.data_directory),
            provider=provider,
            mode="moving" if moving else "frozen",
        )


def _history_files(timeline: int, data_directory: Path) -> dict[str, str]:
    if timeline == 1:
        return {}
    story = timeline_story(timeline, data_directory)
    found = {history_name(timeline): story.text}
    for ended in story.ancestry:
        if ended.history != "1":
            number = int(ended.history)
            older = story_told_by(story, number) or timeline_story(number, data_directory)
            found[history_name(number)] = older.text
    return found


def tablespace_locations(data_directory: Path) -> list[Path]:
    """Where the tablespaces lie that are outside of the data directory."""
    links = data_directory / "pg_tblspc"
    try:
        return [
            Path(os.path.realpath(links / name)) for name in sorted(os.listdir(links)) if (links / name).is_symlink()
        ]
    except OSError as error:
        raise unreadable(links, error.strerror or str(error)) from error


def room_bytes(data_directory: Path, *, copied: bool) -> int:
    """About how much room a backup needs beside the cluster, ``copied``: its files once more. Raises NotHealthy."""
    files = sum(entry.size_bytes for entry in find_files(data_directory).entries) if copied else 0
    return _LOG_ROOM_BYTES + files
