"""Wires a policy to the store of its archive and to the keys that its backups are encrypted with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from backupd.archive.keys import KeySources, keys_from
from backupd.errors import ConfigInvalid

if TYPE_CHECKING:  # a command imports only what it uses, so that status and --help answer at once
    from backupd.archive.database import DatabaseArchive
    from backupd.policy.schema import Policy
    from backupd.ports import Clock, ObjectStore
    from backupd.runs.context import OpenArchive, RunContext


_QUICK_SECONDS = 10.0


def archive_opener(policy: Policy, clock: Clock, sources: KeySources) -> OpenArchive:
    """What opens the archive that the policy names; see ``RunContext.open_archive``."""
    encryption = policy.encryption
    recipients = tuple(encryption.recipients) if encryption is not None else ()
    own_key = Path(encryption.key_file) if encryption is not None and encryption.key_file else None

    def open_archive(identity: str | None) -> DatabaseArchive:
        from backupd.archive.repository import Repository

        keys = keys_from(recipients, own_key, sources)
        store = open_store(policy, make=identity is not None)
        if identity is None:
            repository = Repository.open(store, clock, keys)
        else:
            repository = Repository.create(store, clock, keys)
            repository.keep_recipients(_protected_key(policy))
        archive = repository.database(policy.database, policy.engine, identity)
        archive.lock_days = policy.s3.object_lock_days
        return archive

    return open_archive


def with_second_archive(context: RunContext, clock: Clock, sources: KeySources) -> RunContext:
    """The context, with another one beside it that has the policy's second archive for its archive."""
    from backupd.policy.second_archive import for_second_archive

    policy = for_second_archive(context.policy)
    if policy is not None:
        context.second = replace(
            context,
            policy=policy,
            open_archive=archive_opener(policy, clock, sources),
            probe_store=lambda: open_store(policy, make=True),
            open_store=lambda: open_store(policy, make=False, quick=True),
            archive_free_bytes=lambda: free_bytes(policy.archive),
            first=context,
        )
    return context


def _protected_key(policy: Policy) -> bytes | None:
    """The policy's key under its passphrase. Raises ConfigInvalid."""
    path = policy.encryption.protected_key if policy.encryption is not None else None
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as problem:
        raise ConfigInvalid(
            f"cannot read the protected key {path}",
            because=problem.strerror or str(problem),
            next_step="put the file that backupctl init wrote back, or correct encryption.protected_key in the policy",
        ) from problem


def open_store(policy: Policy, *, make: bool, quick: bool = False) -> ObjectStore:
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
        words["deadline_seconds"] = min(words["deadline_seconds"], _QUICK_SECONDS)
    return S3Store(S3Place(bucket, prefix, **words))


def free_bytes(url: str) -> int | None:
    """Free space of an archive in a directory; None when it cannot be told, as of a bucket."""
    import shutil

    if not url.startswith("file:"):
        return None
    try:
        return shutil.disk_usage(unquote(urlsplit(url).path)).free
    except OSError:
        return None
