"""What a recovering server's log means: how far it is, and its last words as three lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from backupd.engines.postgres.postmaster import complaint, last_words
from backupd.errors import BackupdError, DamageFound, NotFound, NotHealthy

ENDED_BEFORE_TARGET = "recovery ended before configured recovery target was reached"

_LSN = r"([0-9A-F]+/[0-9A-F]+)"
_REDO = re.compile(rf"redo (?:starts|done|in progress)[^\n]*?{_LSN}")
_NEW_TIMELINE = re.compile(r"selected new timeline ID: (\d+)")
_LAST_COMMIT = re.compile(r"last completed transaction was at log time ([^\n]+)")
_STOPPED = re.compile(r"recovery stopping ([^\n]+)")
_CONSISTENT = "consistent recovery state reached"


def replayed_lsn(log: str) -> str:
    """Where replay is, by the log's last word about it; empty when it said none."""
    found = _REDO.findall(log)
    return found[-1] if found else ""


def new_timeline(log: str) -> int | None:
    """The timeline that the server has begun."""
    found = _NEW_TIMELINE.findall(log)
    return int(found[-1]) if found else None


def last_commit(log: str) -> str:
    """When the last replayed transaction was committed, as the server writes it; empty when none was."""
    found = _LAST_COMMIT.findall(log)
    return found[-1].strip() if found else ""


def stopped_where(log: str) -> str:
    """Where and why recovery stopped before the log's end; empty when it took all of it."""
    found = _STOPPED.findall(log)
    return found[-1].strip() if found else ""


def translate(log: str, stage: Path) -> BackupdError:
    """The error that a server's last words amount to."""
    said = complaint(log)
    for words, make in _MEANINGS:
        if re.search(words, said if "No space" not in words else log):
            return make(said, stage)
    return NotHealthy(
        "the restored cluster did not come up",
        because=last_words(log) or "its server ended without a word",
        next_step="look whether memory, disk and rights allow a server here; or restore to another directory",
    )


def _before_consistent(said: str, _: Path) -> BackupdError:
    return NotFound(
        "the wished point is before the end of the backup that its pages come from",
        because=said,
        next_step="wish a later point, or one of an older backup: backupctl list",
    )


def _log_missing(said: str, _: Path) -> BackupdError:
    return DamageFound(
        "log that the restored files need is missing or damaged",
        because=said,
        next_step="backupctl verify --level data, then restore from another full",
    )


def _disk_full(_: str, stage: Path) -> BackupdError:
    return NotHealthy(
        "the restored cluster could not be recovered",
        because=f"no space is left where {stage} is",
        next_step="make room there, then run the same restore again",
    )


def _tablespace(said: str, _: Path) -> BackupdError:
    return NotHealthy(
        "the log makes a tablespace that has no place here",
        because=said,
        next_step="make that directory for the server's user, or take a new full, then restore again",
    )


def _history(said: str, _: Path) -> BackupdError:
    return DamageFound(
        "the wished history does not go through this backup",
        because=said,
        next_step="wish a point of the backup's own history, or restore from another full: backupctl list",
    )


def _other_build(said: str, _: Path) -> BackupdError:
    return NotHealthy(
        "the PostgreSQL programs here cannot read the restored files",
        because=said,
        next_step="name the bin_directory of a server built like the old one, on the same kind of machine",
    )


def _custom_log(said: str, _: Path) -> BackupdError:
    return NotHealthy(
        "the log holds records of an extension that this recovery does not load",
        because=said,
        next_step="restore a point before that log, or restore to a directory and recover it by hand",
    )


_MEANINGS: tuple[tuple[str, Callable[[str, Path], BackupdError]], ...] = (
    ("requested recovery stop point is before consistent", _before_consistent),
    ("No space left on device", _disk_full),
    (
        "WAL ends before|could not find redo location|could not locate (?:a valid|required) checkpoint|"
        "invalid checkpoint record|could not find a valid record|" + ENDED_BEFORE_TARGET,
        _log_missing,
    ),
    ("backup_label|control file", _log_missing),
    (r"timeline \d+ is not|is not a child of this server|history file", _history),
    (r'directory ".*" does not exist|tablespace', _tablespace),
    ("incompatible with server|initialized with|was not initialized", _other_build),
    ("resource manager with ID", _custom_log),
)
