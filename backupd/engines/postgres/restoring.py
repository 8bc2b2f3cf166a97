"""Which target a restore means and what holds for it, also on the day when no server answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from backupd.engines.postgres.cluster import PgCopy
from backupd.engines.postgres.facts import ServerFacts
from backupd.engines.postgres.identity import system_identifier
from backupd.engines.postgres.pauses import recover_pauses
from backupd.engines.postgres.recover_restore import recover_active, was_left
from backupd.engines.postgres.roles import judge_pair
from backupd.engines.postgres.staged_target import RestoreChoices
from backupd.engines.postgres.standby_directory import STANDBY_SIGNAL
from backupd.engines.postgres.targets import choose_target
from backupd.errors import NotHealthy
from backupd.ports import RestoreTarget

if TYPE_CHECKING:
    from backupd.engines.postgres.writer import PostgresWriter


def target_for(writer: PostgresWriter, target: str) -> RestoreTarget:
    """What ``target`` means. Raises Refused, ConfigInvalid as ``choose_target`` and ``judge_pair`` do."""
    active, passive = roles(writer)
    return choose_target(
        target, database=writer.database, active=active, passive=passive, choices=restore_choices(writer)
    )


def roles(writer: PostgresWriter) -> tuple[PgCopy | None, PgCopy | None]:
    """Active and passive by the servers; by their files when none answers: a standby says so on its disk.

    None where nobody can say.  Raises Refused, ConfigInvalid: the servers are not one pair.
    """
    try:
        pair = writer.judged()
    except NotHealthy:
        return _roles_by_files(tuple(writer.copies.values()))
    return writer.copies[pair.active], writer.copies[pair.passive]


def _roles_by_files(copies: Sequence[PgCopy]) -> tuple[PgCopy | None, PgCopy | None]:
    standbys = [copy for copy in copies if (copy.data_directory / STANDBY_SIGNAL).exists()]
    if len(standbys) != 1:
        return None, None
    return next(copy for copy in copies if copy is not standbys[0]), standbys[0]


def restore_choices(writer: PostgresWriter) -> RestoreChoices:
    """What the policy and the pair say about every restore."""
    return RestoreChoices(
        options=writer.options,
        state_dir=writer.state_dir,
        integrity=writer.integrity,
        started_by_policy=writer.started_by_policy,
        system_identifier=system_identifier(writer),
        roles=tuple(dict.fromkeys(_roles_to_ask(writer.copies.values()))),
    )


def _roles_to_ask(copies: Iterable[PgCopy]) -> Iterator[str]:
    from backupd.engines.postgres.connect import conninfo_word

    for copy in copies:
        role = conninfo_word(copy.conninfo, "user")
        if role:
            yield role
    yield "postgres"


def seed_target(writer: PostgresWriter, *, asked: bool) -> RestoreTarget | None:
    """The passive for a seed from the archive; None where the policy wants it from the active, and nobody asked."""
    if writer.options.seed != "archive" and not asked:
        return None
    from backupd.engines.postgres.seed_target import SeedTarget

    active, passive = _both(writer)
    return SeedTarget(active, passive, restore_choices(writer))


def seed_by_copy(writer: PostgresWriter) -> None:
    """Make the passive anew from the active. Raises Refused, NotHealthy."""
    from backupd.engines.postgres.seed import seed_by_basebackup

    active, passive = _both(writer)
    seed_by_basebackup(active, passive, restore_choices(writer))


def _both(writer: PostgresWriter) -> tuple[PgCopy, PgCopy]:
    """Active and passive; the passive's server may be down, the active's must answer.

    The pair may have parted, as after a restore: then the one that is in recovery is the passive.
    """
    seen = writer.seen()
    actives = [name for name, facts in seen.items() if isinstance(facts, ServerFacts) and not facts.in_recovery]
    if len(actives) != 1:
        pair = judge_pair(writer.database, seen, must_seed=True)  # says what is wrong: two primaries, or none
        actives = [pair.active]
    passive = next(copy for name, copy in writer.copies.items() if name != actives[0])
    return writer.copies[actives[0]], passive


def recover_pair(writer: PostgresWriter, *, keep_stage: bool) -> Sequence[str]:
    """Undo or finish what a dead run has left: a pause of replay, a restore or a seed half way.

    Answers with what was done, in sentences.  Raises NotHealthy when a copy cannot be put right now.
    """
    copies = tuple(writer.copies.values())
    done = list(recover_pauses(writer.state_dir, copies))
    left = [copy for copy in copies if was_left(copy.data_directory)]
    if left:
        choices = restore_choices(writer)  # asks both servers
        for copy in left:
            done += recover_active(copy.data_directory, choices, keep_stage=keep_stage)
    return done
