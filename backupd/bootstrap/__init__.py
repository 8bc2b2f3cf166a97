"""The fuse box: joins a policy to a real engine, real providers and a real archive. The only wiring."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.archive.keys import KeySources
from backupd.bootstrap.archives import archive_opener, free_bytes, open_store, with_second_archive
from backupd.bootstrap.engines import (
    commit_finder_for,
    provider_chooser,
    providers_for_policy,
    sqlite_writer,
    writer_for,
)

if TYPE_CHECKING:  # a command imports only what it uses, so that status and --help answer at once
    from backupd.engines.sqlite.supervisor import Supervisor
    from backupd.journal.journal import Journal
    from backupd.policy.load import LoadedPolicy, ServiceConfig
    from backupd.ports import Clock, ReportProgress
    from backupd.runs.context import RunContext


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
    """The service config of this node and what hangs on it; ``policies`` are those to go by, instead of the files'."""

    def __init__(self, config: ServiceConfig, clock: Clock, policies: dict[str, LoadedPolicy] | None = None) -> None:
        self.config = config
        self.clock = clock
        self._journal: Journal | None = None
        self._policies = policies
        self.key_sources = KeySources()

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

    def reload(self) -> tuple[str, ...]:
        """Read the policies anew; answers with the databases whose policy is another one now, come or gone.

        Raises:
            ConfigInvalid: one cannot be used; all stay as they were.
        """
        from backupd.policy.load import followed_anew, load_policies

        config = followed_anew(self.config)
        before, now = self._policies or {}, load_policies(config.policies_dir)
        self._policies, self.config = now, config
        return tuple(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))

    def policy_files(self) -> tuple[Path, ...]:
        """Every file that the policies were read from, those that they include too; to see that one has changed.

        Raises:
            ConfigInvalid: a policy cannot be used.
        """
        files = {file: None for name in self.databases() for file in self.loaded(name).files}
        return tuple(files)

    def context(self, database: str, report: ReportProgress | None = None) -> RunContext:
        """Everything that a run on one database needs.

        Raises:
            NotFound: no policy names it.
            ConfigInvalid: its policy cannot be used.
        """
        from backupd.runs.context import RunContext, silent

        loaded = self.loaded(database)
        policy, state_dir = loaded.policy, self.config.state_dir / database
        context = RunContext(
            database=database,
            policy=policy,
            policy_path=loaded.path,
            writer=writer_for(policy, state_dir, self.clock),
            journal=self.journal,
            clock=self.clock,
            providers=providers_for_policy(policy, state_dir),
            choose_provider=provider_chooser(policy, state_dir),
            open_archive=archive_opener(policy, self.clock, self.key_sources),
            probe_store=lambda: open_store(policy, make=True),
            open_store=lambda: open_store(policy, make=False, quick=True),
            archive_free_bytes=lambda: free_bytes(policy.archive),
            lease=self._lease(state_dir),
            run_command=_run_command,
            read_policy_commit=lambda: _policy_commit(loaded.files),
            node=self.config.node,
            state_dir=state_dir,
            report=report or silent,
            commit_finder=lambda: commit_finder_for(policy),
        )
        return with_second_archive(context, self.clock, self.key_sources)

    def replicators(self) -> tuple[Supervisor, ...]:
        """What the service keeps running: the replication of every pair that backupd itself replicates.

        Raises:
            ConfigInvalid: a policy cannot be used.
        """
        names = self.databases()
        policies = [self.loaded(name).policy for name in names]
        return tuple(
            sqlite_writer(policy, self.config.state_dir / policy.database, self.clock).replicator()
            for policy in policies
            if policy.engine == "sqlite"
        )

    def close(self) -> None:
        """Close what was opened."""
        if self._journal is not None:
            self._journal.close()

    def loaded(self, database: str) -> LoadedPolicy:
        """The policy of a database, and its file. Raises NotFound, ConfigInvalid."""
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


def _run_command(argv: Sequence[str], seconds_max: float) -> None:
    from backupd.engines.command import run_command

    run_command(argv, seconds_max)


def _policy_commit(files: Sequence[Path]) -> str | None:
    from backupd.policy.git import policy_commit

    return policy_commit(files[0], files[1:])
