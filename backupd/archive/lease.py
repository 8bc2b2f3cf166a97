"""One run at a time on a database over all hosts: a lease that lies in the archive, as terms that are created once.

The rules:

* The term with the highest number is the lease; objects below it mean nothing
  and are deleted.  The highest one never is, so numbers only grow.
* A holder creates the next term every third of the period, and a last one that
  says released.  Whoever wants the lease looks at the highest term, and creates
  the next one when that was released, when its process is certainly gone, or when
  this watcher has seen it unchanged for longer than its period, by the watcher's
  own monotonic clock.  Creating once decides who comes first; a look afterwards
  tells a sleeper that its term is not the highest.
* It keeps runs apart and no more.  What keeps a sleeper from doing harm is ABORT
  against COMMIT, and intents against tombs.  So a holder first writes its intent or
  its tomb and then looks whether it still holds the lease, and a new holder first
  takes the lease and then looks for intents and tombs: one of the two sees the other.

Requests: 4 to begin (list, read, create, list), 3 in each third of the period
(create, list, delete), one list at each ``check``, and a create and about two deletes at the end.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.archive import names
from backupd.archive.holder import Holder, this_boot, this_process
from backupd.archive.term import PERIOD_SECONDS, Claim, Sighting, Term, busy, claim_on, taken_over, unreadable
from backupd.archive.term_objects import read_sighting, read_term, term_numbers, write_sighting
from backupd.errors import ArchiveUnreachable, BackupdError, Busy, DamageFound, ObjectExists, ObjectMissing
from backupd.steps import step

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

_LOOK_SECONDS = 1.0
_MARK_DIGITS = 8
# Leases that this process holds: a term of ours that is none of them was left by a release that failed.
_held_here: set[str] = set()


class DatabaseLease:
    """The lease of one database, held from ``acquire`` until ``release``, or until it is not renewed for its period.

    Safe for several threads: a thread of its own renews it.

    Args:
        archive: the database's part of the archive.
        run: what the holder does, for whoever finds it busy.
        seen: a small local file that remembers between runs since when another holder's term stands still.
        period_seconds: how long others look at a term of ours before they take over.
        heartbeat: without it somebody else must call ``renew`` in time.
        tell: is told what is being waited for.
    """

    def __init__(
        self,
        archive: DatabaseArchive,
        *,
        run: str,
        seen: Path | None = None,
        period_seconds: float = PERIOD_SECONDS,
        heartbeat: bool = True,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.nonce = secrets.token_hex(16)
        self._archive, self._store, self._clock = archive, archive.store, archive.clock
        self._run, self._seen, self._period, self._tell = run, seen, period_seconds, tell
        self._term: Term | None = None
        self._lost: Busy | None = None
        self._sighting: Sighting | None = None
        self._confirmed_at = 0.0
        self._below: set[int] = set()
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lease", daemon=True) if heartbeat else None

    @property
    def mark(self) -> str:
        """The first digits of the nonce: what our tombs are called by."""
        return self.nonce[:_MARK_DIGITS]

    # --- taking ---

    def acquire(self, *, patient: bool = False) -> None:
        """Take the lease, or say who has it.

        Args:
            patient: wait until a holder that may be dead has shown itself, or its period is over.

        Raises:
            Busy: another run holds it, or may: it was not watched for its whole period yet.
            ArchiveUnreachable: the archive cannot be read or written now.
        """
        first: Term | None = None
        while True:
            step("lease.look")
            began = self._clock.monotonic()
            newest = self._look()
            claim = self._claim_on(newest, began)
            if newest is None or claim is not Claim.HELD:
                if self._take(newest, claim):
                    break
                continue
            moved = first is not None and (first.number, first.nonce) != (newest.number, newest.nonce)
            if not patient or moved:
                raise busy(newest, self._archive.name, alive=moved)
            if first is None:
                self._tell(f"waiting whether {newest.run} on {newest.holder.host or 'an unknown host'} still lives")
            first = newest
            self._clock.sleep(_LOOK_SECONDS)
        if self._heart is not None:
            self._heart.start()

    def _claim_on(self, newest: Term | None, began: float) -> Claim:
        """What we may do about it; a term that is held is remembered, so that the next look knows since when.

        Watched is from the end of the first look to the beginning (``began``) of the last: we may have slept in one.
        """
        gone = newest is not None and is_gone(newest.holder, newest.nonce)
        boot = this_boot()
        seen = self._sighting or (read_sighting(self._seen) if self._seen else None)
        claim = claim_on(newest, gone=gone, seen=seen, boot_id=boot, monotonic_seconds=began)
        stale = seen is None or newest is None or not seen.is_of(newest) or seen.boot_id != boot
        if newest is not None and claim is Claim.HELD and stale:
            self._sighting = Sighting(newest.number, newest.nonce, boot, self._clock.monotonic())
            if self._seen:
                with suppress(BackupdError):  # a watcher that cannot remember begins anew each time
                    write_sighting(self._seen, self._sighting)
        return claim

    def _take(self, newest: Term | None, claim: Claim) -> bool:
        """Create the term after ``newest``; False when somebody else was faster."""
        now, self._confirmed_at = self._clock.now(), self._clock.monotonic()
        number = newest.number + 1 if newest else 1
        follows = f"{claim.value}: {newest.run}" if newest else claim.value
        term = Term(number, self.nonce, this_process(), self._run, now, now, self._period, False, follows)
        _held_here.add(self.nonce)
        try:
            if not self._create(term):
                _held_here.discard(self.nonce)
                return False
            self._term = term
            highest = self._highest()
        except BaseException:
            self.release()
            raise
        if highest != number:
            # We have slept since we looked: that number had come and gone.
            self._term = None
            _held_here.discard(self.nonce)
            with suppress(BackupdError):  # it means nothing, and whoever holds the lease deletes it too
                self._store.delete(names.lease_name(self._archive.dbid, number))
            return False
        return True

    # --- holding ---

    def check(self) -> None:
        """Ask the archive whether our term is still the highest.

        Raises:
            Busy: another run has taken the lease over.
            ArchiveUnreachable: the archive cannot be read now.
        """
        with self._lock:
            if self._term is not None and self._lost is None:
                step("lease.check")
                self._ask()
            if self._lost is not None:
                raise self._lost

    def raise_if_lost(self) -> None:
        """As ``check``, but asks only when the lease was not renewed in time by our own clock, and needs no answer.

        Raises:
            Busy: another run has taken the lease over.
        """
        late = self._clock.monotonic() - self._confirmed_at > self._period * 2 / 3
        if self._lost is None and late:
            with suppress(ArchiveUnreachable):
                self.check()
        if self._lost is not None:
            raise self._lost

    def renew(self) -> None:
        """Create the next term, and delete those below it; does nothing when the lease is not held any more.

        Raises:
            ArchiveUnreachable: try again soon; until somebody takes over, the lease is still ours.
        """
        with self._lock:
            if self._term is None or self._lost is not None:
                return
            step("lease.renew")
            term = replace(self._term, number=self._term.number + 1, at=self._clock.now())
            if self._create(term):
                self._below.add(self._term.number)
                self._term = term
            self._ask()
            if self._lost is None:
                self._delete_below()

    def release(self) -> None:
        """Say that the run is over; may be repeated. What cannot be said now is taken over after the period."""
        if os.getpid() != self._pid:
            return  # a forked child holds nothing
        self._stop.set()
        _held_here.discard(self.nonce)
        if self._heart is not None and self._heart.is_alive():
            self._heart.join(self._period / 3)
            if self._heart.is_alive():
                return  # the archive does not answer
        with self._lock, suppress(BackupdError):
            term, self._term = self._term, None
            if term is None or self._lost is not None:
                return
            step("lease.release")
            now = self._clock.now()
            over = replace(term, number=term.number + 1, at=now, released=True)
            if self._create(over):
                self._below.add(term.number)
                self._delete_below()

    def _beat(self) -> None:
        while not self._stop.wait(self._period / 3) and self._lost is None:
            with suppress(BackupdError):
                self.renew()

    def _ask(self) -> None:
        """Compare the highest term with ours: one whose reply was lost is ours too, any other ends the lease."""
        began = self._clock.monotonic()
        highest = self._highest()
        self._confirmed_at = began
        if self._term is None or highest == self._term.number:
            return
        newest = self._read(highest) if highest is not None else None
        if newest is not None and newest.nonce == self.nonce:
            self._below.add(self._term.number)
            self._term = newest
            return
        self._lost = taken_over(newest, self._run)

    # --- objects ---

    def _look(self) -> Term | None:
        """The term that counts now."""
        highest = self._highest()
        return self._read(highest) if highest is not None else None

    def _highest(self) -> int | None:
        numbers = term_numbers(self._store, self._archive.dbid)
        self._below.update(numbers[:-1])
        return numbers[-1] if numbers else None

    def _read(self, number: int) -> Term:
        try:
            return read_term(self._store, self._archive.dbid, number, self._archive.repository.uuid)
        except (DamageFound, ObjectMissing):  # missing: a sleeper's, that it has taken back since
            return unreadable(number, self._clock.now())

    def _create(self, term: Term) -> bool:
        step("lease.term")
        with suppress(ObjectExists):
            self._archive.sealed.create("lease", names.lease_name(self._archive.dbid, term.number), term.to_json())
            return True
        return False

    def _delete_below(self) -> None:
        while self._below:
            self._store.delete(names.lease_name(self._archive.dbid, min(self._below)))
            self._below.discard(min(self._below))


def is_gone(holder: Holder, nonce: str) -> bool:
    """Whether the holder of a lease certainly does nothing under it any more."""
    return holder.is_gone() or (holder == this_process() and nonce not in _held_here)
