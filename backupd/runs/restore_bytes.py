"""How much a restore would fetch, and how much room it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.decide.page_files import bases_of_file
from backupd.decide.restore_path import RestorePath
from backupd.pipeline.fetch_plan import FetchPlan, plan_fetch, whole_fetch
from backupd.pipeline.page_file import as_page_file
from backupd.ports import RestoreTarget, ReusesLive, TargetFacts
from backupd.runs.rebuild import LOGS_AHEAD_MAX

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

# Room for a log file on its way, the engine's own files and the filesystem's tables.
_SPARE_BYTES = 16 * 2**20


def needed(place: RestoreTarget, route: RestorePath, facts: TargetFacts, *, in_place: bool = False) -> int:
    """Bytes that must be free where the restored files are built, less what is there to be reused.

    That is what an interrupted restore has put there and, ``in_place``, what is live there.
    """
    total = sum(file.size_bytes for file in route.full.record.files)
    here = _staged_bytes(place, route)
    if isinstance(place, ReusesLive):
        here = max(here, place.left_bytes())
        if in_place:
            here += place.reusable_bytes()
    return max(0, total - here) + _log_room(route, facts) + _SPARE_BYTES


def _log_room(route: RestorePath, facts: TargetFacts) -> int:
    """Where log is only lent, the few largest need room; else all of it."""
    sizes = [stored.log.size_bytes for stored in route.logs]
    return sum(sizes) if facts.keeps_log else sum(sorted(sizes)[-LOGS_AHEAD_MAX - 2 :])


def fetches(archive: DatabaseArchive, route: RestorePath, place: RestoreTarget) -> list[FetchPlan]:
    """What would be fetched of each file, in the order in which they are; reads page maps and what is there."""
    return [
        plan_fetch(
            file,
            archive.store,
            place.stage_file(file),
            place.live_file(file),
            bases=bases_of_file(route.pages_from, file),
            keys=archive.keys,
        )
        for file in reversed(route.full.record.files)
    ]


def whole_fetches(route: RestorePath) -> list[FetchPlan]:
    """The same without looking at anything: all of it."""
    return [whole_fetch(file, bases_of_file(route.pages_from, file)) for file in route.full.record.files]


def _staged_bytes(place: RestoreTarget, route: RestorePath) -> int:
    """What an interrupted restore has put on the stage already; it needs no new space."""
    return sum(as_page_file(place.stage_file(file)).allocated_bytes for file in route.full.record.files)
