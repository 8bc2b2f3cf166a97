"""What the page shows of an archive, read anew only when the archive has changed or a run has ended."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.decide.restore_path import recovery_windows
from backupd.decide.restore_points import moments_of_points, noted_points
from backupd.decide.timeline import DrillFact, Moment, build_timeline
from backupd.errors import NotFound
from backupd.journal.records import JsonValue
from backupd.model.records import ArchivedBackup
from backupd.runs.timeline import line_json, stamps_and_restores

if TYPE_CHECKING:
    from backupd.runs.context import RunContext

_REMEMBERED_MAX = 64


@dataclass(frozen=True, slots=True)
class ArchiveFacts:
    """The backups as ``list --json`` says them, and what the timeline is made of."""

    rows: tuple[dict[str, JsonValue], ...] = ()
    backups: tuple[ArchivedBackup, ...] = ()
    unfit: Mapping[str, str] | None = None
    drills: tuple[DrillFact, ...] = ()
    besides: tuple[Moment, ...] = ()


def remembered_facts() -> Callable[[RunContext], ArchiveFacts]:
    """Reads facts, and keeps those of the databases that were asked for last while their archives have the same names.

    What it gives back raises ArchiveUnreachable, and may be called by several threads.
    """
    kept: OrderedDict[str, tuple[object, ArchiveFacts]] = OrderedDict()
    lock = threading.Lock()

    def facts(context: RunContext) -> ArchiveFacts:
        from backupd.runs.archive_view import record_names

        # A backup's row has the journal's word about its stamp and its log as well.
        last_run = [(run.id, run.state) for run in context.journal.runs(context.database, limit=1)]
        known = (record_names(context), last_run)
        with lock:
            found = kept.get(context.database)
            if found is not None and found[0] == known:
                kept.move_to_end(context.database)
                return found[1]
        fresh = _read(context)
        with lock:
            kept[context.database] = (known, fresh)
            while len(kept) > _REMEMBERED_MAX:
                kept.popitem(last=False)
        return fresh

    return facts


def _read(context: RunContext) -> ArchiveFacts:
    from backupd.runs.drill_facts import drills_on_line
    from backupd.runs.fitness import unfit_backups, verdicts_by_backup
    from backupd.runs.listing import list_backups

    try:
        archive = context.archive()
    except NotFound:
        return ArchiveFacts()  # nothing was ever backed up
    listing = archive.list()
    verdicts = verdicts_by_backup(archive)
    unfit = unfit_backups(archive, listing, verdicts)
    points = noted_points(listing.backups, recovery_windows(listing.backups, unfit=unfit))
    return ArchiveFacts(
        rows=tuple(list_backups(context)),
        backups=tuple(listing.backups),
        unfit=unfit,
        drills=tuple(drills_on_line(verdicts)),
        besides=(
            *stamps_and_restores(context, []),
            *moments_of_points(context.database, points),
        ),
    )


def timeline_json(facts: ArchiveFacts, now: datetime) -> dict[str, JsonValue]:
    """The timeline with the names of ``recovery_window``: ``from`` and ``to`` are None while nothing was backed up."""
    unfit = facts.unfit or {}
    windows = recovery_windows(facts.backups, unfit=unfit)
    line = build_timeline(facts.backups, windows, facts.drills, now, unfit=unfit, besides=facts.besides)
    return line_json(line)
