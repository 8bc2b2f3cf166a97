"""The fuse box: joins a policy to a real engine, real providers and a real archive. The only wiring."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from backupd.errors import ConfigInvalid

if TYPE_CHECKING:  # a command imports only what it uses, so that status and --help answer at once
    from backupd.archive.database import DatabaseArchive
    from backupd.engines.sqlite.supervisor import Supervisor
    from backupd.engines.sqlite.writer import SqliteWriter
    from backupd.journal.journal import Journal
    from backupd.policy.load import LoadedPolicy, ServiceConfig
    from backupd.policy.schema import Policy
    from backupd.ports import Clock, ObjectStore, ReportProgress, SnapshotProvider, Writer
    from backupd.providers.choose import Choice
    from backupd.providers.command import SnapshotCommands
    from backupd.runs.context import OpenArchive, RunContext


_QUICK_SECONDS = 10.0


class SystemClock:
    """The clock of this host."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class House:
    """The service config of this node and what hangs on it."""

    def __init__(self, config: ServiceConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self._journal: Journal | None = None
        self._policies: dict[str, LoadedPolicy] | None = None

    @property
    def journal(self) -> Journal:
        """The journal of all runs on this node; opened when first asked for."""
        if self._journal is None:
            from backupd.journal.journal import Journal

            self._journal = Journal(self.config.state_dir / "journal.db", now=self.clock.now)
        return self._journal

    def databases(self) -> tuple[str, ...]:
        """The databases that the policies name, sorted.

        Raises:
            ConfigInvalid: a policy cannot be used; all problems are told at once.
        """
        if self._policies is None:
            from backupd.policy.load import load_policies

            self._policies = load_policies(self.config.policies_dir)
        return tuple(sorted(self._policies))

    def context(self, database: str, report: ReportProgress | None = None) -> RunContext:
        """Everything that a run on one database needs.

        Raises:
            NotFound: no policy names it.
            ConfigInvalid: its policy cannot be used.
        """
        from backupd.runs.context import RunContext, silent

        loaded = self._loaded(database)
        policy, state_dir = loaded.policy, self.config.state_dir / database
        return RunContext(
            database=database,
            policy=policy,
            policy_path=loaded.path,
            writer=_writer(policy, state_dir, self.clock),
            journal=self.journal,
            clock=self.clock,
            providers=_providers(policy, state_dir),
            choose_provider=_chooser(policy, state_dir),
            open_archive=_archive_opener(policy, self.clock),
            probe_store=lambda: _store(policy, make=True),
            open_store=lambda: _store(policy, make=False, quick=True),
            archive_free_bytes=lambda: _free_bytes(policy.archive),
            lease=self._lease(state_dir),
            run_command=_run_command,
            read_policy_commit=lambda: _policy_commit(loaded.path),
            node=self.config.node,
            state_dir=state_dir,
            report=report or silent,
        )

    def replicators(self) -> tuple[Supervisor, ...]:
        """What the service keeps running: the replication of every pair that backupd itself replicates.

        Raises:
            ConfigInvalid: a policy cannot be used.
        """
        names = self.databases()
        policies = [self._loaded(name).policy for name in names]
        return tuple(
            _sqlite_writer(policy, self.config.state_dir / policy.database, self.clock).replicator()
            for policy in policies
            if policy.engine == "sqlite"
        )

    def close(self) -> None:
        """Close what was opened."""
        if self._journal is not None:
            self._journal.close()

    def _loaded(self, database: str) -> LoadedPolicy:
        if self._policies is not None and database in self._policies:
            return self._policies[database]
        from backupd.policy.load import load_policy_of

        return load_policy_of(self.config, database)

    def _lease(self, state_dir: Path) -> Callable[[str], AbstractContextManager[object]]:
        def lease(run: str) -> AbstractContextManager[object]:
            from backupd.journal.lease import RunLease

            return RunLease(state_dir / "run.lock", run=run, now=self.clock.now)

        return lease


def open_house(config_path: Path, *, clock: Clock | None = None) -> House:
    """Read the service config.

    Raises:
        ConfigInvalid: it cannot be read or is wrong.
    """
    from backupd.policy.load import load_service_config

    return House(load_service_config(config_path), clock or SystemClock())


def _writer(policy: Policy, state_dir: Path, clock: Clock) -> Writer:
    if policy.engine == "postgres":
        return _postgres_writer(policy, state_dir, clock)
    return _sqlite_writer(policy, state_dir, clock)


def _postgres_writer(policy: Policy, state_dir: Path, clock: Clock) -> Writer:
    from backupd.engines.postgres.cluster import PgCopy, PgOptions
    from backupd.engines.postgres.writer import PostgresWriter

    options, source = policy.postgres, policy.source
    return PostgresWriter(
        database=policy.database,
        copies={
            name: PgCopy(name, place.conninfo or "", Path(place.data_directory or ""))
            for name, place in policy.copies.items()
        },
        options=PgOptions(
            stamp_database=options.stamp_database,
            slot=options.slot,
            bin_directory=Path(options.bin_directory) if options.bin_directory is not None else None,
            lag_bytes_max=source.lag_bytes_max,
            lag_seconds_max=source.lag_seconds_max,
            allow_remote_apply=options.allow_remote_apply,
            seed=options.seed,
            server_seconds_max=options.server_seconds_max,
        ),
        state_dir=state_dir,
        clock=clock,
        integrity=policy.restore.check,
        started_by_policy=bool(policy.restore.start_command),
    )


def _sqlite_writer(policy: Policy, state_dir: Path, clock: Clock) -> SqliteWriter:
    from backupd.engines.sqlite.writer import SqliteWriter

    return SqliteWriter(
        database=policy.database,
        copies={name: Path(place.place) for name, place in policy.copies.items()},
        first_active=policy.sqlite.first_active or next(iter(policy.copies)),
        state_dir=state_dir,
        options=policy.sqlite.model_dump(exclude={"first_active"}),
        clock=clock,
    )


def _snapshot_commands(policy: Policy) -> SnapshotCommands | None:
    from backupd.providers.command import SnapshotCommands

    own = policy.snapshot_command
    if own is None:
        return None
    return SnapshotCommands(tuple(own.take), tuple(own.release), own.seconds_max, own.atomic)


def _providers(policy: Policy, state_dir: Path) -> tuple[SnapshotProvider, ...]:
    """All that may have left something, also under an earlier policy."""
    from backupd.providers.choose import all_providers

    return all_providers(policy.engine, _snapshot_commands(policy), state_dir)


def _chooser(policy: Policy, state_dir: Path) -> Callable[[Path], Choice]:
    def choose(directory: Path) -> Choice:
        from backupd.providers.choose import choose_provider, providers_for

        allowed = providers_for(policy.backup.provider, policy.engine, _snapshot_commands(policy), state_dir)
        return choose_provider(allowed, directory)

    return choose


def _archive_opener(policy: Policy, clock: Clock) -> OpenArchive:
    def open_archive(identity: str | None) -> DatabaseArchive:
        from backupd.archive.repository import Repository

        store = _store(policy, make=identity is not None)
        repository = Repository.open(store, clock) if identity is None else Repository.create(store, clock)
        archive = repository.database(policy.database, policy.engine, identity)
        archive.lock_days = policy.s3.object_lock_days
        return archive

    return open_archive


def _store(policy: Policy, *, make: bool, quick: bool = False) -> ObjectStore:
    """The store that a policy's ``archive`` names; ``make`` prepares a new directory (a bucket must be there).

    ``quick`` is for somebody who waits at a terminal: a network that does not answer is given up soon.

    Raises:
        ConfigInvalid: boto3 is not installed.
        ArchiveUnreachable: it is not there.
    """
    parts = urlsplit(policy.archive)
    if parts.scheme == "s3":
        return _s3_store(policy, quick=quick)
    from backupd.archive.local import LocalStore

    root = Path(unquote(parts.path))
    return LocalStore.prepare(root) if make else LocalStore(root)


def _s3_store(policy: Policy, *, quick: bool) -> ObjectStore:
    from backupd.policy.s3 import split_s3

    try:
        from backupd.archive.s3.place import S3Place
        from backupd.archive.s3.store import S3Store
    except ModuleNotFoundError as missing:
        raise ConfigInvalid(
            f"the archive {policy.archive} needs boto3",
            because=f"{missing.name} is not installed here",
            next_step="pip install 'backupd[s3]'",
        ) from missing
    bucket, prefix = split_s3(policy.archive)
    words = policy.s3.model_dump(exclude={"object_lock_days"})
    if quick:
        words["deadline_seconds"] = min(_QUICK_SECONDS, policy.s3.deadline_seconds)
    return S3Store(S3Place(bucket, prefix, **words))


def _free_bytes(url: str) -> int | None:
    """Free space of an archive in a directory; None when it cannot be told, as of a bucket."""
    import shutil

    if not url.startswith("file:"):
        return None
    try:
        return shutil.disk_usage(unquote(urlsplit(url).path)).free
    except OSError:
        return None


def _run_command(argv: Sequence[str], seconds_max: float) -> None:
    from backupd.engines.command import run_command

    run_command(argv, seconds_max)


def _policy_commit(path: Path) -> str | None:
    from backupd.policy.git import policy_commit

    return policy_commit(path)
