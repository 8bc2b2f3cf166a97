"""What could be restored when: the archive's windows, gaps and backups, and what else happened to a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from backupd.decide.restore_path import RecoveryWindow, recovery_windows
from backupd.decide.restore_points import moments_of_points, noted_points
from backupd.decide.timeline import (
    RESTORE,
    STAMP,
    Moment,
    Stretch,
    Timeline,
    build_timeline,
    clipped,
)
from backupd.errors import BackupdError, NotFound
from backupd.journal.records import JsonValue, RunKind
from backupd.model.states import RunState
from backupd.runs.context import RunContext


@dataclass(frozen=True, slots=True)
class TimelineFound:
    """The line (None: nothing was ever backed up), the windows with their positions, and notes."""

    database: str
    line: Timeline | None
    windows: tuple[RecoveryWindow, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``timeline --json`` shows."""
        return {
            "database": self.database,
            **line_json(self.line),
            "recovery_windows": [
                {
                    "history": one.history,
                    "from": one.from_time.isoformat(),
                    "to": one.to_time.isoformat(),
                    "from_position": str(one.from_position),
                    "to_position": str(one.to_position),
                    "full": one.full,
                }
                for one in self.windows
            ],
            "notes": list(self.notes),
        }


def line_json(line: Timeline | None) -> dict[str, JsonValue]:
    """A line with the names of ``recovery_window``: ``from`` and ``to`` are None while nothing was backed up."""
    if line is None:
        return {"from": None, "to": None, "windows": [], "gaps": [], "moments": []}
    return {
        "from": line.from_time.isoformat(),
        "to": line.to_time.isoformat(),
        "windows": [_stretch_json(one) for one in line.windows],
        "gaps": [_stretch_json(one) for one in line.gaps],
        "moments": [_moment_json(one) for one in line.moments],
    }


def read_timeline(
    context: RunContext,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    points: bool = False,
    say: Callable[[str], str] = str,
) -> TimelineFound:
    """What could be restored when, from the archive, the journal of this node, and the copies where they answer.

    Args:
        context: the database.
        since: leave out what was before.
        until: leave out what came after.
        points: read the log of that time for the restore points that no backup has noted.
        say: turns a command that restores to a point into one that does so here.

    Raises:
        ArchiveUnreachable: the archive cannot be read.
        DamageFound, KeyMissing, NotHealthy: only with ``points``, as ``find_points``.
    """
    from backupd.runs.drill_facts import drills_on_line
    from backupd.runs.fitness import unfit_backups, verdicts_by_backup

    try:
        archive = context.archive()
    except NotFound:
        return TimelineFound(context.database, None, (), ())
    listing = archive.list()
    verdicts = verdicts_by_backup(archive)
    unfit = unfit_backups(archive, listing, verdicts)
    notes: list[str] = [finding.sentence() for finding in listing.findings]
    windows = recovery_windows(listing.backups, unfit=unfit)
    noted = noted_points(listing.backups, windows)
    besides = (
        *stamps_and_restores(context, notes),
        *moments_of_points(context.database, noted, say),
    )
    line = build_timeline(
        listing.backups, windows, drills_on_line(verdicts), context.clock.now(), unfit=unfit, besides=besides
    )
    if line is None:
        return TimelineFound(context.database, None, (), tuple(notes))
    line = clipped(line, since, until)
    if points:
        from backupd.runs.find_commit import find_points

        known = {one.key for one in noted}
        found = [one for one in find_points(context, line.from_time, line.to_time) if one.key not in known]
        more = moments_of_points(context.database, found, say)
        moments = sorted([*line.moments, *more], key=lambda one: (one.at, one.backup, one.kind))
        line = Timeline(line.from_time, line.to_time, line.windows, line.gaps, tuple(moments))
    shown = [one for one in windows if one.from_time <= line.to_time and one.to_time >= line.from_time]
    return TimelineFound(context.database, line, tuple(shown), tuple(notes))


def stamps_and_restores(context: RunContext, notes: list[str]) -> tuple[Moment, ...]:
    """What the copies and this node's journal know beside the archive; a note where the copies do not answer."""
    return (*_stamps(context, notes), *_restores(context))


def _stamps(context: RunContext, notes: list[str]) -> Sequence[Moment]:
    """The last full and the last incremental that the copies themselves know of."""
    try:
        known = context.writer.stamps()
    except BackupdError as error:
        notes.append(f"the stamps are not known: {error.problem}")
        return ()
    return [
        Moment(one.at, STAMP, f"stamp: the passive knows {one.backup_id} as the last {one.type}", one.backup_id)
        for one in (known.full, known.incremental)
        if one is not None
    ]


def _restores(context: RunContext) -> Iterator[Moment]:
    """Restores to the active that were carried out from this node."""
    for run in context.journal.runs(context.database, RunKind.RESTORE):
        if run.facts.get("role") == "active" and run.state is RunState.COMPLETE and run.finished_at is not None:
            base = str(run.facts.get("base") or "")
            diary = context.journal.transitions(run.id)
            said = next((one.says for one in reversed(diary) if one.says.startswith("restored to")), "restored")
            yield Moment(run.finished_at, RESTORE, f"the active was {said}, from {base}", base)


def _stretch_json(stretch: Stretch) -> dict[str, JsonValue]:
    return {"from": stretch.from_time.isoformat(), "to": stretch.to_time.isoformat(), "because": stretch.because}


def _moment_json(moment: Moment) -> dict[str, JsonValue]:
    return {
        "at": moment.at.isoformat(),
        "kind": moment.kind,
        "says": moment.says,
        "backup": moment.backup,
        "sound": moment.sound,
    }
