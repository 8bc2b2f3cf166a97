"""The log of a staged cluster: segments straight in its ``pg_wal``, and the history files that lead recovery on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.restore_rooms import unwritable
from backupd.engines.postgres.timelines import parse_history
from backupd.engines.postgres.volume_table import ClusterFacts
from backupd.engines.postgres.wal_names import (
    history_name,
    parse_history_name,
    parse_segment_name,
    segment_end,
    segment_name,
    segment_of,
)
from backupd.engines.postgres.wal_segment import check_segment
from backupd.errors import DamageFound
from backupd.model.kinds import LogKind
from backupd.model.position import Position
from backupd.model.records import LogFile
from backupd.steps import step

_TIMELINES_MAX = 1 << 14
_KEPT = "# this timeline was used; backupd keeps its number from being taken\n"


class StagedLog:
    """What recovery will find in the stage's ``pg_wal``.

    Args:
        directory: that ``pg_wal``.
        owner: whom its files will belong to.
        facts: answers with the backup's facts once its table is there.
    """

    def __init__(self, directory: Path, owner: Owner, facts: Callable[[], ClusterFacts]) -> None:
        self.directory = directory
        self._owner, self._facts = owner, facts
        self._logs: dict[Path, LogFile] = {}
        self._stories: dict[str, str] = {}
        self._last: LogFile | None = None
        self.newest_used = 1

    def forget(self) -> None:
        """Remove log of an earlier try: what is needed is fetched again, and nothing else may be replayed."""
        self._logs.clear()
        self._last = None
        if self.directory.is_dir():
            for path in self.directory.iterdir():
                if path.is_file() and not path.is_symlink():
                    path.unlink()

    def place(self, log: LogFile) -> Path:
        """Where a segment goes; its history is remembered, so that recovery finds its way."""
        path = self.directory / segment_name(int(log.history), log.number, self._facts().wal_segment_bytes)
        try:
            self._owner.make_directory(path.parent)
        except OSError as error:
            raise unwritable(path.parent, error) from None
        if log.ancestry:
            self._stories[history_name(int(log.history))] = log.ancestry
        self._logs[path] = log
        return path

    def know(self, name: str, text: str) -> None:
        """A history file that nothing in the backup brings."""
        self._stories[name] = text

    def of(self, path: Path) -> LogFile:
        """What was placed at ``path``."""
        return self._logs[path]

    def read(self, path: Path) -> LogFile:
        """A fetched segment, verified whole against what it must be. Raises DamageFound."""
        size = self._facts().wal_segment_bytes
        named = parse_segment_name(path.name, size)
        if named is None:
            raise DamageFound(
                f"{path.name} is no segment of the log",
                because=f"its name is not one for segments of {size} bytes",
                next_step="backupctl verify --level data",
            )
        timeline, segno = named
        story = self.stories().get(history_name(timeline), "")
        found = check_segment(
            path,
            system_identifier=int(self._facts().system_identifier),
            major=self._facts().major,
            timeline=timeline,
            segno=segno,
            segment_bytes=size,
            ancestry=parse_history(story) if story else (),
        )
        return LogFile(
            history=str(timeline),
            number=segno,
            kind=LogKind.SEGMENT,
            start=Position(str(timeline), segno * size),
            end=Position(str(timeline), (segno + 1) * size),
            size_bytes=size,
            digest=found.digest,
            previous_digest="",
        )

    def take(self, path: Path) -> Position:
        """Keep a verified segment; it is replayed by the recovery. Raises NotHealthy."""
        log = self._logs[path]
        step("pg.restore.log")
        try:
            self._owner.give(path)
            path.chmod(self._owner.file_mode)
        except OSError as error:
            raise unwritable(path.parent, error) from None
        self._last = log
        return log.end

    def stories(self) -> dict[str, str]:
        """The history files that are known, by name."""
        return {**self._facts().history_files, **self._stories}

    @property
    def last_history(self) -> str:
        """The history that the newest log belongs to; without log the one of the pages."""
        return self._last.history if self._last else str(self._facts().timeline)

    @property
    def end(self) -> int:
        """Up to which LSN log was put in place; without log the end of the segment with the stop LSN."""
        if self._last is not None:
            return self._last.end.offset
        facts = self._facts()
        return segment_end(facts.stop_lsn, facts.wal_segment_bytes)

    def check_whole(self) -> None:
        """Every segment from the backup's start to the end must be there. Raises DamageFound."""
        facts = self._facts()
        size, first = facts.wal_segment_bytes, segment_of(facts.start_lsn, facts.wal_segment_bytes)
        end = max(self.end, facts.stop_lsn)
        here = {named[1] for path in self.directory.glob("*") if (named := parse_segment_name(path.name, size))}
        wanted = range(first, segment_end(end, size) // size)
        missing_count = len(wanted) - sum(segno in wanted for segno in here)
        if missing_count:
            missing = next(segno for segno in wanted if segno not in here)
            raise DamageFound(
                "log that the restored pages need is missing",
                because=f"segment {segment_name(facts.timeline, missing, size)} is not in the backup"
                + (f", and {missing_count - 1} more" if missing_count > 1 else ""),
                next_step="backupctl verify --level data, then restore from another full",
            )


def used_histories(known: Mapping[str, str], beside: Iterable[Path], newest_used: int = 1) -> dict[str, str]:
    """The history files for the stage: the backup's, and one for every timeline that was begun anywhere near.

    A server looks for the next unused number from file to file, so there is one for each number,
    at least up to ``newest_used``.

    Raises:
        DamageFound: so many timelines cannot have been.
    """
    found = dict(known)
    newest = max([newest_used, *(number for name in found if (number := parse_history_name(name)))])
    for directory in beside:
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            number = parse_history_name(name)
            if number is not None:
                found.setdefault(name, (directory / name).read_text(encoding="utf-8", errors="replace"))
            elif len(name) >= 24 and name[:24].isalnum():
                number = int(name[:8], 16) if set(name[:24]) <= set("0123456789ABCDEF") else None
            newest = max(newest, number or 1)
    if newest > _TIMELINES_MAX:
        raise DamageFound(
            f"the backup says that there were {newest} timelines",
            because=f"no cluster has had more than {_TIMELINES_MAX}, and each would need a file here",
            next_step="restore from another backup, and look who can write to the archive",
        )
    for number in range(2, newest + 1):
        found.setdefault(history_name(number), _KEPT)
    return found


def seal_log_status(directory: Path, owner: Owner, new_timeline: int) -> None:
    """Mark all log of older timelines as archived already, and the new history file as not yet.

    So a server with an archive_command adds to its archive and never writes there again what it holds.  Raises OSError.
    """
    status = directory / "archive_status"
    owner.make_directory(status)
    for path in directory.iterdir():
        name = path.name
        old = len(name) == 24 and not name.startswith(f"{new_timeline:08X}")
        if old or parse_history_name(name) is not None:
            ready = name == history_name(new_timeline)
            owner.write_file(status / f"{name}.{'ready' if ready else 'done'}", b"")
