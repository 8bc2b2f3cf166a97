"""A whole world for a test of the runs: a fake pair, and a real journal, lease and archive in a directory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from backupd.archive.database import DatabaseArchive
from backupd.archive.local import LocalStore
from backupd.archive.repository import Repository
from backupd.journal.journal import Journal
from backupd.journal.lease import RunLease
from backupd.policy.schema import Policy
from backupd.policy.second_archive import for_second_archive
from backupd.ports import Clock, ObjectStore
from backupd.providers.choose import Choice
from backupd.runs.context import RunContext
from tests.fakes import FakeClock, FakeProvider, FakeWriter

POLICY = {
    "database": "orders",
    "engine": "sqlite",
    "archive": "file:///nowhere",
    "copies": {"a": {"path": "/a/app.db"}, "b": {"path": "/b/app.db"}},
    "retention": {"keep_fulls_min": 1},
    "source": {"wait_seconds_max": 1},
    "prepare": {"timeout_seconds": 5},
}


# A journal opens itself again; left open, those of the worlds of a long story are more files than a user may have.
_journals: list[Journal] = []


def _journal(path: Path, clock: FakeClock) -> Journal:
    made = Journal(path, now=clock.now)
    _journals.append(made)
    return made


class Elsewhere(Protocol):
    """Where archives lie that are in no directory, as a bucket."""

    def store(self, archive: str) -> ObjectStore | None:
        """The store of ``backups`` or of ``second``, opened anew; None: that one is in its directory."""
        ...


@dataclass
class World:
    """One database below ``root``; ``context()`` opens everything anew, as a new process would."""

    root: Path
    clock: FakeClock = field(default_factory=FakeClock)
    policy: dict[str, object] = field(default_factory=lambda: dict(POLICY))
    commands: list[list[str]] = field(default_factory=list)
    archive_free_bytes: int | None = 1 << 40
    provider: FakeProvider = field(default_factory=FakeProvider)
    state: str = "state"  # another one is another node: it shares the pair and the archive, and no lock
    elsewhere: Elsewhere | None = None

    def __post_init__(self) -> None:
        while _journals:
            _journals.pop().close()
        (self.root / "backups").mkdir(parents=True, exist_ok=True)
        (self.root / self.state / "orders").mkdir(parents=True, exist_ok=True)
        new = not (self.root / "pair").exists()
        self.writer = FakeWriter(self.root / "pair", self.clock)
        if new:
            (self.root / "pair").mkdir()
            self.writer.create()

    @property
    def backups(self) -> Path:
        """Where the archive is."""
        return self.root / "backups"

    @property
    def second(self) -> Path:
        """Where the second archive is, if the policy names one."""
        return self.root / "second"

    def context(self) -> RunContext:
        """What a run gets."""
        state_dir = self.root / self.state / "orders"
        context = RunContext(
            database="orders",
            policy=Policy.model_validate(self.policy),
            policy_path=self.root / "orders.toml",
            writer=self.writer,
            journal=_journal(self.root / self.state / "journal.db", self.clock),
            clock=self.clock,
            providers=[self.provider],
            choose_provider=lambda _: Choice(self.provider, ("it is a test",)),
            open_archive=self._opener(self.clock),
            probe_store=lambda: self.store(self.backups, make=True),
            open_store=lambda: self.store(self.backups),
            archive_free_bytes=lambda: self._free_bytes(self.backups),
            lease=lambda run: RunLease(state_dir / "run.lock", run=run, now=self.clock.now),
            run_command=self._run_command,
            read_policy_commit=lambda: "c" * 40,
            node="here",
            state_dir=state_dir,
        )
        policy = for_second_archive(context.policy)
        if policy is not None:
            context.second = replace(
                context,
                policy=policy,
                open_archive=self._opener(self.clock, self.second),
                probe_store=lambda: self.store(self.second, make=True),
                open_store=lambda: self.store(self.second),
                archive_free_bytes=lambda: self._free_bytes(self.second),
                first=context,
            )
        return context

    def with_second(self, archives_min: int = 1, **options: object) -> None:
        """From now on the policy names a second archive, at ``second``."""
        self.policy["second_archive"] = {"url": f"file://{self.second}", "archives_min": archives_min, **options}

    def store(self, archive: Path, *, make: bool = False) -> ObjectStore:
        """The store of one of the archives, opened anew; ``make`` prepares a new directory (a bucket must be there)."""
        found = self.elsewhere.store(archive.name) if self.elsewhere else None
        if found is not None:
            return found
        return LocalStore.prepare(archive) if make else LocalStore(archive)

    def _free_bytes(self, archive: Path) -> int | None:
        """Nobody knows how much a bucket will take."""
        in_bucket = self.elsewhere is not None and self.elsewhere.store(archive.name) is not None
        return None if in_bucket else self.archive_free_bytes

    def _opener(self, clock: Clock, place: Path | None = None) -> Callable[[str | None], DatabaseArchive]:
        def open_archive(identity: str | None) -> DatabaseArchive:
            store = self.store(place or self.backups)
            repository = Repository.open(store, clock) if identity is None else Repository.create(store, clock)
            return repository.database("orders", "fake", identity)

        return open_archive

    def _run_command(self, argv: Sequence[str], seconds_max: float) -> None:
        self.commands.append(list(argv))
