"""Wires a policy to the engine and the snapshot providers that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command imports only what it uses, so that status and --help answer at once
    from backupd.engines.postgres.cluster import PgCopy, PgOptions
    from backupd.engines.sqlite.writer import SqliteWriter
    from backupd.policy.schema import Policy
    from backupd.ports import Clock, CommitFinder, SnapshotProvider, Writer
    from backupd.providers.choose import Choice
    from backupd.providers.command import SnapshotCommands


def writer_for(policy: Policy, state_dir: Path, clock: Clock) -> Writer:
    """The writer of the engine that the policy names."""
    if policy.engine == "postgres":
        return _postgres_writer(policy, state_dir, clock)
    return sqlite_writer(policy, state_dir, clock)


def commit_finder_for(policy: Policy) -> CommitFinder:
    """What looks into the log files of the engine that the policy names."""
    if policy.engine == "postgres":
        from backupd.engines.postgres.commit_finder import PgCommitFinder

        return PgCommitFinder(_postgres_copies(policy).values(), _postgres_options(policy))
    from backupd.engines.sqlite.commit_finder import SqliteCommitFinder

    return SqliteCommitFinder()


def _postgres_copies(policy: Policy) -> dict[str, PgCopy]:
    from backupd.engines.postgres.cluster import PgCopy

    return {
        name: PgCopy(name, place.conninfo or "", Path(place.data_directory or ""))
        for name, place in policy.copies.items()
    }


def _postgres_options(policy: Policy) -> PgOptions:
    from backupd.engines.postgres.cluster import PgOptions

    options, source = policy.postgres, policy.source
    return PgOptions(
        stamp_database=options.stamp_database,
        slot=options.slot,
        bin_directory=Path(options.bin_directory) if options.bin_directory is not None else None,
        lag_bytes_max=source.lag_bytes_max,
        lag_seconds_max=source.lag_seconds_max,
        allow_remote_apply=options.allow_remote_apply,
        seed=options.seed,
        server_seconds_max=options.server_seconds_max,
    )


def _postgres_writer(policy: Policy, state_dir: Path, clock: Clock) -> Writer:
    from backupd.engines.postgres.writer import PostgresWriter

    return PostgresWriter(
        database=policy.database,
        copies=_postgres_copies(policy),
        options=_postgres_options(policy),
        state_dir=state_dir,
        clock=clock,
        integrity=policy.restore.check,
        started_by_policy=bool(policy.restore.start_command),
    )


def sqlite_writer(policy: Policy, state_dir: Path, clock: Clock) -> SqliteWriter:
    """The writer of SQLite, which also keeps the replication."""
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


def providers_for_policy(policy: Policy, state_dir: Path) -> tuple[SnapshotProvider, ...]:
    """All that may have left something, also under an earlier policy."""
    from backupd.providers.choose import all_providers

    return all_providers(policy.engine, _snapshot_commands(policy), state_dir)


def provider_chooser(policy: Policy, state_dir: Path) -> Callable[[Path], Choice]:
    """What finds the best provider for a directory that the policy allows."""

    def choose(directory: Path) -> Choice:
        from backupd.providers.choose import choose_provider, providers_for

        allowed = providers_for(policy.backup.provider, policy.engine, _snapshot_commands(policy), state_dir)
        return choose_provider(allowed, directory)

    return choose
