"""Makes the passive anew: from the archive where the engine can go on from there, so that the active pays nothing."""

from __future__ import annotations

from backupd.archive.listing import Listing
from backupd.decide.restore_path import RestorePath
from backupd.decide.seed_path import find_seed_path
from backupd.errors import BackupdError, DamageFound, KeyMissing, NotFound, NotHealthy, Refused
from backupd.ports import RestoreTarget
from backupd.runs.context import RunContext
from backupd.runs.fitness import unfit_backups
from backupd.runs.needed import needed_objects
from backupd.runs.rebuild import Rebuild


def seed_passive(context: RunContext, run_id: str, *, only_from_archive: bool = False) -> tuple[str, ...]:
    """Seed the passive now, or ask replication to; answers with sentences. The caller holds the lease.

    Args:
        context: the database.
        run_id: of the run that does it.
        only_from_archive: nothing is asked of the active (replication seeds by itself where it is backupd's own).

    Raises:
        NotHealthy, Refused: it cannot be seeded now; its files are as they were.
        DamageFound: an object of the archive is damaged.
    """
    target = context.writer.seed_target()
    if target is None:
        if not only_from_archive:
            context.writer.seed()
        return ()
    route = _route(context)
    if route is None:
        context.writer.seed()
        return ("the archive does not reach to where the active is, so the passive was copied from the active",)
    try:
        _from_archive(context, target, route, run_id)
    except (NotHealthy, DamageFound, KeyMissing) as error:
        context.writer.seed()
        because = f"{error.problem}: {error.because}"
        return (f"the passive was copied from the active, for it could not be seeded from the archive ({because})",)
    return _seeded(route)


def seed_from_archive(context: RunContext, run_id: str) -> tuple[str, ...]:
    """Seed the passive from the archive or not at all: none of the active's files is read, whatever goes wrong.

    Answers with sentences.  The caller holds the lease.

    Raises:
        Refused: the engine cannot do it, or the archive does not reach to where the active's log begins.
        NotHealthy, DamageFound, KeyMissing: it failed; the passive's files are as they were.
    """
    target = context.writer.seed_target(asked=True)
    if target is None:
        raise Refused(
            f"the passive of {context.database} cannot be seeded from the archive",
            because=f"a passive of the engine {context.engine} is made by replication, page by page from the active",
            next_step=f"let replication do it, which reads the active once: backupctl copy seed {context.database}",
        )
    route = _route(context)
    if route is None:
        raise Refused(
            f"the passive of {context.database} cannot be seeded from the archive",
            because="no full and log of it reach to where the log begins that the active still holds",
            next_step=f"take what is there from the active: backupctl copy seed {context.database} --from active",
        )
    _from_archive(context, target, route, run_id)
    return _seeded(route)


def _seeded(route: RestorePath) -> tuple[str, ...]:
    return (f"the passive was seeded from the archive: {', '.join(route.backups)}, and streams the rest",)


def _route(context: RunContext) -> RestorePath | None:
    pair = context.writer.pair()
    if pair.history is None:
        return None
    try:
        archive = context.archive()
    except NotFound:
        return None
    listing: Listing = archive.list()
    unfit = unfit_backups(archive, listing)
    return find_seed_path(
        pair.history, pair.ancestry, listing.backups, unfit=unfit, active_log_from=context.writer.active_log_from()
    )


def _from_archive(context: RunContext, target: RestoreTarget, route: RestorePath, run_id: str) -> None:
    target.begin(run_id)
    rebuild = Rebuild(context, route, target)
    try:
        with needed_objects(route.full.record.id):
            rebuild.run()
        rebuild.check()
    except BaseException as error:
        target.abandon(keep_stage=isinstance(error, BackupdError) and error.exit_status == 8)
        raise
    target.activate(came_from=route.full.record.id)
    target.finish()
