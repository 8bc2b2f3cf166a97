"""Plans a restore: what would be fetched and replayed, what is there now, and exactly what would be lost."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.decide.drill import expected_seconds
from backupd.decide.near_points import GoodPoint, NearPoints, near_points
from backupd.decide.restore_path import RestorePath, RestoreWish, find_restore_path
from backupd.errors import DamageFound, NotFound, Refused
from backupd.journal.records import JsonValue
from backupd.model.position import Position
from backupd.ports import ProcessUse, RestoreTarget, ReusesLive, TargetFacts
from backupd.runs import restore_bytes, restore_words
from backupd.runs.context import RunContext
from backupd.runs.drill_facts import past_drills
from backupd.runs.fitness import unfit_backups, verdicts_by_backup, verified_backups
from backupd.runs.needed import needed_objects
from backupd.runs.rolled_back import rolled_back

if TYPE_CHECKING:
    from backupd.archive.listing import Listing


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """One restore, decided; ``--dry-run`` prints it and ``run_restore`` carries out this very object.

    ``blockers`` are the reasons for which ``run_restore`` would refuse as things
    stand; ``lost`` says what the target has that the restored state will not have.
    ``in_place``: what is there is given up and reused, instead of a second copy beside it; ``may_be_in_place`` that
    it could be.
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
    near: NearPoints = field(default_factory=lambda: NearPoints(None, None))
    in_place: bool = False
    may_be_in_place: bool = False

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
            "good_before": _point_json(self.near.before),
            "good_after": _point_json(self.near.after),
            "in_place": self.in_place,
        }


def _point_json(point: GoodPoint | None) -> JsonValue:
    if point is None:
        return None
    at, place = point.at.isoformat(), str(point.position)
    return {"backup": point.backup, "at": at, "position": place, "verified": point.verified}


def plan_restore(
    context: RunContext, wish: RestoreWish, target: str = "active", *, in_place: bool = False
) -> RestorePlan:
    """Decide a restore; reads the archive's records and the target, and changes nothing.

    Args:
        context: the database.
        wish: the state that is wanted.
        target: ``active``, the name of the active copy, or a directory.
        in_place: reuse the files that are there.

    Raises:
        Refused: the target is a passive, or cannot be restored in place.
        NotFound: no backup leads to the wished state; ``because`` names what can be restored.
        ArchiveUnreachable: the archive cannot be read.
        DamageFound: a page map that the plan needs is damaged or missing.
    """
    place = context.writer.restore_target(target)
    facts = place.facts()
    may_be_in_place = isinstance(place, ReusesLive)
    if in_place and not may_be_in_place:
        raise _not_in_place(context, facts)
    archive = context.archive()
    listing = archive.list()
    verdicts = verdicts_by_backup(archive)
    unfit = unfit_backups(archive, listing, verdicts)
    route = _route(context, wish, listing, unfit)
    total = sum(file.size_bytes for file in route.full.record.files)
    needed = restore_bytes.needed(place, route, facts, in_place=in_place)
    with needed_objects(route.full.record.id):
        # Page maps cost memory by the size that the record says; what does not fit on the disk is not looked at.
        fits = needed <= facts.free_bytes
        fetches = restore_bytes.fetches(archive, route, place) if fits else restore_bytes.whole_fetches(route)
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
        lost=_lost(context, place, route, facts, listing, in_place=in_place),
        blockers=restore_words.blockers(context, facts, needed),
        notes=tuple(str(reason) for reason in (*route.reasons, *rolled_back(context, listing.by_id()))),
        steps=restore_words.steps(context, facts, route, in_place=in_place),
        expected_seconds=expected_seconds(past_drills(verdicts), fetch_bytes, log_bytes),
        near=near_points(route, listing.backups, unfit=unfit, verified=verified_backups(archive, listing, verdicts)),
        in_place=in_place,
        may_be_in_place=may_be_in_place and not in_place,
    )


def _not_in_place(context: RunContext, facts: TargetFacts) -> Refused:
    return Refused(
        f"{context.database} cannot be restored in place",
        because=f"only the active of a PostgreSQL cluster can, and this is {facts.path}",
        next_step="leave --in-place out: the restored files are built beside and renamed",
    )


def _route(context: RunContext, wish: RestoreWish, listing: Listing, unfit: Mapping[str, str]) -> RestorePath:
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
        return find_restore_path(wish, listing.backups, unfit=unfit)
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
    needed = restore_bytes.needed(place, plan.route, facts, in_place=plan.in_place)
    return replace(
        plan,
        facts=facts,
        present=restore_words.present(facts),
        lost=_lost(context, place, plan.route, facts, context.archive().list(), in_place=plan.in_place),
        blockers=restore_words.blockers(context, facts, needed),
    )


def _lost(
    context: RunContext,
    place: RestoreTarget,
    route: RestorePath,
    facts: TargetFacts,
    listing: Listing,
    *,
    in_place: bool,
) -> tuple[str, ...]:
    commits = _lost_commits(place, route, facts)
    return restore_words.lost(context, facts, route, listing.backups, commits, in_place=in_place)


def _lost_commits(place: RestoreTarget, route: RestorePath, facts: TargetFacts) -> int | None:
    """Counted by the target's own log; to a time, from the log file on in which that lies."""
    if facts.role == "directory" or not facts.exists:
        return None
    start = route.until or (route.logs[-1].log.start if route.logs else route.full.record.log_end)
    if facts.position is not None and not facts.position.same_history(start):
        return None
    return place.commits_after(start, route.at)
