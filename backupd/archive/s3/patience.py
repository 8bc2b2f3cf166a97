"""Trying again: full jitter between attempts, one deadline over all of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from backupd.archive.s3.place import S3Place
from backupd.archive.s3.words import FAILURES, again_may_help, is_away, unreachable

T = TypeVar("T")

_PAUSE_SECONDS_FIRST = 0.1
_PAUSE_SECONDS_MAX = 10.0
# Where nothing answers at all it is rather a wrong address than a bad moment.
_AWAY_SECONDS_MAX = 30.0


class Patience:
    """Repeats calls on one place until they work or the deadline has passed.

    botocore's own retries (two attempts) are inside of each attempt here.
    """

    def __init__(
        self,
        place: S3Place,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._place = place
        self._now = now
        self._sleep = sleep
        self._chance = chance

    def call(self, what: str, attempt: Callable[[], T]) -> T:
        """What ``attempt`` answers; ``what`` completes "cannot … the archive".  It must bear being repeated.

        Raises:
            ArchiveUnreachable: trying again does not help, or did not until the deadline.
        """
        began = self._now()
        tries = 0
        while True:
            try:
                return attempt()
            except FAILURES as problem:
                if not again_may_help(problem):
                    raise unreachable(problem, what, self._place) from problem
                tries += 1
                # Full jitter: many hosts that failed together must not come back together.
                pause = self._chance() * min(_PAUSE_SECONDS_MAX, _PAUSE_SECONDS_FIRST * 2**tries)
                limit = min(self._place.deadline_seconds, _AWAY_SECONDS_MAX if is_away(problem) else float("inf"))
                passed = self._now() - began
                if passed + pause >= limit:
                    told = f"; it was tried {tries} times in {passed:.0f} s"
                    raise unreachable(problem, what, self._place, patience=told) from problem
            self._sleep(pause)
