"""Keeps the policies of a followed repository up to date beside everything else; a slow server holds nothing up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.model.alarm import Alarm
    from backupd.policy.follow import Followed, PolicyFollower

LOG = logging.getLogger("policies")
_LOOK_SECONDS = 1.0


class Following:
    """A thread that fetches now and then, and says when other policies came into force.

    Args:
        follower: fetches, checks and switches.
        changed: is called, in that thread, after other policies came into force.
    """

    def __init__(self, follower: PolicyFollower, changed: Callable[[], None]) -> None:
        self._follower, self._changed = follower, changed
        self._stop = threading.Event()
        self._last: Followed | None = None
        self._told = ""
        self._thread = threading.Thread(target=self._go_on, name="policies", daemon=True)

    def start(self) -> None:
        """Begin; the first fetch is at once."""
        self._thread.start()

    def stop(self, seconds_max: float = 5.0) -> None:
        """End; a fetch that is under way may be left behind: what is in force is whole at every moment."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(seconds_max)

    def alarms(self) -> tuple[Alarm, ...]:
        """The alarm that lasts while the newest commit is not in force."""
        alarm = self._last.alarm() if self._last is not None else None
        return () if alarm is None else (alarm,)

    def tick(self, monotonic_seconds: float) -> None:
        """Fetch if it is time to, and tell what happened."""
        followed = self._follower.tick(monotonic_seconds)
        if followed is None:
            return
        self._last = followed
        self._log(followed)
        if followed.changed:
            self._changed()

    def _log(self, followed: Followed) -> None:
        """A line for each thing that is new; a server that is away for a night is one line."""
        problem = followed.problem
        said = "" if problem is None else f"{followed.newest} {problem.problem} {problem.because}"
        if followed.changed:
            facts = {"commit": followed.commit, "before": followed.before or "none"}
            LOG.info("other policies are in force", extra={"facts": facts})
        if problem is not None and said != self._told:
            facts = {"problem": problem.problem, "because": problem.because, "in_force": followed.commit or "none"}
            LOG.error("policies are not followed", extra={"facts": facts})
        if problem is None and self._told:
            LOG.info("policies are followed again", extra={"facts": {"commit": followed.commit}})
        self._told = said

    def _go_on(self) -> None:
        while not self._stop.is_set():
            try:
                self.tick(time.monotonic())
            except Exception:
                LOG.exception("following the policies failed")
            self._stop.wait(_LOOK_SECONDS)
