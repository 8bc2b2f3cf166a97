"""Terms of a lease, as values: what a holder writes down, and whether a watcher may follow it (nothing here acts)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from backupd.archive.holder import Holder
from backupd.errors import Busy

# How long a watcher looks at a term that is not renewed before it takes over.
PERIOD_SECONDS = 60.0
NOBODY = Holder("", "", 0, 0)


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a lease; only the one with the highest number counts.

    Attributes:
        number: one more than that of the term before it.
        nonce: the same in all terms of one holder's run; empty when the term cannot be read.
        holder: the process.
        run: what it does, for whoever finds it busy.
        since: when the run took the lease, by its own clock; only ever shown.
        at: when this term was written, by the same clock; only ever shown.
        period_seconds: how long this term is good without the next one, by the clock of whoever watches it.
        released: the run is over; anybody may follow at once.
        follows: why this holder may follow the one before.
    """

    number: int
    nonce: str
    holder: Holder
    run: str
    since: datetime
    at: datetime
    period_seconds: float
    released: bool
    follows: str

    def to_json(self) -> dict[str, Any]:
        """For the object."""
        return {
            "term": self.number,
            "nonce": self.nonce,
            "holder": self.holder.to_json(),
            "run": self.run,
            "since": self.since.isoformat(),
            "at": self.at.isoformat(),
            "period_seconds": self.period_seconds,
            "released": self.released,
            "follows": self.follows,
        }


def term_from_json(content: dict[str, Any]) -> Term:
    """The reverse. Raises KeyError, ValueError, TypeError."""
    return Term(
        int(content["term"]),
        str(content["nonce"]),
        Holder(**content["holder"]),
        str(content["run"]),
        datetime.fromisoformat(content["since"]),
        datetime.fromisoformat(content["at"]),
        float(content["period_seconds"]),
        bool(content["released"]),
        str(content["follows"]),
    )


def unreadable(number: int, now: datetime) -> Term:
    """What stands for a term whose bytes are damaged: somebody may hold it, and nobody knows who."""
    return Term(number, "", NOBODY, "another run", now, now, PERIOD_SECONDS, released=False, follows="")


@dataclass(frozen=True, slots=True)
class Sighting:
    """When a watcher first saw a term as the newest, in seconds of its own clock since the boot of its own host."""

    number: int
    nonce: str
    boot_id: str
    at_seconds: float

    def is_of(self, term: Term) -> bool:
        """Whether it is of that very term."""
        return (self.number, self.nonce) == (term.number, term.nonce)


class Claim(StrEnum):
    """Why the newest term may be followed by a new holder's, or that it may not; the texts are kept in the terms."""

    FREE = "the lease was free"
    GONE = "its process was gone"
    EXPIRED = "it was not renewed in time"
    HELD = "it is held"


def claim_on(
    newest: Term | None, *, gone: bool, seen: Sighting | None, boot_id: str, monotonic_seconds: float
) -> Claim:
    """Whether a watcher may follow ``newest``; no clock but the watcher's own is asked.

    Args:
        newest: the term with the highest number; None when there was never one.
        gone: the holder's process certainly runs no more.
        seen: what this watcher remembers of an earlier look, if anything.
        boot_id: this boot of the watcher's host: its monotonic clock counts from there.
        monotonic_seconds: that clock now.
    """
    if newest is None or newest.released:
        return Claim.FREE
    if gone:
        return Claim.GONE
    if (
        seen is not None
        and seen.is_of(newest)
        and seen.boot_id == boot_id
        and monotonic_seconds - seen.at_seconds > newest.period_seconds
    ):
        return Claim.EXPIRED
    return Claim.HELD


def busy(term: Term, database: str, *, alive: bool) -> Busy:
    """The error for a lease that another run holds; ``alive``: it was seen to renew."""
    where = f"process {term.holder.pid} on {term.holder.host}" if term.nonce else "somebody"
    said = f"since {term.since.isoformat(timespec='seconds')}, renewed at {term.at.isoformat(timespec='seconds')}"
    since = f"{said} by its own clock" if term.nonce else "in a term that is damaged"
    again = f"if that host is dead, try again in {term.period_seconds:g} s: a lease that stands still is taken over"
    return Busy(
        f"cannot begin: {term.run} is under way",
        because=f"{where} holds the lease of {database}, {since}",
        next_step="wait for it" if alive else f"wait for it; {again}",
        host=term.holder.host,
        pid=term.holder.pid,
        run=term.run,
        since=term.since.isoformat(),
    )


def taken_over(newest: Term | None, run: str) -> Busy:
    """The error for a run whose lease another one has taken over; ``newest`` is the other's term, when it is known."""
    who = (
        f"{newest.run} (process {newest.holder.pid} on {newest.holder.host}) has taken it over"
        if newest is not None and newest.nonce
        else "its term is not the newest in the archive any more"
    )
    return Busy(
        f"{run} was given up: it has lost its lease",
        because=f"it was not renewed in time, for the process or the archive stood still, and {who}",
        next_step="nothing is broken: run it again when the other run has ended",
        superseded=True,
    )
