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
    """A backup that began: who makes it, since when, on what it builds, the nonce of its commit, and that of its lease.

    ``lease`` is empty for a run that holds none in the archive.
    """

    label: str
    holder: Holder
    started_at: datetime
    parent: str | None
    nonce: str
    lease: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the object."""
        return {
            "label": self.label,
            "holder": self.holder.to_json(),
            "started_at": self.started_at.isoformat(),
            "parent": self.parent,
            "nonce": self.nonce,
            "lease": self.lease,
        }

    def seems_dead(self, now: datetime, *, holding_lease: bool, lease: str = "") -> bool:
        """Whether to try to fence it.

        Args:
            now: the time, for an intent of another host that was made without a lease.
            holding_lease: no other run of this database lives on this host.
            lease: the nonce of the lease in the archive that we hold now; empty when we hold none.
        """
        if lease and self.lease and self.lease != lease:
            return True  # it was released, or taken over: by us, or by somebody before us
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
            content["label"],
            holder,
            datetime.fromisoformat(content["started_at"]),
            content["parent"],
            content["nonce"],
            str(content.get("lease", "")),
        )
    except (KeyError, ValueError, TypeError) as problem:
        raise malformed(name, problem) from problem
