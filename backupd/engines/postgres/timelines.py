"""Timelines: which one came from which, where, and what a position of an older one is called in the current one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.engines.postgres.wal_names import history_name, parse_lsn
from backupd.errors import DamageFound, NotHealthy
from backupd.model.position import Position

if TYPE_CHECKING:
    from backupd.engines.postgres.connect import Server

Ancestry = tuple[Position, ...]  # (history, offset at which it ended), oldest first


def parse_history(text: str, name: str = "a history file") -> Ancestry:
    """The ancestors that a ``.history`` file names, oldest first; comments and empty lines are passed over.

    A recovery along one timeline to a moment before that began leaves a file that says
    so: a timeline with an end before its beginning.  Nothing of that lies on the way, and
    its parent counts up to that end only, as for the server itself.

    Raises:
        DamageFound: it is not what PostgreSQL writes, or its timelines do not follow one another.
    """
    found: list[Position] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            timeline, ended = int(words[0]), parse_lsn(words[1])
        except (ValueError, IndexError):
            raise _damaged(name, f"line {number} does not name a timeline and the LSN where it ended") from None
        if timeline <= 0 or (found and timeline <= int(found[-1].history)):
            raise _damaged(name, f"line {number} does not follow the one before it")
        found = [Position(earlier.history, min(earlier.offset, ended)) for earlier in found]
        found.append(Position(str(timeline), ended))
    return tuple(found)


def _damaged(name: str, because: str) -> DamageFound:
    return DamageFound(
        f"the history file {name} cannot be read", because=because, next_step=f"compare {name} with the other copy's"
    )


@dataclass(frozen=True, slots=True)
class TimelineStory:
    """Where a timeline came from: the text of its history file ("" for timeline 1) and what that says."""

    timeline: int
    text: str
    ancestry: Ancestry


def timeline_story(timeline: int, data_directory: Path | None = None, server: Server | None = None) -> TimelineStory:
    """Read the history file of ``timeline`` from the copy's disk, else through its server.

    Raises:
        NotHealthy: it has none, so nobody can say where it came from.
        DamageFound: it cannot be understood.
    """
    if timeline == 1:
        return TimelineStory(1, "", ())
    name = history_name(timeline)
    text = _from_disk(data_directory, name) if data_directory is not None else None
    if text is None and server is not None:
        text = _from_server(server, name)
    if text is None:
        raise NotHealthy(
            f"nobody can say where timeline {timeline} came from",
            because=f"the file pg_wal/{name} is not there",
            next_step=f"put {name} into pg_wal from the other copy or an archive of log, or take a full",
        )
    ancestry = parse_history(text, name)
    if not ancestry or int(ancestry[-1].history) >= timeline:
        raise _damaged(name, f"it does not say what timeline {timeline} came from")
    return TimelineStory(timeline, text, ancestry)


def story_told_by(child: TimelineStory, timeline: int) -> TimelineStory | None:
    """The story of an ancestor out of a later timeline's, which repeats it; None when that did not come from it.

    A standby that was made by pg_basebackup has the history file of its own timeline
    only.  A new one is the parent's file, an empty line and one line more: what is
    answered here is that very file again.
    """
    kept: list[str] = []
    for line in child.text.splitlines(keepends=True):
        words = line.split()
        if words and words[0] == str(timeline):
            text = "".join(kept[:-1] if kept and not kept[-1].strip() else kept)
            return TimelineStory(timeline, text, older_than(str(timeline), child.ancestry))
        kept.append(line)
    return None


def ancestry_of(timeline: int, data_directory: Path | None = None, server: Server | None = None) -> Ancestry:
    """Where each ancestor of ``timeline`` ended, oldest first. Raises as ``timeline_story``."""
    return timeline_story(timeline, data_directory, server).ancestry


def _from_disk(data_directory: Path, name: str) -> str | None:
    try:
        return (data_directory / "pg_wal" / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise NotHealthy(
            f"the history file {name} cannot be read",
            because=f"{data_directory / 'pg_wal' / name}: {error}",
            next_step="let the user that backupd runs as read the data directory",
        ) from error


def _from_server(server: Server, name: str) -> str | None:
    # Needs the role pg_read_server_files; the shorter form without a length came with 16.
    text = server.value("SELECT pg_read_file('pg_wal/' || %s, 0, 1048576, true)", name)
    return None if text is None else str(text)


def history_at(offset: int, history: str, ancestry: Sequence[Position]) -> str:
    """Which history of the lineage wrote the byte at ``offset``."""
    for ended in ancestry:
        if offset < ended.offset:
            return ended.history
    return history


def segment_history(segno: int, segment_bytes: int, history: str, ancestry: Sequence[Position]) -> str:
    """The history whose file of segment ``segno`` is the one to take: the newest that wrote into it."""
    return history_at((segno + 1) * segment_bytes - 1, history, ancestry)


def began_at(history: str, ancestry: Sequence[Position]) -> int:
    """The LSN at which ``history`` left its parent; 0 when it had none. Its own later children are passed over."""
    began = 0
    for ended in ancestry:
        if ended.history == history:
            break
        began = ended.offset
    return began


def older_than(history: str, ancestry: Sequence[Position]) -> Ancestry:
    """The ancestors of an older timeline of the same lineage: what its own history file would say."""
    return tuple(ended for ended in ancestry if int(ended.history) < int(history))
