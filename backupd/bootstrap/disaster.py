"""The house when everything but the archive is lost: policies are made up from what the archive says of itself.

Nothing of it is kept: state lies in a private directory that goes at the end, and the archive is only read.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.archive.keys import KeySources, keys_from
from backupd.bootstrap import House, SystemClock
from backupd.bootstrap.archives import open_store
from backupd.errors import DamageFound, NotFound, ObjectMissing, UsageProblem

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive
    from backupd.archive.repository import DatabaseIdentity, Repository
    from backupd.policy.load import LoadedPolicy
    from backupd.policy.schema import Policy
    from backupd.ports import Clock, ReportProgress
    from backupd.runs.context import OpenArchive, RunContext


@dataclass(frozen=True, slots=True)
class Origin:
    """An archive as a person names it, and what no policy says any more.

    Args:
        place: ``s3://bucket/prefix``, ``file:///directory`` or a directory.
        endpoint_url: of a server that is not Amazon's; None: boto3's own variables.
        bin_directory: where PostgreSQL's programs are; None: they are looked for.
    """

    place: str
    endpoint_url: str | None = None
    bin_directory: Path | None = None


class ArchiveHouse(House):
    """A house whose databases are those of one archive; its runs read there and never write."""

    def __init__(self, repository: Repository, policies: dict[str, LoadedPolicy], state_dir: Path) -> None:
        from backupd.policy.alarms import AlarmOptions
        from backupd.policy.load import ServiceConfig
        from backupd.policy.service_file import ServiceOptions

        config = ServiceConfig(
            path=state_dir / "backupd.toml",
            state_dir=state_dir,
            policies_dir=state_dir,
            node=socket.gethostname(),
            options=ServiceOptions(),
            alarms=AlarmOptions(),
        )
        super().__init__(config, repository.clock, policies)
        self._repository = repository

    def loaded(self, database: str) -> LoadedPolicy:
        """The made up policy. Raises NotFound, naming what the archive holds."""
        if database in (known := self._policies or {}):
            return known[database]
        raise NotFound(
            f"{self._repository.store.describe()} holds nothing of the database {database}",
            because=f"it holds {', '.join(sorted(known)) or 'no database'}",
            next_step=f"name one of these: --database {min(known, default='NAME')}",
        )

    def context(self, database: str, report: ReportProgress | None = None) -> RunContext:
        """See ``House.context``; the run takes no lease and leaves nothing in the archive."""
        context = super().context(database, report)
        return replace(context, open_archive=self._opener(self.loaded(database).policy), reads_only=True)

    def _opener(self, policy: Policy) -> OpenArchive:
        def open_archive(_: str | None) -> DatabaseArchive:
            return self._repository.database(policy.database, policy.engine, None)

        return open_archive


@contextmanager
def archive_house(
    origin: Origin, sources: KeySources, database: str | None = None, *, clock: Clock | None = None
) -> Iterator[ArchiveHouse]:
    """The house of an archive that stands alone; what it kept on this host is removed at the end.

    Args:
        origin: the archive.
        sources: of private keys.
        database: the only one that is wanted; it may be written ``engine/name`` where two have one name.
        clock: this host's.

    Raises:
        UsageProblem: the archive's address is none.
        NotFound: nothing is there, or nothing of that database.
        DamageFound: the archive does not say what it is.
        ArchiveUnreachable: it cannot be read.
    """
    state_dir = Path(tempfile.mkdtemp(prefix="backupd-from-"))
    try:
        repository = _repository(origin, sources, clock or SystemClock())
        found = _identities(repository, database)
        house = ArchiveHouse(
            repository, {one.database: _policy(origin, repository, one, state_dir) for one in found}, state_dir
        )
        house.key_sources = sources
        try:
            yield house
        finally:
            house.close()
    finally:
        shutil.rmtree(state_dir, ignore_errors=True)


def _repository(origin: Origin, sources: KeySources, clock: Clock) -> Repository:
    from backupd.archive.read_only import ReadOnlyStore
    from backupd.archive.repository import Repository
    from backupd.policy.from_archive import made_up_policy

    nowhere = {name: Path(f"/nowhere/{name}") for name in ("a", "b")}
    # Only its words about the archive count here.
    policy = made_up_policy("any", "sqlite", origin.place, nowhere, endpoint_url=origin.endpoint_url)
    store = ReadOnlyStore(open_store(policy, make=False))
    try:
        return Repository.open(store, clock, keys_from((), None, sources))
    except ObjectMissing:
        raise
    except NotFound as nothing:
        raise NotFound(
            nothing.problem,
            because=nothing.because,
            next_step="name the place that holds repo.json: the `archive` of the lost policy, whole",
        ) from nothing


def _identities(repository: Repository, wanted: str | None) -> list[DatabaseIdentity]:
    """Whose backups are there. One that cannot be read is only an error when no other one was meant."""
    from backupd.archive.names import database_id
    from backupd.pipeline.container import damage
    from backupd.policy.sections import NAME

    engine, _, name = (wanted or "").rpartition("/")
    found: list[DatabaseIdentity] = []
    odd: list[DamageFound] = []
    for dbid in repository.database_ids():
        try:
            one = repository.identity_of(dbid)
            texts = isinstance(one.database, str) and isinstance(one.engine, str)
            if not texts or NAME.fullmatch(one.database) is None or one.engine not in ("sqlite", "postgres"):
                raise damage(f"db/{dbid}/identity.json", "it names no database that backupd knows")
            if database_id(one.database, one.engine) != dbid:
                raise damage(f"db/{dbid}/identity.json", f"it says that it is of {one.engine} {one.database}")
        except ObjectMissing:
            continue  # verify reports a prefix without an identity
        except DamageFound as problem:
            odd.append(problem)
            continue
        if wanted is None or (one.database == name and engine in ("", one.engine)):
            found.append(one)
    twice = {one.database for one in found if sum(one.database == other.database for other in found) > 1}
    if twice:
        raise UsageProblem(
            f"{repository.store.describe()} holds two databases named {min(twice)}",
            because="one is of the engine sqlite, the other of postgres",
            next_step=f"say which: --database sqlite/{min(twice)} or --database postgres/{min(twice)}",
        )
    if odd and not found:
        raise odd[0]
    if wanted is not None and not found:
        return _identities(repository, None)  # the house says what there is instead
    return found


def _policy(origin: Origin, repository: Repository, one: DatabaseIdentity, state_dir: Path) -> LoadedPolicy:
    from backupd.policy.from_archive import made_up_policy
    from backupd.policy.load import LoadedPolicy

    copies = {name: state_dir / "nowhere" / name for name in ("a", "b")}
    if one.engine == "sqlite":
        file = _file_name(repository, one)
        copies = {name: place / file for name, place in copies.items()}
    policy = made_up_policy(
        one.database,
        one.engine,
        origin.place,
        copies,
        endpoint_url=origin.endpoint_url,
        bin_directory=origin.bin_directory,
    )
    return LoadedPolicy(policy, state_dir / f"{one.database}.toml")


def _file_name(repository: Repository, one: DatabaseIdentity) -> str:
    """What the newest backup calls the file; records name plain files only."""
    listing = repository.database(one.database, one.engine, None).list()
    named = [backup.record for backup in listing.backups if backup.record.files]
    newest = max(named, key=lambda record: (record.started_at, record.id), default=None)
    return newest.files[0].path if newest is not None else "app.db"
