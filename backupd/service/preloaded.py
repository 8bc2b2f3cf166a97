"""The rooms that a run needs, loaded once where runs are forked from: a run that loads them costs 8 times as much."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.policy.schema import Policy

ANY_RUN = (
    "_strptime",
    "backupd.archive.begin",
    "backupd.archive.local",
    "backupd.bootstrap",
    "backupd.decide.restore_path",
    "backupd.journal.journal",
    "backupd.journal.lease",
    "backupd.lines.chain",
    "backupd.pipeline.page_maps",
    "backupd.policy.git",
    "backupd.policy.load",
    "backupd.policy.schema",
    "backupd.policy.skim",
    "backupd.providers.choose",
    "backupd.runs.scheduled",
)
OF_ENGINE = {
    "sqlite": (
        "backupd.engines.sqlite.closed_logs",
        "backupd.engines.sqlite.inspect",
        "backupd.engines.sqlite.log_source",
        "backupd.engines.sqlite.restore_stage",
        "backupd.engines.sqlite.source",
        "backupd.engines.sqlite.truncation",
        "backupd.engines.sqlite.writer",
    ),
    "postgres": (
        "backupd.engines.postgres.connect",
        "backupd.engines.postgres.frozen",
        "backupd.engines.postgres.guard",
        "backupd.engines.postgres.look",
        "backupd.engines.postgres.measure",
        "backupd.engines.postgres.pair_log",
        "backupd.engines.postgres.prepare",
        "backupd.engines.postgres.settling",
        "backupd.engines.postgres.small_sources",
        "backupd.engines.postgres.truncation",
        "backupd.engines.postgres.volume_source",
        "backupd.engines.postgres.writer",
    ),
}
IN_A_BUCKET = ("backupd.archive.s3.store",)


def rooms_for(policies: Iterable[Policy]) -> list[str]:
    """The modules that runs by these policies import; what an install lacks is left to the run to say."""
    rooms = set(ANY_RUN)
    for policy in policies:
        rooms.update(OF_ENGINE[policy.engine])
        if any(url.startswith("s3:") for url in policy.archives()):
            rooms.update(IN_A_BUCKET)
    return sorted(rooms)
