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


def archive_opener(policy: Policy, clock: Clock, sources: KeySources) -> OpenArchive:
    """What opens the archive that the policy names; see ``RunContext.open_archive``."""
    encryption = policy.encryption
    recipients = tuple(encryption.recipients) if encryption is not None else ()
    own_key = Path(encryption.key_file) if encryption is not None and encryption.key_file else None

    def open_archive(identity: str | None) -> DatabaseArchive:
        from backupd.archive.repository import Repository

        keys = keys_from(recipients, own_key, sources)
        store = open_store(policy.archive, make=identity is not None)
        if identity is None:
            return Repository.open(store, clock, keys).database(policy.database, policy.engine, None)
        repository = Repository.create(store, clock, keys)
        repository.keep_recipients(_protected_key(policy))
        return repository.database(policy.database, policy.engine, identity)

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
            probe_store=lambda: open_store(policy.archive, make=True),
            open_store=lambda: open_store(policy.archive, make=False),
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


def open_store(url: str, *, make: bool) -> ObjectStore:
    """The store that a policy's ``archive`` names; ``make`` prepares a new directory.

    Raises:
        ConfigInvalid: this version has no such store.
        ArchiveUnreachable: it is not there.
    """
    parts = urlsplit(url)
    if parts.scheme != "file":
        raise ConfigInvalid(
            f"the archive {url} cannot be used yet",
            because=f"this version keeps archives in local directories, not in {parts.scheme or 'nothing'}",
            next_step='write it like archive = "file:///backups" in the policy',
        )
    from backupd.archive.local import LocalStore

    root = Path(unquote(parts.path))
    return LocalStore.prepare(root) if make else LocalStore(root)


def free_bytes(url: str) -> int | None:
    """Free space of an archive in a directory; None when it cannot be told."""
    import shutil

    try:
        return shutil.disk_usage(unquote(urlsplit(url).path)).free
    except OSError:
        return None
