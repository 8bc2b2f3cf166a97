"""What the tests of the log need of a real pair: places in its log, closed segments, and changed copies of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.binaries import major_of
from backupd.engines.postgres.closed_logs import CopyLog
from backupd.engines.postgres.connect import Server
from backupd.engines.postgres.prepare import closed_end
from backupd.engines.postgres.timelines import Ancestry, ancestry_of
from backupd.engines.postgres.truncation import LogPlace
from backupd.engines.postgres.wal_names import parse_lsn
from backupd.engines.postgres.waldump import find_waldump
from backupd.model.position import Position

SLOT = "backupd"
POINT = "SELECT pg_create_restore_point('backupd')"
FILL = "INSERT INTO filler SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, {rows}) n"


def wait_until(what: Callable[[], bool], seconds_max: float = 30.0) -> None:
    """Wait, and fail when it does not come."""
    ends = time.monotonic() + seconds_max
    while not what():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)


@dataclass(frozen=True)
class Places:
    """A pair, its cluster's identity and the size of its segments."""

    pair: PgPair
    system_identifier: int
    segment_bytes: int
    waldump: Path | None

    @classmethod
    def of(cls, pair: PgPair) -> Places:
        ask = pair.active.psql
        ask("CREATE TABLE IF NOT EXISTS filler (n int, text text)")
        return cls(
            pair,
            int(ask("SELECT system_identifier FROM pg_control_system()")),
            int(ask("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")),
            find_waldump(major_of(pair.active.data), chosen=pair.active.bin_directory),
        )

    @property
    def timeline(self) -> int:
        return int(self.pair.active.psql("SELECT pg_walfile_name(pg_current_wal_lsn())")[:8], 16)

    @property
    def ancestry(self) -> Ancestry:
        return ancestry_of(self.timeline, self.pair.active.data)

    @property
    def place(self) -> LogPlace:
        return LogPlace(str(self.timeline), self.ancestry, self.segment_bytes, SLOT)

    def fill(self, megabytes: float = 1.0) -> None:
        """Write so much log."""
        self.pair.active.psql(FILL.format(rows=round(megabytes * 2700)))

    def close(self) -> Position:
        """Close the active's segment, and wait until the passive has it: where it ended."""
        self.pair.active.psql(POINT)
        end = closed_end(parse_lsn(self.pair.active.psql("SELECT pg_switch_wal()")), self.segment_bytes)

        def received() -> bool:
            got = self.pair.passive.psql("SELECT pg_last_wal_receive_lsn()")
            return bool(got) and parse_lsn(got) >= end

        wait_until(received)
        return Position(str(self.timeline), end)

    def log(self, data_directory: Path | None = None, *, parse: bool = True, server: Server | None = None) -> CopyLog:
        """The log of the passive, or of another directory that has a ``pg_wal``."""
        return CopyLog(
            data_directory or self.pair.passive.data,
            system_identifier=self.system_identifier,
            major=self.pair.active.major,
            segment_bytes=self.segment_bytes,
            waldump=self.waldump if parse else None,
            server=server,
        )

    def copied(self, to: Path) -> Path:
        """A copy of the passive's log, to be changed."""
        shutil.copytree(self.pair.passive.data / "pg_wal", to / "pg_wal")
        return to


def switch_over(pair: PgPair) -> None:
    """Stop the active, promote the passive, and let the old active follow with the files that it has."""
    pair.wait_caught_up()
    old, new = pair.active, pair.passive
    pair.fail_over()
    new.psql(f"SELECT pg_create_physical_replication_slot('{old.slot}', true)")
    old.write_node()
    old.start()
    pair.wait_streaming()
