"""One run at a time on a database: first the lock of this host, then the lease that lies in the archive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, Busy

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive
    from backupd.archive.lease import DatabaseLease
    from backupd.runs.context import RunContext

_SEEN_FILE, _SECOND_SEEN_FILE = "lease-seen.json", "second-lease-seen.json"


class OneRun:
    """The run that goes on now, and its lease in the archive, which is taken when the archive can first be opened."""

    def __init__(self, context: RunContext, run: str, *, must: bool, patient: bool) -> None:
        self._context = context
        self._run = run
        self._must = must
        self._patient = patient
        self._tried = False
        self.lease: DatabaseLease | None = None

    def cover(self, archive: DatabaseArchive, *, writes: bool) -> None:
        """Take the lease, when it is not taken yet, and let everything that is done there look at it.

        A run that needs nothing from the archive but reading goes on when the lease cannot be written.

        Raises:
            Busy: another run holds it, perhaps on another host.
            ArchiveUnreachable: it cannot be written, and this run must have it.
        """
        needed = self._must or writes
        if self._context.reads_only:
            return  # a prune meanwhile would be found as damage, and the other holder's run is not to be waited for
        if self.lease is None and (needed or not self._tried):
            self._tried = True
            lease = _new_lease(self._context, archive, self._run)
            try:
                lease.acquire(patient=self._patient)
                self.lease = lease
            except Busy:
                raise
            except BackupdError:
                if needed:
                    raise
        archive.lease = self.lease


@contextmanager
def one_run(context: RunContext, run: str, *, must: bool = False, patient: bool = False) -> Iterator[None]:
    """Hold the database for the length of a run, against this host's runs and, where the archive answers, all others'.

    Args:
        context: the database.
        run: what it does, for whoever finds it busy.
        must: the run deletes in the archive, and never does without the lease.
        patient: a person waits: find out whether another host's holder is dead, which takes a period (60 s) at most.

    Raises:
        Busy: another run works on the database, here or elsewhere.
    """
    with context.lease(run):
        held = context.run = OneRun(context, run, must=must, patient=patient)
        try:
            try:
                context.archive()
            except Busy:
                raise
            except BackupdError:
                pass  # not there yet, or away: the run that needs the archive says so itself
            yield
        finally:
            context.run = None
            context.forget_lease()
            if held.lease is not None:
                held.lease.release()


def _new_lease(context: RunContext, archive: DatabaseArchive, run: str) -> DatabaseLease:
    from backupd.archive.lease import DatabaseLease  # dry runs and status need none

    seen = context.state_dir / (_SEEN_FILE if context.first is None else _SECOND_SEEN_FILE)
    return DatabaseLease(archive, run=run, seen=seen, tell=context.tell)
