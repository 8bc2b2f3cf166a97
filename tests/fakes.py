"""A pair of copies that are plain files: an honest Writer, RestoreTarget, provider and clock for tests of the runs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from backupd.engines.file_reader import FileReader
from backupd.errors import DamageFound, NotHealthy, Refused
from backupd.model.pair import CopyRole, CopyState, CopyStatus, PairStatus
from backupd.model.position import Position
from backupd.model.records import BackupType, LogFile, LogKind, Stamp, Stamps, StoredFile
from backupd.pages import page_hashes
from backupd.ports import (
    ClosedLog,
    EngineLook,
    Extent,
    FreezeEnd,
    PagesEnd,
    PageSource,
    Place,
    Prepared,
    ReportProgress,
    RestoreTarget,
    Snapshot,
    Suitability,
    TargetFacts,
    Truncated,
    TruncationEvidence,
)
from backupd.steps import step

PAGE_BYTES = 4096
PAGES = 16


@dataclass
class FakeClock:
    """Time that passes by a millisecond at every look, and at once when somebody sleeps."""

    at: datetime = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
    seconds: float = 0.0

    def _pass(self, seconds: float) -> None:
        self.seconds += seconds
        self.at += timedelta(seconds=seconds)

    def now(self) -> datetime:
        self._pass(0.001)
        return self.at

    def monotonic(self) -> float:
        self._pass(0.001)
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self._pass(seconds)


@dataclass
class FakeSource(FileReader):
    """A file of a snapshot whose pages' hashes were noted when they were replayed."""

    name: str
    path: Path
    expected: np.ndarray
    page_bytes: int = PAGE_BYTES
    size_bytes: int = PAGE_BYTES * PAGES
    page_count: int = PAGES

    def __post_init__(self) -> None:
        super().__init__(self.path)

    def extents(self) -> Sequence[Extent]:
        return (Extent("pages", 0, self.page_count),)

    def words(self, pages: Sequence[int]) -> str:
        return f"page {', '.join(str(page + 1) for page in pages)} of {self.name}"

    def bad_pages(self, first_page: int, pages: memoryview, hashes: np.ndarray) -> Sequence[int]:
        wrong = np.nonzero(self.expected[first_page : first_page + len(hashes)] != hashes)[0]
        return [first_page + int(index) for index in wrong]


class FakeFreeze:
    """Holds a kernel lock, so that the death of this process ends it."""

    def __init__(self, writer: FakeWriter) -> None:
        self.position = writer.position("b")
        self.places: Sequence[Place] = (Place(writer.db("b").parent, (writer.db("b").name,)),)
        self.last_commit_at = max(
            (log.last_commit_at for log, _ in writer.logs("b") if log.last_commit_at), default=None
        )
        self._writer = writer
        self._end: FreezeEnd | None = None
        self._descriptor = os.open(writer.root / "freeze.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def close(self) -> None:
        self.thaw()

    def thaw(self) -> FreezeEnd:
        if self._end is None:
            os.close(self._descriptor)
            self._end = FreezeEnd(0.01, held=not self._writer.break_freezes)
            self._writer.break_freezes = max(0, self._writer.break_freezes - 1)
            step("writer.thaw")
        return self._end


@dataclass
class FakeWriter:
    """One database of two files; a commit writes one page and one log file, and replication copies it."""

    root: Path
    clock: FakeClock
    database: str = "orders"
    engine: str = "fake"
    break_freezes: int = 0
    findings: list[str] = field(default_factory=list)
    look_findings: list[str] = field(default_factory=list)
    answers: dict[str, object] = field(default_factory=dict)
    does_not_start: str = ""
    scratch_free_bytes: int = 1 << 40
    late_stamp: bool = False
    spared: dict[str, int] = field(default_factory=dict)
    active_can_stand_in: bool = False
    source_role: CopyRole = CopyRole.PASSIVE

    # --- the world's side: what an application and a person do ---

    def create(self) -> FakeWriter:
        for copy in "ab":
            self.db(copy).parent.mkdir(parents=True)
            self.db(copy).write_bytes(bytes(PAGE_BYTES * PAGES))
        self.state = {"history": "1" * 16, "passive": "healthy", "identity": os.urandom(4).hex(), "restoring": ""}
        self._note_map()
        return self

    def commit(self, text: str) -> Position:
        """The application changes one page of the active."""
        return self._append({"text": text, "page": self.position("a").offset % PAGES})

    def frozen(self) -> bool:
        """Whether some process holds replay still."""
        with (self.root / "freeze.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def content(self, copy: str) -> bytes:
        return self.db(copy).read_bytes()

    # --- files ---

    def db(self, copy: str) -> Path:
        return self.root / copy / "app.db"

    @property
    def state(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.root / "pair.json").read_text())
        return found

    @state.setter
    def state(self, value: dict[str, str]) -> None:
        temporary = self.root / "pair.tmp"
        temporary.write_text(json.dumps(value))
        temporary.replace(self.root / "pair.json")

    def change(self, **values: str) -> None:
        self.state = {**self.state, **values}

    def log_dir(self, copy: str) -> Path:
        place = self.root / copy / "log" / self.state["history"]
        place.mkdir(parents=True, exist_ok=True)
        return place

    def logs(self, copy: str) -> list[tuple[LogFile, Path]]:
        return [(read_log_file(path), path) for path in sorted(self.log_dir(copy).glob("*.log"))]

    def position(self, copy: str) -> Position:
        noted = self.root / copy / "position"
        text = noted.read_text() if noted.exists() else ""
        if text.startswith(self.state["history"]):
            return Position.parse(text)
        return Position(self.state["history"], 0)

    def _append(self, body: dict[str, Any]) -> Position:
        here = self.position("a")
        logs = self.logs("a")
        digest = logs[-1][0].digest if logs else (self.root / "a" / "last-digest").read_text() if here.offset else ""
        head = {
            "history": here.history,
            "number": here.offset + 1,
            "previous": digest,
            "at": self.clock.now().isoformat(),
        }
        path = self.log_dir("a") / f"{here.offset + 1:08d}.log"
        path.write_text(json.dumps({**head, **body}))
        (self.root / "a" / "last-digest").write_text(read_log_file(path).digest)
        apply(path, self.db("a"))
        end = Position(here.history, here.offset + 1)
        (self.root / "a" / "position").write_text(str(end))
        return end

    def _note_map(self) -> None:
        np.save(self.root / "b" / "map.npy", page_hashes(self.content("b"), PAGE_BYTES, 1))

    def replicate(self) -> None:
        """What the replication processes do, done at once."""
        if self.state["passive"] == "must be seeded":
            shutil.copyfile(self.db("a"), self.db("b"))
            (self.root / "b" / "position").write_text(str(self.position("a")))
            self._note_map()
            self.change(passive="healthy")
        if self.state["passive"] != "healthy":
            return
        have = self.position("b")
        for log, path in self.logs("a"):
            if log.end > have:
                shutil.copyfile(path, self.log_dir("b") / path.name)
                apply(path, self.db("b"))
                self._note_map()
                stamp = json.loads(path.read_text()).get("stamp")
                if stamp:
                    (self.root / "b" / f"stamp-{stamp['type']}").write_text(json.dumps(stamp))
                (self.root / "b" / "position").write_text(str(log.end))

    # --- ports.Writer ---

    def identity(self) -> str:
        return self.state["identity"]

    def adopt_identity(self, identity: str) -> None:
        self.change(identity=identity)

    def pair(self) -> PairStatus:
        step("writer.pair")
        state = CopyState(self.state["passive"])
        history = self.state["history"]
        active = CopyStatus("a", CopyRole.ACTIVE, CopyState.HEALTHY, str(self.db("a")), checkpointed=self.position("a"))
        at = self.position("b")
        passive = CopyStatus("b", CopyRole.PASSIVE, state, str(self.db("b")), replayed=at, checkpointed=at)
        return PairStatus(self.database, self.engine, active, passive, history)

    @contextmanager
    def replication(self) -> Iterator[None]:
        step("writer.replication")
        self.replicate()
        yield

    def prepare(self, *, checkpoint: bool, timeout_seconds: float, report: ReportProgress) -> Prepared:
        step("writer.prepare")
        self.replicate()
        return Prepared(self.position("b"), self.clock.now())

    def freeze(self, limit_seconds: float, *, moving: bool = False) -> FakeFreeze:
        step("writer.freeze")
        return FakeFreeze(self)

    def snapshot_places(self) -> Sequence[Path]:
        return [self.db("b").parent]

    def room_bytes(self, *, copied: bool) -> int:
        return 1 << 20

    def page_sources(self, snapshots: Sequence[Snapshot], position: Position) -> Sequence[PageSource]:
        step("writer.page_sources")
        path = snapshots[0].directory / "app.db"
        return [FakeSource("app.db", path, np.load(self.root / "b" / "map.npy"))]

    def finish_pages(self, position: Position, timeout_seconds: float, report: ReportProgress) -> PagesEnd:
        step("writer.finish_pages")
        return PagesEnd(position, position)

    def parse_position(self, text: str) -> Position:
        return Position.parse(text)

    def closed_logs(self, after: Position, until: Position) -> Sequence[ClosedLog]:
        step("writer.closed_logs")
        found = [ClosedLog(log, path) for log, path in self.logs("b") if after < log.end <= until]
        if until > after and (not found or found[0].log.start != after):
            raise NotHealthy("there is a gap", because="the log is gone", next_step="take a full")
        return found

    def check_log(self, closed: ClosedLog) -> None:
        step("writer.check_log")
        if read_log_file(closed.path).digest != closed.log.digest:
            raise DamageFound("a log is damaged", because="its digest differs", next_step="seed")

    def check_snapshot(self, directory: Path, level: str) -> Sequence[str]:
        step("writer.check_snapshot")
        return self.findings

    def stamps(self) -> Stamps:
        known: dict[str, Stamp] = {}
        for path in (self.root / "b").glob("stamp-*"):
            value = json.loads(path.read_text())
            at = datetime.fromisoformat(value["at"])
            known[value["type"]] = Stamp(BackupType(value["type"]), value["id"], Position.parse(value["end"]), at)
        full, incremental = known.get("full"), known.get("incremental")
        if full and incremental and incremental.at < full.at:
            incremental = None
        return Stamps(full, incremental)

    def stamp(self, stamp: Stamp, timeout_seconds: float) -> bool:
        step("writer.stamp")
        value = {"type": stamp.type.value, "id": stamp.backup_id, "end": str(stamp.end), "at": stamp.at.isoformat()}
        self._append({"stamp": value})
        if self.late_stamp:
            return False
        step("writer.stamp_seen")
        self.replicate()
        return True

    def mark_suspect(self, because: str) -> None:
        self.change(passive="suspect")

    def suspend(self, comment: str) -> None:
        self.change(passive="suspended")

    def resume(self) -> None:
        self.change(passive="healthy")

    def seed(self) -> None:
        self.change(passive="must be seeded")

    def truncation_evidence(self) -> TruncationEvidence:
        step("writer.evidence")
        held = [log.start for copy in "ab" for log, _ in self.logs(copy)]
        at = self.position("b")
        return TruncationEvidence(
            history=self.state["history"],
            oldest_held=min(held, default=None),
            passive_state=self.state["passive"],
            passive_because="",
            passive_replayed=at,
            passive_checkpointed=at,
            active_checkpointed=self.position("a"),
            seen_at=self.clock.now(),
            passive_log_from=min((log.start for log, _ in self.logs("b")), default=None),
        )

    def truncate(self, before: Position, archived: Mapping[str, int]) -> Truncated:
        self.spared = dict(archived)
        count = size = 0
        for copy in "ab":
            for log, path in self.logs(copy):
                if log.end <= before:
                    step("writer.truncate")
                    path.unlink()
                    count, size = count + 1, size + log.size_bytes
        return Truncated(count, size, self.truncation_evidence().oldest_held)

    def restore_target(self, target: str) -> RestoreTarget:
        if target in {"b", str(self.db("b").parent)}:
            raise Refused("cannot restore to b", because="it is the passive", next_step="--target active")
        return FakeTarget(self, None) if target in {"active", "a"} else FakeScratch(self, Path(target))

    def seed_target(self, *, asked: bool = False) -> RestoreTarget | None:
        del asked
        return None

    def active_log_from(self) -> Position | None:
        return None

    def rights(self) -> str:
        return ""

    def recover(self, *, keep_stage: bool = False) -> Sequence[str]:
        if not self.state["restoring"]:
            return []
        FakeTarget(self, None).abandon(keep_stage=keep_stage)
        return ["undid a restore"]


class FakeTarget:
    """The active's file, or a directory."""

    def __init__(self, writer: FakeWriter, directory: Path | None) -> None:
        self._writer = writer
        self._directory = directory
        self._final = writer.db("a") if directory is None else directory / "app.db"

    def facts(self) -> TargetFacts:
        role = "active" if self._directory is None else "directory"
        position = self._writer.position("a") if self._directory is None else None
        exists = self._final.exists()
        return TargetFacts(role, self._final, exists, PAGE_BYTES * PAGES, position, (), 1 << 40)

    def commits_after(self, position: Position, at: datetime | None) -> int | None:
        return None

    def begin(self, run_id: str, *, force: bool = False) -> None:
        step("target.begin")
        if self._directory is None:
            self._writer.change(restoring=run_id)
        elif self._final.exists() and not force:
            raise Refused(f"{self._final} is there", because="it would be replaced", next_step="--force")
        else:
            self._directory.mkdir(exist_ok=True)

    @property
    def stage(self) -> Path:
        return self._final.with_name(".app.db.stage")

    def stage_file(self, stored: StoredFile) -> Path:
        return self.stage

    def live_file(self, stored: StoredFile) -> Path | None:
        return self._final if self._directory is None and self._final.exists() else None

    def reserve(self, histories: Collection[str]) -> None:
        pass

    def log_path(self, log: LogFile) -> Path | None:
        return None

    def read_log(self, path: Path) -> LogFile:
        return read_log_file(path)

    def apply_log(self, path: Path, *, until: Position | None, at: datetime | None) -> Position:
        step("target.apply_log")
        log = read_log_file(path)
        late = log.last_commit_at is not None and at is not None and log.last_commit_at > at
        if late or (until is not None and log.end > until):
            return log.start
        apply(path, self.stage)
        return log.end

    def check(self, until: Position | None, at: datetime | None) -> Sequence[str]:
        step("target.check")
        return self._writer.findings

    def reached(self) -> Position | None:
        return None

    def activate(self, *, came_from: str) -> None:
        step("target.activate")
        self.stage.replace(self._final)
        if self._directory is None:
            history = hashlib.sha256(came_from.encode() + os.urandom(4)).hexdigest()[:16]
            self._writer.change(history=history, passive="must be seeded", restoring="")

    def finish(self) -> None:
        step("target.finish")
        self._writer.change(restoring="")

    def abandon(self, *, keep_stage: bool = False) -> None:
        step("target.abandon")
        if self._directory is None:
            self._writer.change(restoring="")
        if not keep_stage:
            self.stage.unlink(missing_ok=True)


class FakeScratch(FakeTarget):
    """A directory that can be opened; what it answers is what the writer was told."""

    def __init__(self, writer: FakeWriter, directory: Path) -> None:
        super().__init__(writer, directory)
        self._place = directory

    def facts(self) -> TargetFacts:
        return replace(super().facts(), free_bytes=self._writer.scratch_free_bytes)

    @contextmanager
    def opened(self) -> Iterator[FakeScratch]:
        step("target.open")
        if self._writer.does_not_start:
            raise NotHealthy("the server did not start", because=self._writer.does_not_start, next_step="look at it")
        (self._place / "running").touch()
        try:
            yield self
        finally:
            step("target.stop")
            (self._place / "running").unlink()

    def look(self) -> EngineLook:
        step("target.look")
        return EngineLook(("its own check",), tuple(self._writer.look_findings))

    def ask(self, sql: str, *, dbname: str | None, seconds_max: float) -> Sequence[Sequence[object]]:
        step("target.ask")
        assert self._final.exists()
        assert (self._place / "running").exists()
        return [[self._writer.answers[sql]]]

    def discard(self) -> None:
        step("target.discard")
        shutil.rmtree(self._place, ignore_errors=True)


class FakeProvider:
    """Copies the named files, and can be told that the disk is full."""

    name = "fake-copy"
    features: frozenset[Any] = frozenset()

    def __init__(self) -> None:
        self.full = False

    def suits(self, directory: Path) -> Suitability:
        return Suitability(True, "it is a test")

    def take(self, directory: Path, names: Sequence[str], label: str) -> Snapshot:
        step("provider.take")
        if self.full:
            raise NotHealthy("no snapshot", because="the disk is full", next_step="make room")
        place = directory / ".backupd-snapshot" / label
        place.mkdir(parents=True)
        for name in names:
            shutil.copyfile(directory / name, place / name)
        step("provider.taken")
        return Snapshot(self.name, label, place, directory)

    def discard(self, snapshot: Snapshot) -> None:
        step("provider.discard")
        shutil.rmtree(snapshot.directory, ignore_errors=True)

    def leftovers(self, directory: Path) -> Sequence[Snapshot]:
        place = directory / ".backupd-snapshot"
        found = sorted(place.iterdir()) if place.is_dir() else []
        return [Snapshot(self.name, one.name, one, directory) for one in found]


def read_log_file(path: Path) -> LogFile:
    """The facts of a log file, from its text."""
    text = path.read_bytes()
    head = json.loads(text)
    at = datetime.fromisoformat(head["at"])
    return LogFile(
        history=head["history"],
        number=head["number"],
        kind=LogKind.CONTROL if "stamp" in head else LogKind.FRAMES,
        start=Position(head["history"], head["number"] - 1),
        end=Position(head["history"], head["number"]),
        size_bytes=len(text),
        digest=hashlib.sha256(text).hexdigest(),
        previous_digest=head["previous"],
        first_commit_at=at,
        last_commit_at=at,
    )


def apply(log: Path, database: Path) -> None:
    """Write the page that the log file changes; a control record changes none."""
    body = json.loads(log.read_text())
    if "page" not in body:
        return
    with database.open("r+b") as file:
        file.seek(body["page"] * PAGE_BYTES)
        file.write(hashlib.sha256(body["text"].encode()).digest() * (PAGE_BYTES // 32))
