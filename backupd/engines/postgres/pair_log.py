"""The log of a pair as one run sees it: closed segments, stamps, and what may be let go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backupd.engines.postgres.backup_mode import BackupEnd
from backupd.engines.postgres.closed_logs import CopyLog
from backupd.engines.postgres.connect import connect
from backupd.engines.postgres.prepare import ClosedAt, close_log, wait_received
from backupd.engines.postgres.rights import missing_grants
from backupd.engines.postgres.roles import PgPair
from backupd.engines.postgres.stamps import read_stamps, wait_stamp_seen, write_stamp
from backupd.engines.postgres.timelines import history_at
from backupd.engines.postgres.truncation import LogPlace, evidence, truncate
from backupd.engines.postgres.wal_names import parse_segment_name
from backupd.engines.postgres.waldump import find_waldump
from backupd.errors import BackupdError, ConfigInvalid, NotHealthy
from backupd.model.pair import CopyRole
from backupd.model.position import Position
from backupd.model.records import Progress, Stamp, Stamps
from backupd.ports import ClosedLog, ReportProgress, Truncated, TruncationEvidence

if TYPE_CHECKING:
    from backupd.engines.postgres.reading import Reading
    from backupd.engines.postgres.writer import PostgresWriter

_AGAIN_SECONDS = 1.0  # between two tries to reach a server that is away


class PairLog:
    """What a writer does with the log; segments that were read once are not read again by this object."""

    def __init__(self, writer: PostgresWriter) -> None:
        self._writer = writer
        self._read: tuple[str, CopyLog] | None = None

    def _source_log(self, pair: PgPair) -> CopyLog:
        name = pair.name_of(self._writer.source_role)
        if self._read is None or self._read[0] != name:
            facts, copy = pair.facts[name], self._writer.copies[name]
            chosen = self._writer.options.bin_directory
            log = CopyLog(
                copy.data_directory,
                system_identifier=int(facts.system_identifier),
                major=facts.major,
                segment_bytes=facts.wal_segment_bytes,
                waldump=find_waldump(facts.major, chosen=chosen, data_directory=copy.data_directory),
            )
            self._read = (name, log)
        return self._read[1]

    def _needed(self) -> PgPair:
        pair = self._writer.judged()
        pair.need(self._writer.source_role)
        return pair

    def _log(self) -> CopyLog:
        """The log of the copy that is read; servers are asked only by the first of a run."""
        return self._read[1] if self._read is not None else self._source_log(self._needed())

    @property
    def notes(self) -> tuple[str, ...]:
        """What a record says about how its log was checked."""
        return self._log().notes

    def close_after(
        self, reading: Reading, name: str, seconds_max: float, report: ReportProgress
    ) -> tuple[Position, ClosedAt]:
        """Close the log after the pages were read, and see it come to the passive.

        All pages are in the archive by now, so a server that is away (a restart, a cut line)
        is waited for: a backup of hours need not be taken again for a minute.
        Answers with where the log file begins that the pages need first, and with the end of the closed one.

        Raises:
            NotHealthy: it could not be closed, or did not come, within ``seconds_max``; or the roles have changed.
        """
        deadline = time.monotonic() + seconds_max
        while True:
            try:
                return self._close_after(reading.end(), name, max(1.0, deadline - time.monotonic()), report)
            except (NotHealthy, ConfigInvalid) as error:  # a server on its way down has no postmaster.pid already
                over = time.monotonic() + _AGAIN_SECONDS > deadline
                if over or error.details.get("role_change") or self._is_source(reading.source) is False:
                    raise
                report(Progress(f"waiting for the log that the pages need: {error.problem}", 0, 0))
                time.sleep(_AGAIN_SECONDS)

    def _is_source(self, name: str) -> bool | None:
        """Whether a copy still has the role that it is read in; None when nobody can say."""
        try:
            return self._writer.judged().name_of(self._writer.source_role) == name
        except BackupdError:
            return None

    def _close_after(
        self, end: BackupEnd, name: str, seconds_max: float, report: ReportProgress
    ) -> tuple[Position, ClosedAt]:
        pair = self._needed()
        if self._writer.source_role is CopyRole.ACTIVE:
            with connect(self._writer.copies[pair.active].conninfo, copy=pair.active) as server:
                closed = close_log(server, name)
        else:
            with self._writer.servers(pair) as (active, passive):
                closed = close_log(active, name)
                report(Progress("waiting for the log that the pages need", 0, 0))
                wait_received(passive, closed.lsn_end, seconds_max)
        self._source_log(pair)  # for notes and segments, which ask nobody any more
        size = pair.need(self._writer.source_role).wal_segment_bytes
        first = end.start_lsn // size * size
        # A segment in which a timeline began starts in the one before it; so does its log file.
        start = Position(history_at(max(first - 1, 0), pair.history, pair.ancestry), first)
        return start, closed

    def closed(self, after: Position, until: Position) -> Sequence[ClosedLog]:
        """See ``ports.Writer``."""
        return self._log().closed(after, until)

    def check(self, closed: ClosedLog) -> None:
        """See ``ports.Writer``."""
        self._log().check(closed)

    def stamps(self) -> Stamps:
        """What the copy that is read has seen. Raises NotHealthy, ConfigInvalid."""
        name = self._writer.judged().name_of(self._writer.source_role)
        conninfo, dbname = self._writer.copies[name].conninfo, self._writer.options.stamp_database
        with connect(conninfo, dbname=dbname, copy=name) as server:
            return read_stamps(server)

    def stamp(self, stamp: Stamp, seconds_max: float) -> bool:
        """See ``ports.Writer``."""
        pair, dbname = self._needed(), self._writer.options.stamp_database
        if pair.passive in pair.errors:
            # The active stands in: the passive sees the stamp when it has caught up, and the run waits for that.
            with connect(self._writer.copies[pair.active].conninfo, dbname=dbname, copy=pair.active) as server:
                write_stamp(server, stamp)
            raise pair.errors[pair.passive]
        with self._writer.servers(pair, dbname=dbname) as (active, passive):
            write_stamp(active, stamp)
            return wait_stamp_seen(passive, stamp.backup_id, seconds_max)

    def evidence(self) -> TruncationEvidence:
        """See ``ports.Writer``."""
        now, seen = self._writer.clock.now(), self._writer.seen()
        status, pair = self._writer.status_of(seen), self._writer.judge(seen)
        pair.need_both()
        with self._writer.servers(pair) as (active, passive):
            return evidence(
                active,
                passive,
                self._place(pair),
                passive_state=str(status.passive.state),
                passive_because=status.passive.because,
                seen_at=now,
            )

    def rights(self) -> str:
        """See ``ports.Writer``: asked without looking at the pair, for which a role needs some of them already."""
        stamp_database = self._writer.options.stamp_database
        for name, copy in self._writer.copies.items():
            with connect(copy.conninfo, copy=name) as server:
                missing = missing_grants(server, stamp_database)
            if missing:
                raise ConfigInvalid(
                    f"the role of the conninfo of copy {name} may not do all that a backup needs",
                    because=f"{len(missing)} rights are missing",
                    next_step="as a superuser, on the active: " + "; ".join(missing),
                )
        return "the role may do all that a backup needs, on both copies"

    def active_from(self) -> Position | None:
        """Where the oldest segment begins that the active still has, in the coordinates of today's history."""
        pair = self._writer.judged()
        facts = pair.facts.get(pair.active)
        if facts is None:
            return None
        with connect(self._writer.copies[pair.active].conninfo, copy=pair.active) as server:
            rows = server.rows("SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'")
        found = [parse_segment_name(str(row["name"]), facts.wal_segment_bytes) for row in rows]
        numbers = [segment[1] for segment in found if segment is not None]
        return Position(pair.history, min(numbers) * facts.wal_segment_bytes) if numbers else None

    def truncate(self, before: Position) -> Truncated:
        """See ``ports.Writer``."""
        pair, seconds_max = self._writer.judged(), self._writer.options.server_seconds_max
        pair.need_both()
        with self._writer.servers(pair) as (active, passive):
            return truncate(active, passive, before, self._place(pair), seconds_max=seconds_max)

    def _place(self, pair: PgPair) -> LogPlace:
        size = pair.need_both()[0].wal_segment_bytes
        return LogPlace(pair.history, pair.ancestry, size, self._writer.options.slot)
