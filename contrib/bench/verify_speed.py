"""How fast verify --level data reads an archive, as ratios to zstd -t and sha256sum of the same stored bytes.

    python contrib/bench/verify_speed.py [--size-mb 1000] [--runs 5] [--database FILE] [--directory DIR]

Makes the database of archive_speed.py, one full backup of it, and then runs all
sides alternately over the archive's objects in the page cache: `zstd -t` expands
them, `sha256sum` hashes them, and both together are what a person would do by
hand.  Verify does more: seals, page hashes against the map, and BLAKE3 over the
whole file; a sample (each object for itself) leaves the last two out.
CPU seconds are printed too: they hold still when the clock does not.
"""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

from archive_speed import Work, arguments, database_of, measured


class Reading(Work):
    """The things that are measured, on one archive that stays."""

    def objects(self) -> list[str]:
        """The segments and maps."""
        return sorted(str(path) for path in self.archive.glob("db/*/*/**/*") if path.parts[-3] == "data")

    def zstd_test(self) -> None:
        """zstd -t of every segment."""
        subprocess.run(["zstd", "-q", "-t", *self.objects()], check=True)

    def sha256sum(self) -> None:
        """sha256sum of every segment."""
        subprocess.run(["sha256sum", *self.objects()], stdout=subprocess.DEVNULL, check=True)

    def by_hand(self) -> None:
        """Both, one after the other."""
        self.zstd_test()
        self.sha256sum()

    def verify(self) -> None:
        """Everything, as verify --level data does it."""
        self._verify(whole=True)

    def sample(self) -> None:
        """Every object for itself, as verify --budget does it."""
        self._verify(whole=False)

    def _verify(self, *, whole: bool) -> None:
        from backupd.archive.coverage import data_objects
        from backupd.archive.verify import Level, ReadPlan, verify_database

        archive = self._open()
        names = [each.name for backup in archive.list().backups for each in data_objects(backup.record)]
        plan = ReadPlan() if whole else ReadPlan(tuple(names))
        result = verify_database(archive, Level.DATA, make_plan=lambda _: plan, workers=self.workers)
        if not result.sound or len(result.read) != len(names):
            raise SystemExit(f"not sound: {result.findings}")

    def warm_objects(self) -> None:
        """Bring the objects into the page cache."""
        for path in self.objects():
            Path(path).read_bytes()


def main() -> None:
    """Make the archive, measure, print."""
    wishes = arguments(__doc__).parse_args()
    with database_of(wishes) as (database, directory):
        work = Reading(database, directory)
        work.backup()
        report(work, wishes.runs)


def report(work: Reading, runs: int) -> None:
    """Measure every side in turn and print it."""
    stored = sum(Path(path).stat().st_size for path in work.objects()) / 1e6
    plain = work.database.stat().st_size / 1e6
    sides: dict[str, Callable[[], None]] = {
        "zstd -t": work.zstd_test,
        "sha256sum": work.sha256sum,
        "zstd -t; sha256sum": work.by_hand,
        "verify --level data": work.verify,
        "the same, a sample": work.sample,
    }
    took: dict[str, list[tuple[float, float]]] = {}
    for _ in range(runs):
        for what, call in sides.items():
            work.warm_objects()
            took.setdefault(what, []).append(measured(call))
    print(f"{plain:.0f} MB of SQLite, {stored:.0f} MB stored, {runs} interleaved runs, {os.cpu_count()} processors")
    by_hand = statistics.median(each[0] for each in took["zstd -t; sha256sum"])
    for what, each in took.items():
        wall, cpu = (statistics.median(column) for column in zip(*each, strict=True))
        print(
            f"  {what:20} {stored / wall:7.0f} MB/s stored {plain / wall:7.0f} MB/s plain"
            f"  {wall:6.2f} s  {cpu:6.2f} cpu-s  speed against both by hand {by_hand / wall:.2f}"
        )


if __name__ == "__main__":
    main()
