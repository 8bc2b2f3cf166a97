"""Brings what a route names out of the archive into a target's stage: pages, log, and the engine's own look at it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.decide.page_files import bases_of_file
from backupd.decide.restore_path import RestorePath
from backupd.errors import DamageFound, NotHealthy
from backupd.model.records import Progress, StoredLog
from backupd.pipeline.ahead import in_order
from backupd.pipeline.fetch import fetch_file
from backupd.ports import RestoreTarget
from backupd.runs.context import RunContext

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive

# Log files that are fetched while one is applied; with the one that waits so many and one more lie there at once.
LOGS_AHEAD_MAX = 3


class Rebuild:
    """One restore, seed or drill on its way; counts what it took.

    Args:
        context: of the database.
        route: what is brought.
        target: to where.
        lends_in: where log files lie that are only lent to the target; a rebuild without the lease has a place of
            its own. None: the state directory, of which there is one for each database.
    """

    def __init__(
        self, context: RunContext, route: RestorePath, target: RestoreTarget, *, lends_in: Path | None = None
    ) -> None:
        self._context = context
        self._lends_in = lends_in or context.state_dir
        self._route = route
        self._target = target
        self.position = route.full.record.log_end
        self.read_bytes = 0
        self.fetched_pages = 0
        self.reused_pages = 0
        self.fetch_seconds = 0.0
        self.replay_seconds: float | None = None  # None: it has not come to that

    def run(self) -> None:
        """Fetch the pages, then the log.

        Raises:
            DamageFound: an object of the archive is damaged, named.
            ArchiveUnreachable: the archive went away.
            NotHealthy: the stage cannot be written.
        """
        # Asked again, for the plan may be old: somebody read it before he said yes, and a failover came in between.
        archive = self._context.archive()
        listed = archive.list().by_id()
        used = {backup.record.log_end.history for backup in listed.values()}
        self._target.reserve(used)
        for backup_id in self._route.backups:
            if backup_id in listed:
                archive.check_mac(listed[backup_id].record)
        clock = self._context.clock
        began = clock.monotonic()
        try:
            self._fetch_pages()
        finally:
            self.fetch_seconds = clock.monotonic() - began
        began, self.replay_seconds = clock.monotonic(), 0.0
        try:
            self._replay()
        finally:
            self.replay_seconds = clock.monotonic() - began

    def _fetch_pages(self) -> None:
        archive = self._context.archive()
        # What was stored last says how to lay out what came before it.
        for file in reversed(self._route.full.record.files):
            result = fetch_file(
                file,
                archive.store,
                self._target.stage_file(file),
                self._target.live_file(file),
                bases=bases_of_file(self._route.pages_from, file),
                keys=archive.keys,
                workers=self._context.policy.archive_options.threads,
                report=self._context.report,
            )
            self.read_bytes += result.read_bytes
            self.fetched_pages += result.fetched_pages
            self.reused_pages += result.reused_pages

    def _replay(self) -> None:
        """Apply log files in order, while threads fetch and verify the next; what is only lent is removed at once."""
        logs = self._route.logs
        done, total = 0, sum(stored.stored_bytes for stored in logs)
        workers = self._context.policy.archive_options.threads
        with self._lent_places() as lent, ThreadPoolExecutor(workers, thread_name_prefix="fetch-log") as pool:
            # Context and target are asked by this thread only, in the order of the log.
            fetches = (
                pool.submit(self._fetch_log, self._context.archive(), stored, self._place_of(stored, lent))
                for stored in logs
            )
            for stored, place in zip(logs, in_order(fetches, LOGS_AHEAD_MAX), strict=False):
                self.position = self._target.apply_log(place, until=self._route.until, at=self._route.at)
                if place.parent == lent:
                    with suppress(OSError):
                        place.unlink(missing_ok=True)
                done += stored.stored_bytes
                self.read_bytes += stored.stored_bytes
                self._context.report(Progress("replaying log", done, total))
                if self.position < stored.log.end:
                    return  # nothing can follow a log file that was not taken whole (its clock went back inside it)

    @contextmanager
    def _lent_places(self) -> Iterator[Path]:
        """A directory of our own for log files that are only lent; what a dead restore has left there goes first."""
        place = self._lends_in / "restore-log"
        try:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:  # an older version lent one file there
                place.unlink(missing_ok=True)
            place.mkdir(mode=0o700)
        except OSError as error:
            raise NotHealthy(
                f"log cannot be fetched to {place}",
                because=f"{error.strerror or error}",
                next_step=f"make room there and fix its rights, then run the same again: ls -ld {place.parent}",
            ) from error
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _place_of(self, stored: StoredLog, lent: Path) -> Path:
        return self._target.log_path(stored.log) or lent / f"{stored.log.history}-{stored.log.number}"

    def _fetch_log(self, archive: DatabaseArchive, stored: StoredLog, place: Path) -> Path:
        """Where it lies, verified."""
        with suppress(OSError):
            place.unlink(missing_ok=True)
        archive.fetch_log(stored, place)
        found = self._target.read_log(place)
        if (found.history, found.number, found.digest) != (stored.log.history, stored.log.number, stored.log.digest):
            raise DamageFound(
                f"{stored.name} is another log file",
                because=f"it says that it is number {found.number} of {found.history}; "
                f"the record names number {stored.log.number} of {stored.log.history}",
                next_step=f"backupctl verify --level data {self._route.full.record.id}",
                object=stored.name,
            )
        return place

    def check(self) -> None:
        """Let the engine look at what was brought; one that replays by itself does it now. Raises DamageFound."""
        self._context.tell("the engine checks the restored state", state="check")
        route = self._route
        exact = route.until is not None and route.until != route.end
        findings = self._target.check(route.until if exact else None, route.at)
        self.position = self._target.reached() or self.position
        if findings:
            raise DamageFound(
                f"the restored state of {self._context.database} is not sound",
                because=findings[0],
                next_step=f"backupctl verify --level data {' '.join(route.backups)}",
                findings=list(findings),
            )
