"""Keeps the replication of one database going: starts it, looks after it, and tries again later when it breaks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from backupd.errors import BackupdError

LOG = logging.getLogger("service")

# The first retry is quick, for most trouble passes; the last one is slow, for a person must act.
BACKOFF_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
STEADY_SECONDS = 60.0
# So long after it was begun, processes of the replication may not have said yet that they live.
BEGINNING_SECONDS = 15.0


class Replicator(Protocol):
    """Replication of one database, as an engine provides it."""

    @property
    def database(self) -> str:
        """The database's name."""
        ...

    def start(self) -> None:
        """Begin. Raises Busy when another process replicates the database, NotHealthy when it cannot."""
        ...

    def poll(self) -> object:
        """Look after the processes; to be called a few times a second."""
        ...

    def alarms(self) -> Sequence[str]:
        """What is wrong now, in sentences."""
        ...

    def stop(self) -> None:
        """End; may be called when it never began."""
        ...


class Keeper:
    """One database's replication, that never lets its trouble out to the other databases."""

    def __init__(self, replicator: Replicator) -> None:
        self.database = replicator.database
        self.running = False
        self._replicator = replicator
        self._failures = 0
        self._next_try = 0.0
        self._started = 0.0
        self._now = 0.0
        self._tried = False
        self._said: tuple[str, ...] = ()

    @property
    def beginning(self) -> bool:
        """Whether it was begun so shortly ago, or not yet, that copies that stand still are no news."""
        just_begun = self.running and self._now - self._started < BEGINNING_SECONDS
        return just_begun or not self._tried

    def tick(self, now: float) -> None:
        """Start what is not running when its time has come; look after what is running.

        Args:
            now: monotonic seconds.
        """
        self._now = now
        try:
            if self.running:
                self._replicator.poll()
                self._say(tuple(self._replicator.alarms()))
                if self._failures and now - self._started > STEADY_SECONDS:
                    self._failures = 0
            elif now >= self._next_try:
                self._replicator.start()
                self.running, self._started = True, now
                LOG.info("replication started", extra={"facts": {"database": self.database}})
        except BackupdError as error:
            self._broke(now, error)
        except Exception as error:  # noqa: BLE001 - a bug in one database's replication must not stop the others'
            self._broke(now, error)
        self._tried = True

    def stop(self) -> None:
        """End the replication; trouble is logged and goes no further."""
        try:
            self._replicator.stop()
        except Exception:  # the other databases must be stopped too
            LOG.exception("replication did not stop well", extra={"facts": {"database": self.database}})
        if self.running:
            LOG.info("replication stopped", extra={"facts": {"database": self.database}})
        self.running = False

    def _broke(self, now: float, error: Exception) -> None:
        wait = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
        self._failures += 1
        self._next_try = now + wait
        facts = {"database": self.database, "retry_seconds": f"{wait:g}"}
        if isinstance(error, BackupdError):
            facts |= {"problem": error.problem, "because": error.because, "next": error.next_step}
            LOG.error("replication alarm", extra={"facts": facts})
        else:
            LOG.error("replication alarm: a bug", exc_info=error, extra={"facts": facts})
        if self.running:
            self.stop()

    def _say(self, alarms: tuple[str, ...]) -> None:
        """Log what has become wrong and what has become right; a state that lasts is said once."""
        for alarm in alarms:
            if alarm not in self._said:
                LOG.warning("replication alarm", extra={"facts": {"database": self.database, "because": alarm}})
        if self._said and not alarms:
            LOG.info("replication is well again", extra={"facts": {"database": self.database}})
        self._said = alarms
