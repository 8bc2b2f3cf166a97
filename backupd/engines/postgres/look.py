"""Looks at both copies at once, and never waits longer than it was told for one that does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from backupd.engines.postgres.cluster import SLOT_NAME, PgCopy
from backupd.engines.postgres.connect import connect
from backupd.engines.postgres.facts import ServerFacts, read_facts
from backupd.errors import BackupdError, NotHealthy

STATUS_SECONDS = 0.8  # a person waits for the answer
RUN_SECONDS = 5.0


def read_copies(
    copies: Sequence[PgCopy], *, slot: str = SLOT_NAME, seconds_max: float = RUN_SECONDS
) -> dict[str, ServerFacts | BackupdError]:
    """What each copy says of itself, by name; the error of one that did not answer within ``seconds_max``."""
    found: dict[str, ServerFacts | BackupdError] = {}
    bugs: list[BaseException] = []

    def look(copy: PgCopy) -> None:
        try:
            found[copy.name] = _read(copy, slot, seconds_max)
        except BackupdError as error:
            found[copy.name] = error
        except BaseException as bug:  # noqa: BLE001 - raised again by whoever asked
            bugs.append(bug)

    # A thread that is still waiting when the time is up ends by itself: connecting and asking have their own limits.
    threads = [threading.Thread(target=look, args=(copy,), daemon=True) for copy in copies]
    deadline = time.monotonic() + seconds_max
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if bugs:
        raise bugs[0]
    answers = dict(found)  # who answers from now on is too late
    return {copy.name: answers.get(copy.name) or _too_slow(copy, seconds_max) for copy in copies}


def _read(copy: PgCopy, slot: str, seconds_max: float) -> ServerFacts:
    with connect(copy.conninfo, copy=copy.name, seconds_max=seconds_max) as server:
        return read_facts(server, slot)


def _too_slow(copy: PgCopy, seconds_max: float) -> NotHealthy:
    return NotHealthy(
        f"copy {copy.name} does not answer",
        because=f"its server said nothing within {seconds_max:g} s",
        next_step="look whether the server runs, and at its load",
    )
