"""A restore into a directory that belongs to no copy (Exchange's recovery storage group)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

from backupd.durable import sync_directory
from backupd.engines.scratch_directory import remove_scratch
from backupd.engines.sqlite.restore_stage import StagedTarget
from backupd.engines.sqlite.scratch import opened_file
from backupd.errors import NotHealthy, Refused
from backupd.ports import OpenedScratch, TargetFacts
from backupd.steps import step


class DirectoryTarget(StagedTarget):
    """See ``ports.RestoreTarget``; the file keeps its name and is readable by its owner only."""

    def __init__(self, directory: Path, file_name: str) -> None:
        super().__init__(directory / file_name)

    def facts(self) -> TargetFacts:
        """See ``ports.RestoreTarget``."""
        existing = self.path.parent
        while not existing.exists():
            existing = existing.parent
        room = os.statvfs(existing)
        exists = self.path.exists()
        return TargetFacts(
            role="directory",
            path=self.path,
            exists=exists,
            size_bytes=self.path.stat().st_size if exists else 0,
            position=None,
            users=(),
            free_bytes=room.f_bavail * room.f_frsize,
        )

    def begin(self, run_id: str, *, force: bool = False) -> None:  # noqa: ARG002 - the port's shape
        """See ``ports.RestoreTarget``."""
        step("restore.begin")
        if self.path.parent.exists() and not self.path.parent.is_dir():
            raise Refused(
                f"cannot restore to {self.path.parent}",
                because="it is a file and not a directory",
                next_step="name a directory; the restored file gets the name of the active's",
            )
        taken = [name for name in self._names() if name.exists()]
        if taken and not force:
            raise Refused(
                f"cannot restore to {self.path.parent}",
                because=f"{taken[0].name} is there already",
                next_step=f"name an empty directory, or remove {taken[0]} first",
            )
        try:
            for missing in [
                each for each in reversed([self.path.parent, *self.path.parent.parents]) if not each.exists()
            ]:
                missing.mkdir(mode=0o700)  # one by one: with parents=True those above would be open to all
        except OSError as error:
            raise self._refused(error) from None

    def _names(self) -> tuple[Path, Path, Path]:
        return (self.path, self.path.with_name(self.path.name + "-wal"), self.path.with_name(self.path.name + "-shm"))

    def activate(self, *, came_from: str) -> None:  # noqa: ARG002 - no history here
        """See ``ports.RestoreTarget``; a log of a file that was there would spoil the new one, so it goes first."""
        self._stage.sync()
        step("restore.activate")
        try:
            for stale in self._names()[1:]:
                stale.unlink(missing_ok=True)
            os.chmod(self._stage.path, 0o600)
            os.rename(self._stage.path, self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise self._refused(error) from None

    def finish(self) -> None:
        """See ``ports.RestoreTarget``."""

    def abandon(self, *, keep_stage: bool = False) -> None:
        """See ``ports.RestoreTarget``."""
        if not keep_stage:
            self._stage.remove()

    def opened(self) -> AbstractContextManager[OpenedScratch]:
        """See ``ports.ScratchTarget``."""
        return opened_file(self.path)

    def discard(self) -> None:
        """See ``ports.ScratchTarget``."""
        step("restore.discard")
        remove_scratch(self.path.parent)

    def open_up(self) -> Sequence[str]:
        """See ``ports.LooksAround``: a file needs no server; the commands only read it."""
        if not self.path.is_file():
            raise NotHealthy(
                f"there is nothing to look at in {self.path.parent}",
                because=f"{self.path.name} is not there",
                next_step="restore it first, without --stop",
            )
        uri = shlex.quote(f"file:{quote(str(self.path))}?mode=ro")
        return (
            f"look around: sqlite3 {uri}",
            f"a table: sqlite3 {uri} '.dump TABLE' | sqlite3 LIVE",
            f"""rows: sqlite3 {uri} '.mode insert TABLE' 'SELECT * FROM TABLE WHERE ...' | sqlite3 LIVE""",
        )

    def is_open(self) -> bool:
        """See ``ports.LooksAround``; nothing runs."""
        return False

    def close_up(self) -> bool:
        """See ``ports.LooksAround``."""
        return False

    def _refused(self, error: OSError) -> NotHealthy:
        return NotHealthy(
            f"cannot restore to {self.path.parent}",
            because=error.strerror or str(error),
            next_step="make room there or fix its rights, then run the same restore again",
        )
