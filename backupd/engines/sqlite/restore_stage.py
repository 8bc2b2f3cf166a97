"""The file that a restore builds beside its target: pages first, then log, then the engine's own check."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from backupd.engines.sqlite.check import check_file
from backupd.engines.sqlite.logcheck import verify_log
from backupd.engines.sqlite.logfile import to_log_file
from backupd.engines.sqlite.pagemap import PageMap
from backupd.engines.sqlite.replay import apply_partially
from backupd.errors import DamageFound, NotHealthy
from backupd.model.position import Position
from backupd.model.records import LogFile, StoredFile
from backupd.steps import step

STAGE_SUFFIX = ".backupd-restore"


def stage_of(path: Path) -> Path:
    """Where the new content of ``path`` is built: beside it, so that a rename puts it in place."""
    return path.with_name(path.name + STAGE_SUFFIX)


class RestoreStage:
    """One staged file and the page map that proves each log that is applied to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: PageMap | None = None

    def read_log(self, path: Path) -> LogFile:
        """See ``ports.RestoreTarget``."""
        found = verify_log(path)
        return to_log_file(found.header, found.digest, found.size_bytes)

    def apply_log(self, path: Path, *, until: Position | None, at: datetime | None) -> Position:
        """See ``ports.RestoreTarget``; the pages before a whole log must be the ones that it was cut from."""
        header = verify_log(path).header
        try:
            if self._map is None:
                self._map = PageMap.of_file(self.path, header.page_bytes)
            before = self._map.checksum
            here, cut_from = (before, self._map.pages), (header.checksum_before, header.pages_before)
            if header.kind.has_pages and here != cut_from:
                raise DamageFound(
                    f"log {header.number} of history {header.history} does not fit the restored pages",
                    because=f"it was cut from {cut_from[1]} pages with the checksum {cut_from[0]:016x}, "
                    f"and here are {here[1]} with {here[0]:016x}",
                    next_step="backupctl verify --level data, then restore from an older full",
                )
            end = apply_partially(
                self.path,
                path,
                until_offset=until.offset if until is not None else None,
                until_us=int(at.timestamp() * 1_000_000) if at is not None else None,
                page_map=self._map,
                durable=False,
            )
        except OSError as error:
            raise self._refused(error) from None
        return end.position

    def check(self, level: str = "quick") -> Sequence[str]:
        """See ``ports.RestoreTarget``."""
        return check_file(self.path, level)

    def sync(self) -> None:
        """Make the staged file durable."""
        step("restore.sync_stage")
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._refused(error) from None

    def remove(self) -> bool:
        """Delete the stage; False when there was none."""
        self._map = None
        try:
            self.path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _refused(self, error: OSError) -> NotHealthy:
        return NotHealthy(
            f"cannot build the restored file {self.path}",
            because=error.strerror or str(error),
            next_step=f"make room on {self.path.parent} or fix its rights, then run the same restore again",
        )


class StagedTarget:
    """What every restore target does with its stage; where it may be put is the target's own matter."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stage = RestoreStage(stage_of(path))

    def commits_after(self, position: Position, at: datetime | None) -> int | None:  # noqa: ARG002 - no pair's log here
        """See ``ports.RestoreTarget``."""
        return None

    def stage_file(self, stored: StoredFile) -> Path:  # noqa: ARG002 - one file a database
        """See ``ports.RestoreTarget``."""
        return self._stage.path

    def live_file(self, stored: StoredFile) -> Path | None:  # noqa: ARG002 - one file a database
        """See ``ports.RestoreTarget``."""
        return self.path if self.path.exists() else None

    def reserve(self, histories: Collection[str]) -> None:
        """See ``ports.RestoreTarget``; a new history here is random, and meets none that was."""

    def log_path(self, log: LogFile) -> Path | None:  # noqa: ARG002 - a log file is read once and goes
        """See ``ports.RestoreTarget``."""
        return None

    def read_log(self, path: Path) -> LogFile:
        """See ``ports.RestoreTarget``."""
        return self._stage.read_log(path)

    def apply_log(self, path: Path, *, until: Position | None, at: datetime | None) -> Position:
        """See ``ports.RestoreTarget``."""
        return self._stage.apply_log(path, until=until, at=at)

    def check(self, until: Position | None, at: datetime | None) -> Sequence[str]:  # noqa: ARG002 - replayed already
        """See ``ports.RestoreTarget``."""
        return self._stage.check()

    def reached(self) -> Position | None:
        """See ``ports.RestoreTarget``; the log files say it."""
        return None
