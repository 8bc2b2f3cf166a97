"""Intents: notes that a backup is being made, read by whoever wants to delete."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from backupd.archive import names
from backupd.archive.envelope import malformed
from backupd.archive.holder import Holder
from backupd.archive.objects import Sealed

# When a holder on another host is given up.  Only decides when to try: an ABORT
# record, not this time, is what keeps a zombie from committing.
_OTHER_HOST_AFTER = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Intent:
    """A backup that began: who makes it, since when, on what it builds, and the nonce of its commit."""

    label: str
    holder: Holder
    started_at: datetime
    parent: str | None
    nonce: str

    def to_json(self) -> dict[str, Any]:
        """For the object."""
        return {
            "label": self.label,
            "holder": self.holder.to_json(),
            "started_at": self.started_at.isoformat(),
            "parent": self.parent,
            "nonce": self.nonce,
        }

    def seems_dead(self, now: datetime, *, holding_lease: bool) -> bool:
        """Whether to try to fence it; ``holding_lease``: no other run of this database lives on this host."""
        if self.holder.is_of_this_host():
            return holding_lease or self.holder.is_gone()
        return now - self.started_at > _OTHER_HOST_AFTER


def read_intent(sealed: Sealed, dbid: str, label: str) -> Intent:
    """Read one. Raises ObjectMissing, DamageFound."""
    name = names.intent_name(dbid, label)
    content = sealed.read("intent", name)
    try:
        holder = Holder(**content["holder"])
        return Intent(
            content["label"], holder, datetime.fromisoformat(content["started_at"]), content["parent"], content["nonce"]
        )
    except (KeyError, ValueError, TypeError) as problem:
        raise malformed(name, problem) from problem
