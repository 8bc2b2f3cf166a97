"""Plans what the level data of a verify reads, from what earlier verifies remembered in the archive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backupd.archive.coverage import coverage_of, data_objects
from backupd.archive.verify import ReadPlan
from backupd.decide.sample import Candidate, choose_sample
from backupd.model.records import ArchivedBackup
from backupd.model.rules import VerifyRules
from backupd.ports import Clock
from backupd.runs.fitness import doubted_objects, verdicts_by_backup

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive


class Planner:
    """Makes the plan of one verify when the verify asks for it; its time begins to count when this is made."""

    def __init__(self, archive: DatabaseArchive, clock: Clock, rules: VerifyRules) -> None:
        self._archive, self._clock, self._rules = archive, clock, rules
        self._began = clock.monotonic()
        self.is_sample = False

    @property
    def seconds(self) -> float:
        """How long it has been."""
        return self._clock.monotonic() - self._began

    def plan(self, backups: Sequence[ArchivedBackup]) -> ReadPlan:
        """What to read of these backups; all of it where the rules leave nothing out. Raises ArchiveUnreachable."""
        verdicts = verdicts_by_backup(self._archive)
        doubted = frozenset[str]().union(*(doubted_objects(found) for found in verdicts.values()))
        if self._rules.reads_all:
            return ReadPlan(doubted=doubted)
        # What was read for any backup counts, also for those that are not looked at now.
        coverage = coverage_of(self._archive.list().backups, verdicts)
        objects = {each for backup in backups for each in data_objects(backup.record)}
        chosen = choose_sample(
            (
                Candidate(each.name, each.size_bytes, coverage.looked_at.get(each), coverage.verified_at.get(each))
                for each in objects
            ),
            budget_bytes=self._rules.budget_bytes(sum(each.size_bytes for each in objects)),
            now=self._clock.now(),
            reverify_days=self._rules.reverify_days,
        )
        if len(chosen) == len(objects) and self._rules.budget_seconds_max is None:
            return ReadPlan(doubted=doubted)
        self.is_sample = True
        return ReadPlan(tuple(each.name for each in chosen), doubted, self._is_out_of_time)

    def _is_out_of_time(self) -> bool:
        return self._rules.budget_seconds_max is not None and self.seconds >= self._rules.budget_seconds_max
