"""Plans a restore: what would be fetched and replayed, what is there now, and exactly what would be lost."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.decide.drill import expected_seconds
from backupd.decide.page_files import bases_of_file
from backupd.decide.restore_path import RestorePath, RestoreWish, find_restore_path
from backupd.errors import DamageFound, NotFound
from backupd.journal.records import JsonValue
from backupd.model.position import Position
from backupd.pipeline.fetch_plan import FetchPlan, plan_fetch
from backupd.ports import ProcessUse, RestoreTarget, TargetFacts
from backupd.runs import restore_words
from backupd.runs.context import RunContext
from backupd.runs.drill_facts import past_drills
from backupd.runs.fitness import Verdicts, unfit_backups, verdicts_by_backup
from backupd.runs.needed import needed_objects
from backupd.runs.rebuild import LOGS_AHEAD_MAX
from backupd.runs.rolled_back import rolled_back

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive
    from backupd.archive.listing import Listing

# Room for a log file on its way, the engine's own files and the filesystem's tables.
_SPARE_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """One restore, decided; ``--dry-run`` prints it and ``run_restore`` carries out this very object.

    ``blockers`` are the reasons for which ``run_restore`` would refuse as things
    stand; ``lost`` says what the target has that the restored state will not have.
    ``expected_seconds`` is how long it may take, by drills that passed; None without one.
    """

    database: str
    target: str
    wish: RestoreWish
    route: RestorePath
    facts: TargetFacts
    fetch_bytes: int
    fetch_pages: int
    local_pages: int
    total_bytes: int
    log_bytes: int
    present: str
    lost: tuple[str, ...]
    blockers: tuple[str, ...]
    notes: tuple[str, ...]
    steps: tuple[str, ...]
    expected_seconds: float | None = None

    @property
    def role(self) -> str:
        """What the target is: active or directory."""
        return self.facts.role

    @property
    def path(self) -> str:
        """Where the restored file will lie."""
        return str(self.facts.path)

    @property
    def base(self) -> str:
        """The id of the backup that the pages come from."""
        return self.route.full.record.id

    @property
    def backups(self) -> tuple[str, ...]:
        """All backups that are read, the one with the pages first."""
        return self.route.backups

    @property
    def end(self) -> Position:
        """The restored state stands here, or before it when a time was wished."""
        return self.route.until or self.route.end

    @property
    def at(self) -> datetime | None:
        """The wished moment, if it was a moment."""
        return self.route.at

    @property
    def files(self) -> tuple[str, ...]:
        """The data files' names."""
        return tuple(file.path for file in self.route.full.record.files)

    @property
    def logs_count(self) -> int:
        """How many log files are replayed."""
        return len(self.route.logs)

    @property
    def free_bytes(self) -> int:
        """Free space where the restored file is built."""
        return self.facts.free_bytes

    @property
    def users(self) -> tuple[ProcessUse, ...]:
        """Programs that have the target open now."""
        return self.facts.users

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``restore --dry-run --json`` shows."""
        return {
            "database": self.database,
            "target": self.target,
            "role": self.role,
            "path": self.path,
            "files": list(self.files),
            "wish": str(self.wish),
            "base": self.base,
            "backups": list(self.backups),
            "end": str(self.end),
            "at": self.at.isoformat() if self.at else None,
            "logs_count": self.logs_count,
            "log_bytes": self.log_bytes,
            "fetch_bytes": self.fetch_bytes,
            "fetch_pages": self.fetch_pages,
            "local_pages": self.local_pages,
            "total_bytes": self.total_bytes,
            "free_bytes": self.free_bytes,
            "present": self.present,
            "lost": list(self.lost),
            "users": [{"pid": user.pid, "command": user.command, "path": user.path} for user in self.users],
            "blockers": list(self.blockers),
            "notes": list(self.notes),
            "steps": list(self.steps),
            "expected_seconds": None if self.expected_seconds is None else round(self.expected_seconds, 3),
        }


def plan_restore(context: RunContext, wish: RestoreWish, target: str = "active") -> RestorePlan:
    """Decide a restore; reads the archive's records and the target, and changes nothing.

    Args:
        context: the database.
        wish: the state that is wanted.
        target: ``active``, the name of the active copy, or a directory.

    Raises:
        Refused: the target is a passive.
        NotFound: no backup leads to the wished state; ``because`` names what can be restored.
        ArchiveUnreachable: the archive cannot be read.
        DamageFound: a page map that the plan needs is damaged or missing.
    """
    place = context.writer.restore_target(target)
    facts = place.facts()
    archive = context.archive()
    listing = archive.list()
    verdicts = verdicts_by_backup(archive)
    route = _route(context, wish, archive, listing, verdicts)
    with needed_objects(route.full.record.id):
        fetches = _fetches(archive, route, place)
    total = sum(file.size_bytes for file in route.full.record.files)
    needed = total + _log_room(route, facts) + _SPARE_BYTES - _staged_bytes(place, route)
    fetch_bytes = sum(fetch.fetch_bytes for fetch in fetches)
    log_bytes = sum(stored.stored_bytes for stored in route.logs)
    return RestorePlan(
        database=context.database,
        target=target,
        wish=wish,
        route=route,
        facts=facts,
        fetch_bytes=fetch_bytes,
        fetch_pages=sum(fetch.fetch_pages for fetch in fetches),
        local_pages=sum(fetch.local_pages for fetch in fetches),
        total_bytes=total,
        log_bytes=log_bytes,
        present=restore_words.present(facts),
        lost=restore_words.lost(context, facts, route, listing.backups),
        blockers=restore_words.blockers(context, facts, needed),
        notes=tuple(str(reason) for reason in (*route.reasons, *rolled_back(context, listing.by_id()))),
        steps=restore_words.steps(context, facts, route),
        expected_seconds=expected_seconds(past_drills(verdicts), fetch_bytes, log_bytes),
    )


def _route(
    context: RunContext, wish: RestoreWish, archive: DatabaseArchive, listing: Listing, verdicts: Verdicts
) -> RestorePath:
    """The path to the wished state; a damaged record is never silently walked around."""
    damage = listing.findings
    if not listing.backups and not damage:
        raise NotFound(
            f"there is no backup of {context.database}",
            because="the archive lists none",
            next_step=f"backupctl backup {context.database} --type full",
        )
    # The latest state may be just what a damaged record stood for; a named point is either reached or not.
    if damage and wish == RestoreWish.latest():
        raise _damaged(context, wish, listing)
    try:
        return find_restore_path(wish, listing.backups, unfit=unfit_backups(archive, listing, verdicts))
    except NotFound as error:
        if damage:
            raise _damaged(context, wish, listing) from error
        raise


def _damaged(context: RunContext, wish: RestoreWish, listing: Listing) -> DamageFound:
    finding = listing.findings[0]
    damaged = {one.backup_id for one in listing.findings}
    other = _newest_restorable(listing, damaged)
    next_step = "backupctl verify --level data"
    if other is not None:
        next_step = f"name an undamaged one: backupctl restore {context.database} --backup {other}"
    return DamageFound(
        f"{context.database} cannot be restored to {wish}: a backup's record is damaged",
        because=finding.sentence(),
        next_step=next_step,
        object=finding.object_name,
        findings=[one.sentence() for one in listing.findings],
    )


def _newest_restorable(listing: Listing, damaged: set[str]) -> str | None:
    """A record that is whole is not enough: what it builds on may be what is damaged."""
    unfit = dict.fromkeys(damaged, "its record is damaged")
    for backup in reversed(listing.backups):
        with suppress(NotFound):
            if backup.record.id not in damaged:
                find_restore_path(RestoreWish.of_backup(backup.record.id), listing.backups, unfit=unfit)
                return backup.record.id
    return None


def judge_again(context: RunContext, plan: RestorePlan) -> RestorePlan:
    """The same plan with the target as it is now: what is there, what would be lost, what blocks."""
    place = context.writer.restore_target(plan.target)
    facts = place.facts()
    needed = plan.total_bytes + _log_room(plan.route, facts) + _SPARE_BYTES - _staged_bytes(place, plan.route)
    return replace(
        plan,
        facts=facts,
        present=restore_words.present(facts),
        lost=restore_words.lost(context, facts, plan.route, context.archive().list().backups),
        blockers=restore_words.blockers(context, facts, needed),
    )


def _log_room(route: RestorePath, facts: TargetFacts) -> int:
    """Where log is only lent, the few largest need room; else all of it."""
    sizes = [stored.log.size_bytes for stored in route.logs]
    return sum(sizes) if facts.keeps_log else sum(sorted(sizes)[-LOGS_AHEAD_MAX - 2 :])


def _fetches(archive: DatabaseArchive, route: RestorePath, place: RestoreTarget) -> list[FetchPlan]:
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


def _staged_bytes(place: RestoreTarget, route: RestorePath) -> int:
    """What an interrupted restore has put on the stage already; it needs no new space."""
    staged = 0
    for file in route.full.record.files:
        staged_file = place.stage_file(file)
        try:
            staged += staged_file.stat().st_blocks * 512 if isinstance(staged_file, Path) else 0
        except OSError:
            continue
    return staged
