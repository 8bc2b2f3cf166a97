"""The PostgreSQL writer: speaks for one primary and its standby, whichever of the two copies is which now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.engines.postgres.cluster import PgCopy, PgOptions
from backupd.engines.postgres.look import RUN_SECONDS, STATUS_SECONDS, read_copies
from backupd.engines.postgres.marks import Marks, mark_suspect, read_marks
from backupd.engines.postgres.roles import PgPair, Seen, judge_pair
from backupd.engines.postgres.status import ENGINE, pair_status
from backupd.errors import ConfigInvalid, FreezeBroken
from backupd.model.pair import CopyRole, PairStatus
from backupd.model.position import Position
from backupd.model.records import Stamp, Stamps, own_point_name
from backupd.ports import (
    Clock,
    ClosedLog,
    Freeze,
    PagesEnd,
    PageSource,
    Prepared,
    ReportProgress,
    RestoreTarget,
    Snapshot,
    Truncated,
    TruncationEvidence,
)

if TYPE_CHECKING:
    from backupd.engines.postgres.connect import Server
    from backupd.engines.postgres.pair_log import PairLog
    from backupd.engines.postgres.reading import Reading


class PostgresWriter:
    """See ``ports.Writer``; roles are asked at every call, and only what no server can say is remembered.

    Args:
        database: its name in the policy.
        copies: both, by name.
        options: the policy's.
        state_dir: ``<state_dir>/<database>``.
        clock: the only source of time.
        integrity: what a restored cluster is looked at with.
        started_by_policy: the policy has a command that starts the server after a restore.
    """

    engine = ENGINE
    active_can_stand_in = True

    def __init__(
        self,
        *,
        database: str,
        copies: Mapping[str, PgCopy],
        options: PgOptions,
        state_dir: Path,
        clock: Clock,
        integrity: str = "quick",
        started_by_policy: bool = False,
    ) -> None:
        self.database = database
        self.copies = dict(copies)
        self.options = options
        self.state_dir = state_dir
        self.clock = clock
        self.integrity = integrity
        self.started_by_policy = started_by_policy
        self.source_role = CopyRole.PASSIVE
        self._reading: Reading | None = None
        self._log: PairLog | None = None

    def judged(self) -> PgPair:
        """Who is who now. Raises as ``judge_pair``, and ConfigInvalid for a data directory of another cluster."""
        return self.judge(self.seen())

    def seen(self, seconds_max: float = RUN_SECONDS) -> Seen:
        """What both copies say of themselves now, for ``judge`` and ``status_of``."""
        return read_copies(tuple(self.copies.values()), slot=self.options.slot, seconds_max=seconds_max)

    def judge(self, seen: Seen) -> PgPair:
        """Who is who by these answers. Raises as ``judged``."""
        from backupd.engines.postgres.data_directory import check_data_directory

        pair = judge_pair(self.database, seen, must_seed=self._marks().passive is not None)
        for name, facts in pair.facts.items():
            check_data_directory(self.copies[name], facts)
        return pair

    def pair(self) -> PairStatus:
        """See ``ports.Writer``."""
        from backupd.engines.postgres.log_room import with_log_room

        return with_log_room(self.status_of(self.seen(STATUS_SECONDS)))

    def status_of(self, seen: Seen) -> PairStatus:
        """The pair by these answers."""
        return pair_status(self.database, tuple(self.copies.values()), seen, self.options, self._marks())

    def _marks(self) -> Marks:
        return read_marks(self.state_dir, tuple(self.copies))

    @contextmanager
    def servers(self, pair: PgPair, *, dbname: str | None = None) -> Iterator[tuple[Server, Server]]:
        """Connections to the active and to the passive. Raises NotHealthy, ConfigInvalid."""
        from backupd.engines.postgres.connect import connect

        active, passive = self.copies[pair.active], self.copies[pair.passive]
        with (
            connect(active.conninfo, dbname=dbname, copy=active.name) as first,
            connect(passive.conninfo, dbname=dbname, copy=passive.name) as second,
        ):
            yield first, second

    def identity(self) -> str:
        """See ``ports.Writer``: the system identifier; what was adopted stands where no server answers."""
        from backupd.engines.postgres.identity import pair_identity

        return pair_identity(self)

    def adopt_identity(self, identity: str) -> None:
        """See ``ports.Writer``."""
        from backupd.engines.postgres.identity import adopt

        adopt(self.state_dir, identity)

    def replication(self) -> AbstractContextManager[None]:
        """See ``ports.Writer``: the servers replicate by themselves."""
        return nullcontext()

    def suspend(self, comment: str) -> None:
        """See ``ports.Writer``."""
        from backupd.engines.postgres.pauses import suspend

        suspend(self.copies[self.judged().passive], self.state_dir, comment)

    def resume(self) -> None:
        """See ``ports.Writer``."""
        from backupd.engines.postgres.pauses import resume_suspended

        resume_suspended(self.copies[self.judged().passive], self.state_dir)

    def seed(self) -> None:
        """See ``ports.Writer``: the passive is made anew now, for no replication of ours would do it later."""
        from backupd.engines.postgres.restoring import seed_by_copy

        seed_by_copy(self)

    def seed_target(self, *, asked: bool = False) -> RestoreTarget | None:
        """See ``ports.Writer``."""
        from backupd.engines.postgres.restoring import seed_target

        return seed_target(self, asked=asked)

    def mark_suspect(self, because: str) -> None:
        """See ``ports.Writer``."""
        mark_suspect(self.state_dir, self.judged().passive, because)

    def prepare(self, *, checkpoint: bool, timeout_seconds: float, report: ReportProgress) -> Prepared:
        """See ``ports.Writer``; the slots that hold the log are made first, where they are missing."""
        from backupd.engines.postgres.preparing import prepare_source

        self._log = None  # what an earlier run has read of the log is its own
        return prepare_source(self, checkpoint=checkpoint, seconds_max=timeout_seconds, report=report)

    def restore_point(self) -> str:
        """The name of the next restore point, which makes even an idle active close its log."""
        return own_point_name(self.clock.now())

    def freeze(self, limit_seconds: float, *, moving: bool = False) -> Freeze:
        """See ``ports.Writer``."""
        from backupd.engines.postgres.freeze import begin_freeze
        from backupd.engines.postgres.reading import Reading

        pair = self.judged()
        source = self.copies[pair.name_of(self.source_role)]
        reading = Reading(source, pair.need(self.source_role))
        freeze = begin_freeze(
            self.copies[pair.active],
            source,
            self.options,
            state_dir=self.state_dir,
            label=f"backupd {self.database} {self.clock.now().isoformat(timespec='seconds')}",
            limit_seconds=limit_seconds,
            places=reading.places,
            moving=moving or self.source_role is CopyRole.ACTIVE,
        )
        reading.began(freeze)
        self._reading = reading
        return freeze

    def snapshot_places(self) -> Sequence[Path]:
        """See ``ports.Writer``: the data directory, and where its tablespaces lie."""
        from backupd.engines.postgres.reading import tablespace_locations

        place = self._source().data_directory
        return (place, *tablespace_locations(place))

    def room_bytes(self, *, copied: bool) -> int:
        """See ``ports.Writer``."""
        from backupd.engines.postgres.reading import room_bytes

        return room_bytes(self._source().data_directory, copied=copied)

    def _source(self) -> PgCopy:
        return self.copies[self.judged().name_of(self.source_role)]

    def page_sources(self, snapshots: Sequence[Snapshot], position: Position) -> Iterator[PageSource]:
        """See ``ports.Writer``."""
        if self._reading is None:
            raise FreezeBroken(
                f"there is no snapshot of {self.database}",
                because=f"this run has not frozen it at {position}",
                next_step="run the backup again",
            )
        return self._reading.sources(snapshots)

    def finish_pages(self, position: Position, timeout_seconds: float, report: ReportProgress) -> PagesEnd:
        """See ``ports.Writer``: the active closes its segment, and the passive receives it."""
        if self._reading is None:
            raise ValueError(f"nothing was read at {position}")
        start, closed = self.log.close_after(self._reading, self.restore_point(), timeout_seconds, report)
        return PagesEnd(start, closed.position, closed.at, (*self._reading.notes, *self.log.notes))

    def check_snapshot(self, directory: Path, level: str) -> Sequence[str]:
        """See ``ports.Writer``. A snapshot that must stay as it is cannot be opened by a server: a restore checks."""
        raise ConfigInvalid(
            f"the snapshot in {directory} cannot be checked by the server ({level})",
            because="a server changes the files that it opens; every page's checksum was verified",
            next_step='set check.integrity = "none" in the policy; restores to a directory check with the server',
        )

    @property
    def log(self) -> PairLog:
        """The pair's log, as one run sees it."""
        if self._log is None:
            from backupd.engines.postgres.pair_log import PairLog

            self._log = PairLog(self)
        return self._log

    def closed_logs(self, after: Position, until: Position) -> Sequence[ClosedLog]:
        """See ``ports.Writer``."""
        return self.log.closed(after, until)

    def check_log(self, closed: ClosedLog) -> None:
        """See ``ports.Writer``."""
        self.log.check(closed)

    def parse_position(self, text: str) -> Position:
        """See ``ports.Writer``."""
        from backupd.engines.postgres.positions import parse_position

        return parse_position(text, current=lambda: self.judged().history)

    def stamps(self) -> Stamps:
        """See ``ports.Writer``."""
        return self.log.stamps()

    def stamp(self, stamp: Stamp, timeout_seconds: float) -> bool:
        """See ``ports.Writer``."""
        return self.log.stamp(stamp, timeout_seconds)

    def truncation_evidence(self) -> TruncationEvidence:
        """See ``ports.Writer``."""
        return self.log.evidence()

    def truncate(self, before: Position, archived: Mapping[str, int]) -> Truncated:  # noqa: ARG002
        """See ``ports.Writer``; the log of ended histories goes with the slots."""
        return self.log.truncate(before)

    def restore_target(self, target: str) -> RestoreTarget:
        """See ``ports.Writer``."""
        from backupd.engines.postgres.restoring import target_for

        return target_for(self, target)

    def active_log_from(self) -> Position | None:
        """See ``ports.Writer``."""
        return self.log.active_from()

    def rights(self) -> str:
        """See ``ports.Writer``."""
        return self.log.rights()

    def recover(self, *, keep_stage: bool = False) -> Sequence[str]:
        """See ``ports.Writer``: replay that a dead run left paused goes on, and a dead restore is ended."""
        from backupd.engines.postgres.restoring import recover_pair

        return recover_pair(self, keep_stage=keep_stage)
