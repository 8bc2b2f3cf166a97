"""Holds on backups: placed and released by a person, kept in the archive so that every node's prune sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.archive.holds import the_hold
from backupd.errors import NotFound, UsageProblem
from backupd.runs.context import RunContext

if TYPE_CHECKING:
    from datetime import datetime

    from backupd.archive.holds import BackupHold
    from backupd.journal.records import JsonValue
    from backupd.model.records import Hold

_REASON_CHARACTERS_MAX = 500


def hold_backup(context: RunContext, backup_id: str, reason: str, by: str) -> BackupHold:
    """Keep a backup and what it builds on until the hold is released.

    Raises:
        NotFound: the archive does not list it.
        Refused: it is being deleted.
        UsageProblem: no reason is given, or a very long one.
        ArchiveUnreachable: the archive cannot be written now.
    """
    words = " ".join(reason.split())
    if not words or len(words) > _REASON_CHARACTERS_MAX:
        raise UsageProblem(
            "a hold needs a reason",
            because=f"whoever finds it in years must know why; at most {_REASON_CHARACTERS_MAX} characters",
            next_step=f"backupctl hold {backup_id} --reason 'asked for by the auditor, until 2031'",
        )
    return context.archive().hold(backup_id, reason=words, by=by)


def release_backup(context: RunContext, backup_id: str, hold_id: str = "", *, dry_run: bool = False) -> BackupHold:
    """Take the hold of a backup away; the next prune decides about the backup by the rules again.

    Raises:
        NotFound: there is no such hold.
        Refused: it has several, and ``hold_id`` does not say which.
        ArchiveUnreachable: the archive cannot be written now.
    """
    archive = context.archive()
    hold = the_hold(archive, backup_id, hold_id)
    if not dry_run:
        archive.release(hold)
    return hold


def log_hold_json(hold: Hold, now: datetime) -> dict[str, JsonValue]:
    """A hold on log, with the keys that scripts rely on."""
    return {
        "database": hold.database,
        "holder": hold.holder,
        "needs_from": str(hold.needs_from),
        "reason": hold.reason,
        "placed_at": hold.placed_at.isoformat(),
        "age_seconds": round((now - hold.placed_at).total_seconds(), 3),
    }


def backup_holds(context: RunContext) -> tuple[BackupHold, ...]:
    """All holds on backups of the database, oldest backup first; none without an archive. Raises ArchiveUnreachable."""
    try:
        return context.archive().holds()
    except NotFound:
        return ()
