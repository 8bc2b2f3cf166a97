"""A restore into a directory that belongs to no copy: a cluster that starts by itself and reaches nobody.

The result archives nothing, streams from nobody and has no port of its own: who
starts it names one (``pg_ctl -D DIR -o '-p PORT -k DIR' start``).  Its tablespaces
are in ``DIR/tablespaces/<oid>``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from backupd.engines.postgres import look_around
from backupd.engines.postgres.active_target import free_bytes
from backupd.engines.postgres.live_directory import LiveDirectory, owner_for
from backupd.engines.postgres.owner import Owner, sync_tree
from backupd.engines.postgres.recovery import AUTO_CONF
from backupd.engines.postgres.restore_rooms import link_staged, open_room, unwritable
from backupd.engines.postgres.scratch import ScratchCluster, refuse_out_of_reach
from backupd.engines.postgres.server_control import PgControl
from backupd.engines.postgres.stage_journal import Phase, StageJournal
from backupd.engines.postgres.staged_target import RestoreChoices, StagedTarget
from backupd.engines.postgres.swap import RESTORED_SUFFIX, Room, plan_swap
from backupd.engines.postgres.swap_moves import carry_out, nobody_starts
from backupd.engines.postgres.volume_table import Tablespace
from backupd.errors import Refused
from backupd.ports import OpenedScratch, TargetFacts
from backupd.steps import step

TABLESPACE_DIRECTORY = "tablespaces"

_CONFIGURATION = ("postgresql.conf", AUTO_CONF, "pg_hba.conf", "pg_ident.conf")
_CONF = """# Written by backupd: this cluster was restored into a scratch directory.
# It reaches nobody: it archives nothing, streams from nobody, and answers on a socket of its owner's only.
# The configuration that it had lies beside, as postgresql.conf.restored and so on.
listen_addresses = ''
unix_socket_directories = '{directory}'
unix_socket_permissions = 0700
archive_mode = off
max_logical_replication_workers = 0
"""
_SETTINGS = (
    "max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions",
    "max_locks_per_transaction", "track_commit_timestamp", "wal_level",
)  # fmt: skip


class DirectoryTarget(StagedTarget):
    """See ``ports.RestoreTarget``; the directory must be empty or not there.

    Args:
        directory: where the cluster comes to be.
        choices: what holds for every restore.
        like: whose the files become when the directory is not there or is root's: the active's owner.
    """

    writes_elsewhere = False

    def __init__(self, directory: Path, choices: RestoreChoices, *, like: Owner | None = None) -> None:
        main = Room(directory)
        super().__init__(main, _owner(directory, like), choices)

    def facts(self) -> TargetFacts:
        """See ``ports.RestoreTarget``."""
        return TargetFacts(
            role="directory",
            path=self.path,
            exists=bool(self._taken()),
            size_bytes=0,
            position=None,
            users=(),
            free_bytes=free_bytes(self.path),
            keeps_log=True,
        )

    def _taken(self) -> list[str]:
        """What is there and is not an unfinished restore of ours."""
        if not self.path.is_dir():
            return []
        ours = {self.main.own.name}
        if self.main.own.is_dir():
            ours.add(TABLESPACE_DIRECTORY)
        return sorted(set(os.listdir(self.path)) - ours)

    def begin(self, run_id: str, *, force: bool = False) -> None:  # noqa: ARG002 - a cluster never replaces what is there
        """See ``ports.RestoreTarget``."""
        if self.path.exists() and not self.path.is_dir():
            raise self._refused("it is a file and not a directory", "name a directory that is empty or not there")
        taken = self._taken()
        if taken:
            raise self._refused(f"{taken[0]} is there already", f"name an empty directory, or empty {self.path} first")
        refuse_out_of_reach(self.path, self._owner)
        try:
            fresh = not self.path.exists()
            self._owner.make_directory(self.path)
            if not fresh:
                self._owner.give(self.path)
                self.path.chmod(0o700)
        except OSError as error:
            raise unwritable(self.path, error) from None
        open_room(self.main, self._owner)
        self._journal = StageJournal(run_id).write(self.main, self._owner)
        self._begun = True

    def _note_rooms(self) -> None:
        """All places are below the directory, and go with it."""

    def locate(self, tablespaces: Sequence[Tablespace]) -> Mapping[int, Path]:
        """All below the directory itself."""
        return {each.oid: self.path / TABLESPACE_DIRECTORY / str(each.oid) for each in tablespaces}

    def activate(self, *, came_from: str) -> None:  # noqa: ARG002 - no pair to tell
        """See ``ports.RestoreTarget``."""
        if self._journal is None:
            raise self._refused("the restore into it was not begun", "run the restore again")
        stage = self._stage
        try:
            link_staged(stage.path, stage.tablespaces, self._owner, staged=False)
            self._write_configuration()
            for name in ("postmaster.opts", "postmaster.pid", "standby.signal", "recovery.signal"):
                (stage.path / name).unlink(missing_ok=True)
            for room in stage.rooms:
                sync_tree(room.stage)
        except OSError as error:
            raise unwritable(self.path, error) from None
        plan = plan_swap(stage.rooms)
        self._journal = self._journal.but(phase=Phase.SWAPPING, plan=plan.to_json()).write(self.main, self._owner)
        carry_out(plan, nobody_starts)
        self._journal = self._journal.but(phase=Phase.SWAPPED).write(self.main, self._owner)

    def _write_configuration(self) -> None:
        """Own files for the server that starts here; a restored data_directory or archive_command would do harm."""
        stage, owner = self._stage.path, self._owner
        step("pg.restore.configuration")
        for name in _CONFIGURATION:
            beside = stage / (name + RESTORED_SUFFIX)
            if (stage / name).exists() and not beside.exists():
                os.rename(stage / name, beside)
        found = self._stage.header.settings
        lines = [f"{name} = '{found[name]}'\n" for name in _SETTINGS if name in found]
        directory = str(self.path).replace("'", "''")
        owner.write_file(stage / "postgresql.conf", (_CONF.format(directory=directory) + "".join(lines)).encode())
        # The socket is in a directory of mode 0700: who gets there owns the files anyway.
        owner.write_file(stage / "pg_hba.conf", b"local all all trust\n")
        owner.write_file(stage / "pg_ident.conf", b"")

    def finish(self) -> None:
        """See ``ports.RestoreTarget``; goes on with a swap that a crash had cut."""
        live = self._live()
        journal = live.journal()
        if journal is not None:
            live.go_on(journal)
            live.clear(journal)

    def opened(self) -> AbstractContextManager[OpenedScratch]:
        """See ``ports.ScratchTarget``."""
        scratch = self._scratch()
        return scratch.opened(self._stage.header.system_identifier, self.roles_to_ask)

    def discard(self) -> None:
        """See ``ports.ScratchTarget``."""
        self._scratch().discard(self.main.stage)

    def _scratch(self) -> ScratchCluster:
        return ScratchCluster(self.path, self._owner, self._choices.options)

    def abandon(self, *, keep_stage: bool = False) -> None:
        """See ``ports.RestoreTarget``; the directory is empty again."""
        live = self._live()
        journal = live.journal()
        if journal is not None and journal.phase is not Phase.BUILDING:
            self.finish()  # nothing was there before: to go on is as good as to go back
            return
        live.stop_staged()
        if not keep_stage and os.path.lexists(self.main.own):
            step("pg.restore.abandon")
            shutil.rmtree(self.path / TABLESPACE_DIRECTORY, ignore_errors=True)
            live.clear(journal)

    # --- to look around -----------------------------------------------------------

    def open_up(self) -> Sequence[str]:
        """See ``ports.LooksAround``: a server that answers on a socket in the directory."""
        return look_around.start(self._restored(), self.roles_to_ask)

    def is_open(self) -> bool:
        """See ``ports.LooksAround``."""
        return self._restored().is_running()

    def close_up(self) -> bool:
        """See ``ports.LooksAround``."""
        return look_around.stop(self._restored())

    def _restored(self) -> PgControl:
        return PgControl(self.path, bin_directory=self._choices.options.bin_directory, owner=self._owner)

    def _live(self) -> LiveDirectory:
        options = self._choices.options
        return LiveDirectory(
            self.main,
            self._owner,
            bin_directory=options.bin_directory,
            seconds_max=options.server_seconds_max,
        )

    def _refused(self, because: str, next_step: str) -> Refused:
        return Refused(f"cannot restore to {self.path}", because=because, next_step=next_step)


def _owner(directory: Path, like: Owner | None) -> Owner:
    """The directory's owner; where that is root, or it is not there, the user of the cluster that was backed up."""
    if os.geteuid() != 0:
        return Owner(os.geteuid(), os.getegid())
    if directory.is_dir():
        owner = Owner.of(directory)
        if owner.uid != 0:
            return Owner(owner.uid, owner.gid)
    if like is not None and like.uid != 0:
        return Owner(like.uid, like.gid)
    return owner_for(directory)
