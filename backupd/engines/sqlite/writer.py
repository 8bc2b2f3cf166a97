"""The SQLite writer: speaks for one pair, through its sockets and files.  Heavy imports wait inside methods."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backupd.engines.sqlite.control import ControlClient
from backupd.engines.sqlite.layout import CopyLayout, PairLayout
from backupd.engines.sqlite.pairfile import PairState, change_pair, load_pair, open_pair
from backupd.engines.sqlite.stamps import seen_stamps
from backupd.engines.sqlite.status import pair_status
from backupd.engines.sqlite.supervisor import Supervisor
from backupd.engines.sqlite.waiting import wait_replayed
from backupd.errors import ConfigInvalid, NotHealthy
from backupd.model.pair import CopyRole, PairStatus
from backupd.model.position import Position
from backupd.model.records import Stamp, Stamps
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
    from backupd.engines.sqlite.freeze import SqliteFreeze


class SqliteWriter:
    """See ``ports.Writer``.

    Args:
        copies: name and path of each of the two.
        first_active: which is active when the pair is made; afterwards the pair knows.
        state_dir: ``<state_dir>/<database>``.
        options: of the capture process (see ``CaptureOptions``).
    """

    engine, active_can_stand_in = "sqlite", False

    def __init__(
        self,
        *,
        database: str,
        copies: Mapping[str, Path],
        first_active: str,
        state_dir: Path,
        options: Mapping[str, Any],
        clock: Clock,
    ) -> None:
        self.database = database
        self.copies = {name: Path(path) for name, path in copies.items()}
        self.layout = PairLayout(state_dir)
        self._first_active = first_active
        self._options = dict(options)
        self.clock = clock
        self.source_role = CopyRole.PASSIVE
        self._freeze: SqliteFreeze | None = None

    # --- who is who ---------------------------------------------------------

    def pair_state(self) -> PairState:
        """The remembered pair; made at the first call."""
        names = sorted(self.copies)
        return open_pair(self.layout.pair, (names[0], names[1]), self._first_active)

    def active_files(self) -> CopyLayout:
        """The files of the active copy."""
        name = self.pair_state().active
        return self.layout.copy(name, self.copies[name])

    def passive_files(self) -> CopyLayout:
        """The files of the passive copy."""
        name = self.pair_state().passive
        return self.layout.copy(name, self.copies[name])

    def identity(self) -> str:
        """See ``ports.Writer``."""
        return self.pair_state().identity

    def adopt_identity(self, identity: str) -> None:
        """See ``ports.Writer``."""
        self.pair_state()
        change_pair(self.layout.pair, identity=identity)

    def pair(self) -> PairStatus:
        """See ``ports.Writer``."""
        return pair_status(self.database, self.layout, self.pair_state(), self.copies)

    def replicator(self, log_to: Path | None = None) -> Supervisor:
        """What the service keeps running for this database."""
        return Supervisor(
            self.database,
            self.layout,
            self.copies,
            first_active=self._first_active,
            options=self._options,
            log_to=log_to,
        )

    def replication(self) -> AbstractContextManager[None]:
        """See ``ports.Writer``."""
        from backupd.engines.sqlite.replication import replicating

        return replicating(self)

    def suspend(self, comment: str) -> None:
        """See ``ports.Writer``."""
        with self.replay() as replay:
            replay.call("suspend", comment=comment)

    def resume(self) -> None:
        """See ``ports.Writer``."""
        with self.replay() as replay:
            replay.call("resume")

    def seed(self) -> None:
        """See ``ports.Writer``."""
        self.pair_state()
        change_pair(self.layout.pair, seed_because="a person asked for it")
        with contextlib.suppress(NotHealthy), self.capture() as capture:
            capture.call("need_seed", because="a person asked for it")

    def mark_suspect(self, because: str) -> None:
        """See ``ports.Writer``."""
        with self.replay() as replay:
            replay.call("mark_suspect", because=because)

    def capture(self) -> ControlClient:
        """A connection to the capture process. Raises NotHealthy when it is not there."""
        return ControlClient(self.active_files().capture_socket, who="the capture process")

    def replay(self) -> ControlClient:
        """A connection to the replay process. Raises NotHealthy when it is not there."""
        return ControlClient(self.passive_files().replay_socket, who="the replay process")

    def prepare(self, *, checkpoint: bool, timeout_seconds: float, report: ReportProgress) -> Prepared:
        """See ``ports.Writer``."""
        with self.capture() as capture:
            closed = capture.call("prepare", checkpoint=checkpoint, timeout_seconds=timeout_seconds)
        position = Position(str(closed["history"]), int(closed["offset"]))
        wait_replayed(self, position, timeout_seconds, report)
        covers_until = datetime.fromtimestamp(int(closed["covers_until_us"]) / 1e6, UTC)
        return Prepared(position, covers_until)

    def freeze(self, limit_seconds: float, *, moving: bool = False) -> Freeze:
        """See ``ports.Writer``; a page that moves cannot be judged here, so nothing is ever read moving."""
        if moving:
            raise ConfigInvalid(
                f"{self.database} cannot be read while replay runs",
                because="an SQLite page carries no checksum that tells a torn one from a bad one",
                next_step='set backup.provider = "auto" in the policy',
            )
        from backupd.engines.sqlite.freeze import SqliteFreeze

        self._freeze = SqliteFreeze(self.passive_files(), limit_seconds)
        return self._freeze

    def snapshot_places(self) -> Sequence[Path]:
        """See ``ports.Writer``."""
        return (self.passive_files().path.parent,)

    def room_bytes(self, *, copied: bool) -> int:
        """See ``ports.Writer``: the file once more when it is copied, and a log file."""
        with contextlib.suppress(OSError):
            if copied:
                return self.passive_files().path.stat().st_size + int(self._options["log_file_bytes_max"])
        return int(self._options["log_file_bytes_max"])

    def page_sources(self, snapshots: Sequence[Snapshot], position: Position) -> Sequence[PageSource]:
        """See ``ports.Writer``."""
        from backupd.engines.sqlite.page_source import SqlitePageSource

        if self._freeze is None or self._freeze.position != position:
            raise NotHealthy(
                "the snapshot has no page map",
                because="this writer has not frozen the passive at that position",
                next_step="run the backup again",
            )
        facts = self._freeze.facts
        return [
            SqlitePageSource(
                snapshots[0].directory / name,
                facts.map_path,
                page_bytes=facts.page_bytes,
                page_count=facts.pages,
                checksum=facts.checksum,
            )
            for name in self._freeze.places[0].names
        ]

    def finish_pages(self, position: Position, timeout_seconds: float, report: ReportProgress) -> PagesEnd:  # noqa: ARG002
        """See ``ports.Writer``; a snapshot between two log files stands for itself."""
        return PagesEnd(position, position)

    def parse_position(self, text: str) -> Position:
        """See ``ports.Writer``."""
        try:
            return Position.parse(text)
        except ValueError as problem:
            raise ConfigInvalid(
                f"{text!r} is not a position", because=str(problem), next_step=f"backupctl list {self.database}"
            ) from problem

    def check_snapshot(self, directory: Path, level: str) -> Sequence[str]:
        """See ``ports.Writer``."""
        from backupd.engines.sqlite.check import check_file

        return check_file(directory / self.passive_files().path.name, level)

    def closed_logs(self, after: Position, until: Position) -> Sequence[ClosedLog]:
        """See ``ports.Writer``."""
        from backupd.engines.sqlite.closed_logs import gap_free

        return gap_free(self.database, self.passive_files().logs, after, until)

    def check_log(self, closed: ClosedLog) -> None:
        """See ``ports.Writer``."""
        from backupd.engines.sqlite.logcheck import verify_log

        verify_log(closed.path)

    # --- stamp and truncation -----------------------------------------------

    def stamps(self) -> Stamps:
        """See ``ports.Writer``."""
        return seen_stamps(self.passive_files().marker)

    def stamp(self, stamp: Stamp, timeout_seconds: float) -> bool:
        """See ``ports.Writer``."""
        if not self._has_seen(stamp):
            value = {name: str(fact) for name, fact in asdict(stamp).items()}
            value |= {"end": str(stamp.end), "at": stamp.at.isoformat()}
            with self.capture() as capture:
                capture.call("stamp", stamp=value)
        deadline = time.monotonic() + timeout_seconds
        while not self._has_seen(stamp):
            if time.monotonic() >= deadline:
                return False
            self.clock.sleep(0.02)
        return True

    def _has_seen(self, stamp: Stamp) -> bool:
        seen = self.stamps()
        return stamp.backup_id in {one.backup_id for one in (seen.full, seen.incremental) if one is not None}

    def truncation_evidence(self) -> TruncationEvidence:
        """See ``ports.Writer``."""
        from backupd.engines.sqlite.truncation import evidence

        return evidence(self)

    def truncate(self, before: Position, archived: Mapping[str, int]) -> Truncated:
        """See ``ports.Writer``."""
        from backupd.engines.sqlite.truncation import truncate

        return truncate(self, before, archived)

    # --- restore ------------------------------------------------------------

    def restore_target(self, target: str) -> RestoreTarget:
        """See ``ports.Writer``."""
        from backupd.engines.sqlite.targets import choose_target

        return choose_target(self, target)

    def seed_target(self, *, asked: bool = False) -> RestoreTarget | None:  # noqa: ARG002 - there is one way only
        """See ``ports.Writer``; replication seeds it from the active, page by page."""
        return None

    def active_log_from(self) -> Position | None:
        """See ``ports.Writer``; a seed starts from pages, not from log."""
        return None

    def rights(self) -> str:
        """See ``ports.Writer``; a file has its owner, and every check of it says so."""
        return ""

    def recover(self, *, keep_stage: bool = False) -> Sequence[str]:
        """See ``ports.Writer``."""
        from backupd.engines.sqlite.active_target import recover_active

        pair = load_pair(self.layout.pair)
        if pair is None:
            return []
        return recover_active(self, keep_stage=keep_stage)
