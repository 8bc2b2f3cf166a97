"""The policy's second archive, a replica of the first: what it lacks, how far it reaches, what waits to be copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.archive.copy_intent import settle_copies
from backupd.archive.replica import refuse_other_archive
from backupd.archive.repository import Repository
from backupd.decide.chains import archived_end, archived_offsets
from backupd.decide.lineage import lineage_of
from backupd.decide.retention import plan_retention
from backupd.decide.truncation import SecondEnd
from backupd.errors import BackupdError, ConfigInvalid, NotFound
from backupd.model.amounts import size_text
from backupd.model.records import ArchivedBackup
from backupd.runs.archive_view import refuse_vanished
from backupd.runs.context import RunContext
from backupd.runs.fitness import unfit_backups

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive
    from backupd.archive.listing import Listing
    from backupd.ports import TruncationEvidence


@dataclass(frozen=True, slots=True)
class CopyQueue:
    """What the first archive holds and the second one lacks, parents before children.

    ``waiting`` is to be copied; ``stuck`` cannot be, by id with the reason; what the
    second archive's own retention would drop at once is in neither.
    """

    listing: Listing
    replica: DatabaseArchive | None
    there: frozenset[str]
    waiting: tuple[ArchivedBackup, ...]
    stuck: Mapping[str, str]


def second_of(context: RunContext) -> RunContext:
    """The context whose archive is the second one. Raises ConfigInvalid when the policy names none."""
    if context.second is None:
        raise ConfigInvalid(
            f"{context.database} has no second archive",
            because=f"its policy has no table [second_archive]: {context.policy_path}",
            next_step='add one: [second_archive] and url = "file:///another/place", then backupctl policy check',
        )
    return context.second


def open_replica(context: RunContext) -> DatabaseArchive | None:
    """The database's part of the second archive; None while nothing was ever copied there.

    Raises:
        Refused: another archive is at that place.
        ArchiveUnreachable: it cannot be read now, or is empty although it held backups.
        DamageFound: what names it is damaged.
    """
    second = second_of(context)
    refuse_vanished(second)
    source = context.archive()
    try:
        replica = second.archive()
    except NotFound:
        with suppress(NotFound):
            refuse_other_archive(source, Repository.open(second.open_store(), context.clock))
        return None
    refuse_other_archive(source, replica.repository)
    return replica


def copy_queue(context: RunContext) -> CopyQueue:
    """What is to be copied, read from both archives as they are now.

    Raises:
        NotFound: nothing was ever backed up.
        Refused, ArchiveUnreachable, DamageFound: as ``open_replica``.
    """
    archive = context.archive()
    listing = archive.list()
    unfit = unfit_backups(archive, listing)
    replica = open_replica(context)
    records = replica.list() if replica is not None else None
    there = records.by_id() if records is not None else {}
    harmed = {each.backup_id: each.sentence() for each in records.findings} if records is not None else {}
    kept = _kept_there(context, [*listing.backups, *(one for id_, one in there.items() if id_ not in listing.by_id())])
    waiting: list[ArchivedBackup] = []
    stuck: dict[str, str] = {}
    copyable = set(there)
    for backup in listing.backups:
        id_, parent = backup.record.id, backup.record.parent
        if id_ in there or (kept is not None and id_ not in kept):
            continue
        if id_ in unfit:
            stuck[id_] = f"it is damaged: {unfit[id_]}"
        elif id_ in harmed:
            stuck[id_] = f"its record in the second archive is damaged: {harmed[id_]}"
        elif parent is not None and parent not in copyable:
            stuck[id_] = f"it builds on {parent}, which is not copied"
        else:
            waiting.append(backup)
            copyable.add(id_)
    return CopyQueue(listing, replica, frozenset(there), tuple(waiting), stuck)


def _kept_there(context: RunContext, backups: Sequence[ArchivedBackup]) -> frozenset[str] | None:
    """What the second archive's retention would keep of all; None when it never drops anything."""
    rules = second_of(context).policy.retention_rules()
    if rules.is_empty:
        return None
    plan = plan_retention([backup.record for backup in backups], rules, context.clock.now())
    return frozenset(kept.id for kept in plan.keep)


def wants_both(context: RunContext) -> bool:
    """Whether the policy wants both archives to hold a backup before its log leaves the copies."""
    options = context.policy.second_archive
    return context.second is not None and options is not None and options.archives_min > 1


def second_end(
    context: RunContext, backups: Sequence[ArchivedBackup], copies: TruncationEvidence
) -> tuple[SecondEnd | None, Mapping[str, int]]:
    """How far the second archive reaches, and for ended histories too; None where the policy does not ask for it."""
    if not wants_both(context):
        return None, {}
    place = second_of(context).policy.archive
    listing, unfit = None, {}
    try:
        replica = open_replica(context)
        if replica is not None:
            listing = replica.list()
            unfit = unfit_backups(replica, listing)
    except BackupdError as error:
        return SecondEnd(place, None, because=f"{error.problem} ({error.because})"), {}
    there = listing.backups if listing is not None else ()
    held = {backup.record.id for backup in there}
    seen = lineage_of(copies.history, there, copies.ancestry).backups
    end = archived_end(seen, copies.history, frozenset(unfit))
    lacks = [
        backup.record.id
        for backup in lineage_of(copies.history, backups, copies.ancestry).backups
        if backup.record.id not in held
        and backup.record.type.moves_stamp
        and (end is None or not end.same_history(backup.record.log_end) or end < backup.record.log_end)
    ]
    return SecondEnd(place, end, tuple(lacks)), archived_offsets(seen, unfit)


def lacking_in_second(context: RunContext) -> dict[str, str]:
    """Backups that prune must not take from the first archive yet, with a sentence; only where both must hold them."""
    if not wants_both(context):
        return {}
    try:
        queue = copy_queue(context)
    except NotFound:
        return {}
    except BackupdError as error:
        sentence = f"the second archive cannot be asked whether it holds it: {error.problem} ({error.because})"
        return {backup.record.id: sentence for backup in context.archive().list().backups}
    sentence = f"the second archive does not hold it yet: backupctl copy-archive {context.database}"
    stuck = {id_: f"the second archive does not hold it: {because}" for id_, because in queue.stuck.items()}
    return {**{backup.record.id: sentence for backup in queue.waiting}, **stuck}


def settle_second(context: RunContext) -> tuple[str, ...]:
    """End what dead copies and deletions left in the second archive; the caller holds the lease. May be repeated.

    A half-done copy of a backup that the first archive still holds stays, and the next copy goes on with it.
    An archive that is away is settled when it is back.
    """
    try:
        replica = open_replica(context)
        if replica is None:
            return ()
        listing = context.archive().list()
        held = {*listing.by_id(), *(each.backup_id for each in listing.findings)}
        swept = replica.sweep(holding_lease=True).sentences
        return (*swept, *settle_copies(replica, held))
    except BackupdError:
        return ()


def queue_words(waiting: Sequence[ArchivedBackup]) -> str:
    """``2 backups (1.2 GiB) wait to be copied to the second archive, the oldest is ...``."""
    size = size_text(sum(backup.record.stored_bytes for backup in waiting))
    what = f"1 backup ({size}) waits" if len(waiting) == 1 else f"{len(waiting)} backups ({size}) wait"
    return f"{what} to be copied to the second archive, the oldest is {waiting[0].record.id}"
