"""Checks what a backup holds and stores it: pages as they stream out of the snapshot, log files one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backupd.archive.open_backup import OpenBackup
from backupd.errors import DamageFound, NotHealthy, ObjectMissing
from backupd.model.pair import CopyRole
from backupd.model.position import Position
from backupd.model.records import BackupType, LogKind, StoredFile, StoredLog
from backupd.model.states import RunEvent
from backupd.pipeline.express import PageBase
from backupd.pipeline.store import StoreResult, store_file
from backupd.ports import ClosedLog, PageSource
from backupd.runs.backup_plan import BackupPlan
from backupd.runs.context import RunContext
from backupd.runs.snapshot import Captured
from backupd.runs.walk import Walk

_PAGES_NAMED_MAX = 8


@dataclass(frozen=True, slots=True)
class Content:
    """What has been stored, and what it took."""

    files: tuple[StoredFile, ...] = ()
    logs: tuple[StoredLog, ...] = ()
    read_bytes: int = 0
    stored_bytes: int = 0
    checked_pages: int = 0


def store_pages(walk: Walk, plan: BackupPlan, backup: OpenBackup, captured: Captured) -> Content:
    """Store every file of the snapshot; each page is checked on its way, and the engine looks if the policy asks.

    An express full stores what is not in its parent; the page maps of a full of either kind are kept for the next.

    Raises:
        MostPagesDiffer: an express is not worth it.
        DamageFound: a page is not what replay wrote; the passive is marked suspect.
        ArchiveUnreachable: it could not be stored.
    """
    context = walk.context
    content = Content()
    bases = _bases(walk, plan)
    maps: dict[str, PageBase] = {}
    sources = context.writer.page_sources(captured.snapshots, captured.position)
    for number, source in enumerate(sources):
        options = context.policy.archive_options
        result = store_file(
            source,
            backup,
            level=options.compression_level,
            workers=options.threads,
            file_number=number,
            base=bases.get(source.name),
            report=context.report,
        )
        if result.extents:
            maps[source.name] = PageBase(result.page_map, result.extents)
        content = replace(
            content,
            files=(*content.files, _sound(context, source, result)),
            read_bytes=content.read_bytes + result.read_bytes,
            stored_bytes=content.stored_bytes + result.stored_bytes,
            checked_pages=content.checked_pages + result.checked_pages,
        )
    _engine_check(walk, captured)
    captured.release()
    walk.move(RunEvent.CHECK, checked_pages=content.checked_pages)
    if plan.type.is_full:
        _keep(walk, maps)
    return content


def _bases(walk: Walk, plan: BackupPlan) -> dict[str, PageBase]:
    """What an express compares its files with; a map that is damaged by now costs only room."""
    if plan.type is not BackupType.EXPRESS or plan.parent is None:
        return {}
    bases = walk.context.page_maps.load(plan.parent.record.id)
    if not bases:
        walk.note(f"the page map of {plan.parent.record.id} is damaged on this host, so every page is stored")
    return bases


def _keep(walk: Walk, maps: dict[str, PageBase]) -> None:
    try:
        walk.context.page_maps.save(walk.label, maps)
    except NotHealthy as error:
        walk.note(f"the next express full will be a plain one: {error.problem} ({error.because})")


def _sound(context: RunContext, source: PageSource, result: StoreResult) -> StoredFile:
    """The stored file; count checked must be count expected."""
    if result.file is not None and result.checked_pages == source.page_count:
        return result.file
    if result.bad_pages:
        more = result.bad_page_count - _PAGES_NAMED_MAX
        named = source.words(result.bad_pages[:_PAGES_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
        because = f"{named} is not what replay wrote there"
    else:
        because = f"{result.checked_pages} pages of {source.name} were checked, {source.page_count} were expected"
    raise _suspect(context, because, pages=[page + 1 for page in result.bad_pages], file=source.name)


def _engine_check(walk: Walk, captured: Captured) -> None:
    level = walk.context.policy.check.integrity
    if level == "none":
        return
    walk.context.tell(f"the engine checks the snapshot ({level})", state="check")
    findings = walk.context.writer.check_snapshot(captured.snapshots[0].directory, level)
    if findings:
        raise _suspect(walk.context, f"the engine's {level} check says: {findings[0]}", findings=list(findings))
    walk.note(f"the engine's {level} check of the snapshot found nothing")


def _suspect(context: RunContext, because: str, **details: object) -> DamageFound:
    """The error to raise; the passive is marked first: nothing is backed up from it or truncated until it is seeded.

    Of an active that stands in nothing is marked: people work on it, and have to decide.
    """
    if context.writer.source_role is CopyRole.ACTIVE:
        return DamageFound(
            f"the active copy of {context.database} is damaged",
            because=because,
            next_step=f"fail over to a sound standby, or restore it: backupctl restore {context.database}",
            **details,
        )
    context.writer.mark_suspect(because)
    return DamageFound(
        f"the passive copy of {context.database} is damaged",
        because=because,
        next_step=f"backupctl copy seed {context.database}",
        **details,
    )


def checked_logs(walk: Walk, after: Position, until: Position) -> Sequence[ClosedLog]:
    """The passive's log files from ``after`` to ``until``, each verified whole, without a gap.

    Raises:
        NotHealthy: there is a gap.
        DamageFound: one is damaged; the passive is marked suspect.
    """
    context = walk.context
    closed = context.writer.closed_logs(after, until)
    place = after
    for one in closed:
        if one.log.start != place:
            raise NotHealthy(
                f"the log of {context.database} has a gap on the passive",
                because=f"log file {one.log.number} begins at {one.log.start}, the one before it ends at {place}",
                next_step=f"backupctl backup {context.database} --type full",
            )
        if one.log.kind is LogKind.SEED:
            raise NotHealthy(
                f"the log of {context.database} cannot be replayed across a seed",
                because=f"log file {one.log.number} says that the passive was made anew from pages that no log holds",
                next_step=f"backupctl backup {context.database} --type full",
            )
        place = one.log.end
        try:
            context.writer.check_log(one)
        except DamageFound as damage:
            raise _suspect(context, f"log file {one.log.number}: {damage.because}") from damage
    if not place.same_history(until) or place < until:
        raise NotHealthy(
            f"the log of {context.database} ends too early on the passive",
            because=f"it is closed up to {place}, and the backup needs it up to {until}",
            next_step=f"backupctl status {context.database}",
        )
    return closed


def lend_logs(
    context: RunContext, backup: OpenBackup, lent: Sequence[StoredLog], closed: Sequence[ClosedLog]
) -> Content:
    """Name the log files that other backups have stored, each read back first; ``closed`` must continue them.

    Raises:
        NotHealthy: the log of the copies is another one.
        DamageFound: one of them is damaged or missing.
    """
    if lent and closed and closed[0].log.previous_digest not in {lent[-1].log.digest, ""}:
        raise NotHealthy(
            f"the log of {context.database} does not continue what the archive holds",
            because=f"log file {closed[0].log.number} follows another one than the archive's {lent[-1].log.number}",
            next_step=f"backupctl backup {context.database} --type full",
        )
    done, total = 0, sum(one.stored_bytes for one in lent)
    for one in lent:
        try:
            done += backup.lend_log(one)
        except (DamageFound, ObjectMissing) as harm:
            raise DamageFound(
                harm.problem,
                because=f"{harm.because}, and this backup would need it",
                next_step=f"backupctl backup {context.database} --type full; then backupctl verify --level data",
                **harm.details,
            ) from harm
        context.tell("reading log of the archive back", done, total)
    return Content(logs=tuple(lent))


def store_logs(context: RunContext, backup: OpenBackup, closed: Sequence[ClosedLog], content: Content) -> Content:
    """Store log files, oldest first, and add them to what is stored already."""
    total = sum(one.log.size_bytes for one in closed)
    done = 0
    stored: list[StoredLog] = []
    for one in closed:
        stored.append(backup.put_log(one.log, one.path))
        done += one.log.size_bytes
        context.tell("storing log", done, total)
    return replace(
        content,
        logs=(*content.logs, *stored),
        read_bytes=content.read_bytes + total,
        stored_bytes=content.stored_bytes + sum(one.stored_bytes for one in stored),
    )
