"""Everything that a run may touch, handed to it by bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from backupd.errors import BackupdError, NotFound
from backupd.model.records import Progress
from backupd.ports import Clock, CommitFinder, ObjectStore, ReportProgress, SnapshotProvider, Writer

if TYPE_CHECKING:
    from backupd.archive.database import DatabaseArchive
    from backupd.journal.journal import Journal
    from backupd.pipeline.page_maps import PageMaps
    from backupd.policy.schema import Policy
    from backupd.runs.one_run import OneRun


def silent(progress: Progress) -> None:
    """Report progress to nobody."""


def _no_finder() -> CommitFinder:
    raise NotFound(
        "the commits of this database cannot be looked at",
        because="nobody here reads its engine's log files",
        next_step="restore to a time or a position: backupctl restore DATABASE --at TIME --target DIR",
    )


class ProviderChoice(Protocol):
    """The provider that suits a directory, and why it and not another."""

    @property
    def provider(self) -> SnapshotProvider:
        """The one that was chosen."""
        ...

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for each provider that was looked at."""
        ...


class OpenArchive(Protocol):
    """Opens the database's part of the archive."""

    def __call__(self, identity: str | None, /) -> DatabaseArchive:
        """With an identity it is made when there is none, and refused when it is another database's.

        Raises:
            ArchiveUnreachable: it cannot be read now.
            NotFound: there is none, and no identity was given.
            Refused: it belongs to another database.
        """
        ...


class RunCommand(Protocol):
    """Runs one of the policy's commands."""

    def __call__(self, argv: Sequence[str], seconds_max: float, /) -> None:
        """Run it to its end. Raises NotHealthy when it fails or takes longer than ``seconds_max``."""
        ...


@dataclass(slots=True)
class RunContext:
    """One database with its policy and all the hands that a run needs.

    Attributes:
        database: the name that the policy gives it.
        policy: the policy, validated.
        policy_path: the file it came from.
        writer: speaks for the engine.
        journal: the diary of runs and holds.
        clock: the only source of time.
        providers: every snapshot provider, for clearing leftovers.
        choose_provider: tries out which provider suits a directory.
        open_archive: opens the archive; called at most once for each way of opening.
        probe_store: tries out whether the archive's store can be written once; raises ArchiveUnreachable.
        open_store: opens the archive's store without its records, for a quick look; raises ArchiveUnreachable.
        archive_free_bytes: free space where the archive is; None when that has no bound that is known.
        lease: makes this host's part of the lease that allows one run at a time (one_run.py has the rest).
        run_command: runs the policy's stop and start commands.
        read_policy_commit: asks git for the policy's commit.
        report: is told about progress.
        node: the name of this host.
        state_dir: this database's directory of local state.
        second: the same database with the policy's second archive as its archive; None when it names none.
        first: in such a second one, the context that it belongs to.
        reads_only: nothing may be written to the archive, no lease and no verdict either.
        run: the run that holds the lease now.
        commit_finder: what looks into this engine's log files.
    """

    database: str
    policy: Policy
    policy_path: Path
    writer: Writer
    journal: Journal
    clock: Clock
    providers: Sequence[SnapshotProvider]
    choose_provider: Callable[[Path], ProviderChoice]
    open_archive: OpenArchive
    probe_store: Callable[[], ObjectStore]
    open_store: Callable[[], ObjectStore]
    archive_free_bytes: Callable[[], int | None]
    lease: Callable[[str], AbstractContextManager[object]]
    run_command: RunCommand
    read_policy_commit: Callable[[], str | None]
    node: str
    state_dir: Path
    report: ReportProgress = silent
    commit_finder: Callable[[], CommitFinder] = field(default=_no_finder, repr=False)
    second: RunContext | None = field(default=None, repr=False)
    first: RunContext | None = field(default=None, repr=False)
    reads_only: bool = False
    run: OneRun | None = field(default=None, repr=False)
    _reading: DatabaseArchive | None = field(default=None, repr=False)
    _writing: DatabaseArchive | None = field(default=None, repr=False)

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self.writer.engine

    def archive(self, *, create: bool = False) -> DatabaseArchive:
        """The database's archive, opened once; ``create`` binds it to this pair when it is new.

        Raises:
            ArchiveUnreachable: it cannot be read now.
            NotFound: nothing was ever backed up there (only without ``create``).
            Refused: it is the archive of another database (only with ``create``).
            Busy: a run on another host holds the lease of the database (only inside of a run).
        """
        opened = self._opened(create=create)
        if self.run is not None:
            self.run.cover(opened, writes=create)
        return opened

    def _opened(self, *, create: bool) -> DatabaseArchive:
        if create:
            if self._writing is None:
                self._writing = self.open_archive(self.writer.identity())
            return self._writing
        if self._writing is not None:
            return self._writing
        if self._reading is None:
            self._reading = self.open_archive(None)
        return self._reading

    def refuse_another_pairs_archive(self) -> None:
        """Refuse an archive with the backups of another pair, before a lease is taken or anything is mended in it.

        What cannot be known now is no reason: no archive yet, a pair that does not answer.

        Raises:
            Refused: it is another pair's.
        """
        try:
            archive, identity = self._opened(create=False), self.writer.identity()
        except BackupdError:
            return
        archive.refuse_another_pair(identity)

    @property
    def page_maps(self) -> PageMaps:
        """The page maps of the last fulls that were taken on this host."""
        from backupd.pipeline.page_maps import PageMaps

        return PageMaps(self.state_dir / "page-maps")

    def still_ours(self) -> None:
        """Ask the archive whether the run's lease is still held, where it has one. Raises Busy, ArchiveUnreachable."""
        if self.run is not None and self.run.lease is not None:
            self.run.lease.check()

    def raise_if_lost(self) -> None:
        """As ``still_ours``, from what the last renewal found; asks nobody. Raises Busy."""
        if self.run is not None and self.run.lease is not None:
            self.run.lease.raise_if_lost()

    def forget_lease(self) -> None:
        """The run is over: what is opened is not covered any more."""
        for opened in (self._reading, self._writing):
            if opened is not None:
                opened.lease = None

    def tell(self, what: str, done_bytes: int = 0, total_bytes: int = 0, **facts: str) -> None:
        """Report one moment of progress."""
        self.report(Progress(what, done_bytes, total_bytes, facts))
