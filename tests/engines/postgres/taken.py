"""A backup of a real pair's standby held in memory, and what puts it into a restore target, as a run would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.backup_mode import BackupMode
from backupd.engines.postgres.closed_logs import CopyLog
from backupd.engines.postgres.cluster import CONTROL, PAGE_BYTES, TABLE, VOLUME, PgCopy
from backupd.engines.postgres.data_files import find_files
from backupd.engines.postgres.facts import ServerFacts, read_facts
from backupd.engines.postgres.prepare import close_log
from backupd.engines.postgres.small_sources import ControlSource
from backupd.engines.postgres.volume_source import VolumeSource
from backupd.engines.postgres.volume_table import ClusterFacts, Tablespace, encode
from backupd.model.position import Position
from backupd.model.records import LogFile, StoredFile, StoredMap
from backupd.ports import RestoreTarget
from tests.pg_pairs import server_of


def copy_of(server: object) -> PgCopy:
    """A server of the demo as the policy names it."""
    return PgCopy(server.name, server.conninfo, server.data)  # type: ignore[attr-defined]


@dataclass
class Taken:
    """Three files and the log after them; ``logs`` grow by ``more_log``."""

    files: dict[str, bytes]
    facts: ClusterFacts
    logs: list[tuple[LogFile, bytes]] = field(default_factory=list)

    @property
    def end(self) -> Position:
        return self.logs[-1][0].end

    def stored(self, name: str) -> StoredFile:
        data = self.files[name]
        pages = len(data) // PAGE_BYTES
        return StoredFile(name, len(data), PAGE_BYTES, pages, "", (), StoredMap("m", pages, 0, ""))


def take(pair: PgPair) -> Taken:
    """Freeze the standby, read it whole, thaw it, and take the log up to a closed segment."""
    active, passive = server_of(pair, "active"), server_of(pair, "passive")
    with active, passive:
        active.run("CHECKPOINT")
        pair.wait_caught_up()
        passive.run("CHECKPOINT")
        passive.run("SELECT pg_wal_replay_pause()")
        while passive.value("SELECT pg_get_wal_replay_pause_state()") != "paused":
            time.sleep(0.02)
        facts = read_facts(passive)
        mode = BackupMode.begin(pair.passive.conninfo, "test")
        found = find_files(pair.passive.data)
        source = VolumeSource(found, found.roots(), data_checksums=facts.data_checksums)
        volume = bytearray(source.size_bytes)
        source.read_into(memoryview(volume), 0)
        end = mode.stop()
        mode.close()
        control = bytearray(PAGE_BYTES)
        ControlSource(pair.passive.data, moving=False).read_into(memoryview(control), 0)
        passive.run("SELECT pg_wal_replay_resume()")
        header = ClusterFacts(
            server_version_num=facts.version_num,
            system_identifier=facts.system_identifier,
            timeline=facts.timeline,
            start_lsn=end.start_lsn,
            stop_lsn=end.stop_lsn,
            backup_label=end.backup_label,
            tablespace_map=end.tablespace_map,
            wal_segment_bytes=facts.wal_segment_bytes,
            data_checksums=facts.data_checksums,
            tablespaces=tuple(Tablespace(each.oid, each.location) for each in facts.tablespaces),
            settings=dict(facts.restore_settings),
            history_files={f"{facts.timeline:08X}.history": facts.history_text} if facts.history_text else {},
        )
        table = encode(source.table(header))
        source.close()
    taken = Taken({TABLE: table, CONTROL: bytes(control), VOLUME: bytes(volume)}, header)
    more_log(pair, taken)
    return taken


def more_log(pair: PgPair, taken: Taken, *, from_active: bool = False) -> Position:
    """Close the log on the active and take what is new from the standby's disk; answers with where it ends."""
    size = taken.facts.wal_segment_bytes
    with server_of(pair, "active") as active, server_of(pair, "passive") as passive:
        facts: ServerFacts = read_facts(active)
        if taken.logs:
            after = taken.end
        else:
            after = Position(str(taken.facts.timeline), taken.facts.start_lsn // size * size)
        until = close_log(active, "test").position
        deadline = time.monotonic() + 30
        while True:
            received = read_facts(passive).receive_lsn or 0
            if received >= until.offset:
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        log = CopyLog(
            pair.active.data if from_active else pair.passive.data,
            system_identifier=int(facts.system_identifier),
            major=facts.major,
            segment_bytes=size,
            server=None if from_active else passive,
        )
        taken.logs += [(closed.log, closed.path.read_bytes()) for closed in log.closed(after, until)]
    return until


def fill(target: RestoreTarget, taken: Taken, *, use_live: bool = False) -> int:
    """Write the pages into the stage in the order of a run; answers with how many pages the live files gave."""
    reused = 0
    for name in (TABLE, CONTROL, VOLUME):
        stored, data = taken.stored(name), taken.files[name]
        place = target.stage_file(stored)
        live = target.live_file(stored) if use_live else None
        if isinstance(place, Path):
            place.write_bytes(data)
            place.chmod(0o600)
            continue
        if live is not None and not isinstance(live, Path):
            live.open(None)
            for page in range(stored.page_count):
                offset = page * PAGE_BYTES
                reused += live.read(offset, PAGE_BYTES) == data[offset : offset + PAGE_BYTES]
            live.close()
        place.open(stored.size_bytes)
        place.write(0, data)
        place.make_durable()
        place.close()
    return reused


def fill_log(target: RestoreTarget, taken: Taken, *, leave_out: tuple[int, ...] = ()) -> None:
    """Put the log into the stage as a run does; ``leave_out`` are indexes of segments that are not there."""
    for index, (log, data) in enumerate(taken.logs):
        if index in leave_out:
            continue
        place = target.log_path(log)
        assert place is not None
        place.write_bytes(data)
        found = target.read_log(place)
        assert (found.history, found.number, found.digest) == (log.history, log.number, log.digest)
        target.apply_log(place, until=None, at=None)


def build(
    target: RestoreTarget, taken: Taken, *, until: Position | None = None, at: datetime | None = None, run: str = "r1"
) -> None:
    """Begin, fill and check; everything must be sound."""
    target.begin(run)
    fill(target, taken)
    fill_log(target, taken)
    assert list(target.check(until, at)) == []


def restore(target: RestoreTarget, taken: Taken, *, until: Position | None = None, at: datetime | None = None) -> None:
    """A whole restore."""
    build(target, taken, until=until, at=at)
    target.activate(came_from="full-1")
    target.finish()


@contextmanager
def started(directory: Path, bin_directory: Path) -> Iterator[str]:
    """A scratch cluster, running; the words for psql to reach it."""
    from backupd.engines.postgres.server_control import PgControl

    control = PgControl(directory, bin_directory=bin_directory)
    control.start(["-p", "5499", "-k", str(directory)], seconds_max=60)
    try:
        yield f"host={directory} port=5499 user=postgres"
    finally:
        control.stop("fast")
