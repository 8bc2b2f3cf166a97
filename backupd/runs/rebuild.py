"""Brings what a route names out of the archive into a target's stage: pages, log, and the engine's own look at it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from backupd.decide.page_files import bases_of_file
from backupd.decide.restore_path import RestorePath
from backupd.errors import DamageFound
from backupd.model.records import Progress, StoredLog
from backupd.pipeline.fetch import fetch_file
from backupd.ports import RestoreTarget
from backupd.runs.context import RunContext


class Rebuild:
    """One restore or seed on its way; counts what it took."""

    def __init__(self, context: RunContext, route: RestorePath, target: RestoreTarget) -> None:
        self._context = context
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
        """Fetch, verify and apply log files one after the other; of those only lent one lies around at a time."""
        route = self._route
        done, total = 0, sum(stored.stored_bytes for stored in route.logs)
        lent = self._context.state_dir / "restore-log"
        for stored in route.logs:
            place = self._target.log_path(stored.log) or lent
            try:
                self._fetch_log(stored, place)
                self.position = self._target.apply_log(place, until=route.until, at=route.at)
            finally:
                with suppress(OSError):
                    lent.unlink(missing_ok=True)
            done += stored.stored_bytes
            self.read_bytes += stored.stored_bytes
            self._context.report(Progress("replaying log", done, total))
            if self.position < stored.log.end:
                return  # nothing can follow a log file that was not taken whole (its clock went back inside it)

    def _fetch_log(self, stored: StoredLog, place: Path) -> None:
        with suppress(OSError):
            place.unlink(missing_ok=True)
        self._context.archive().fetch_log(stored, place)
        found = self._target.read_log(place)
        if (found.history, found.number, found.digest) != (stored.log.history, stored.log.number, stored.log.digest):
            raise DamageFound(
                f"{stored.name} is another log file",
                because=f"it says that it is number {found.number} of {found.history}; "
                f"the record names number {stored.log.number} of {stored.log.history}",
                next_step=f"backupctl verify --level data {self._route.full.record.id}",
                object=stored.name,
            )

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
