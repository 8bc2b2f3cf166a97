"""Replication for the time of one run: by the service if it is up, else by processes of our own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from backupd.durable import read_json
from backupd.engines.sqlite.locks import lock_is_free
from backupd.engines.sqlite.source import check_is_wal_database
from backupd.engines.sqlite.status import ask
from backupd.engines.sqlite.supervisor import Supervisor
from backupd.errors import Busy, NotHealthy
from backupd.model.pair import CopyState

if TYPE_CHECKING:
    from backupd.engines.sqlite.layout import CopyLayout
    from backupd.engines.sqlite.writer import SqliteWriter

START_SECONDS = 120.0
REFUSALS_MAX = 10


@contextlib.contextmanager
def replicating(writer: SqliteWriter) -> Iterator[None]:
    """See ``ports.Writer.replication``."""
    writer.pair_state()
    said_before = _written_at(writer.active_files())
    supervisor = _start_own(writer)
    if supervisor is None:
        _wait_until_up(writer)
        yield
        return
    ending = threading.Event()
    ticker = threading.Thread(target=_tick, args=(supervisor, ending), daemon=True)
    ticker.start()
    try:
        _wait_until_up(writer, said_before)
        yield
    finally:
        ending.set()
        ticker.join()
        supervisor.stop()


def _start_own(writer: SqliteWriter) -> Supervisor | None:
    if not lock_is_free(writer.layout.replication_lock):
        return None
    supervisor = writer.replicator(log_to=writer.layout.directory / "replication.log")
    try:
        supervisor.start()
    except Busy:  # a service has started in this very moment
        return None
    return supervisor


def _tick(supervisor: Supervisor, ending: threading.Event) -> None:
    while not ending.wait(0.1):
        with contextlib.suppress(Exception):  # a broken pair file is told by whoever reads it next
            supervisor.poll()


def _written_at(active: CopyLayout) -> int | None:
    """When the capture last said how it is, in nanoseconds of the file's time; None: it never did."""
    try:
        return active.capture_state.stat().st_mtime_ns
    except OSError:
        return None


def _wait_until_up(writer: SqliteWriter, said_before: int | None = None) -> None:
    """Until capture and replay answer; a capture that says why it cannot is believed after a few tries.

    What was said at ``said_before`` is of an earlier capture: ours is about to start, and things may have changed.
    """
    deadline = time.monotonic() + START_SECONDS
    refusals = 0
    while time.monotonic() < deadline:
        active, passive = writer.active_files(), writer.passive_files()
        facts = ask(active.capture_socket, "the capture process")
        if facts is not None and facts.get("history") and ask(passive.replay_socket, "the replay process"):
            return
        stale = said_before is not None and _written_at(active) == said_before
        if not stale and writer.pair().active.state in (CopyState.FAILED, CopyState.MISSING):
            refusals += 1
            if refusals > REFUSALS_MAX:
                _raise_failure(active)
        writer.clock.sleep(0.1)
    raise NotHealthy(
        f"replication of {writer.database} does not start",
        because=f"its processes did not answer within {START_SECONDS:g} s",
        next_step=f"look at {writer.layout.directory / 'replication.log'} or at the log of the service",
    )


def _raise_failure(active: CopyLayout) -> None:
    check_is_wal_database(active.path)
    facts = read_json(active.capture_state) or {}
    raise NotHealthy(
        str(facts.get("problem") or f"cannot capture {active.path}"),
        because=str(facts.get("reason") or facts.get("because") or "its capture process ends at once"),
        next_step=str(facts.get("next_step") or "look at the log of the service"),
    )
