"""Decides whether an archive has lost its newest backups: somebody removed them, or put an older copy in its place."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from backupd.decide.reasons import Reason
from backupd.model.records import Stamps


def missing_backups(stamps: Stamps, booked: Sequence[str], held: Collection[str]) -> tuple[Reason, ...]:
    """A reason for each backup that is known elsewhere and is newer than all that the archive lists.

    Older ones may have been pruned; the newest chain never is (``plan_retention``).

    Args:
        stamps: what the database itself says about its last backups.
        booked: ids of fulls and incrementals that this node's journal knows as complete.
        held: ids that the archive lists.
    """
    newest = max(held, default="")
    known = {
        stamp.backup_id: "the database's own stamp" for stamp in (stamps.full, stamps.incremental) if stamp is not None
    }
    known = dict.fromkeys(booked, "this node's journal") | known
    return tuple(
        Reason(
            "rolled-back",
            f"the backup {backup_id} is not in the archive, though {witness} knows it: it was removed there, "
            "an older copy of the archive is in its place, or the policy names another archive now",
        )
        for backup_id, witness in sorted(known.items())
        if backup_id > newest and backup_id not in held
    )
